// The login and the logout of a hub that has keys. The key goes to the hub once; from then on a cookie stands for it,
// which no script can read.

const form = document.getElementById("login");

function refuse(text) {
  const banner = document.getElementById("refused");
  banner.textContent = text;
  banner.hidden = !text;
}

async function logIn(event) {
  event.preventDefault();
  const field = form.elements.key;
  const button = form.querySelector("button");
  button.disabled = true;
  refuse("");
  try {
    const answer = await fetch("/hub/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ key: field.value }),
    });
    if (answer.ok) {
      location.reload();
      return;
    }
    const told = await answer.json().catch(() => null);
    refuse(told?.error?.message ?? `The hub answered ${answer.status}.`);
  } catch {
    refuse("The hub cannot be reached.");
  }
  button.disabled = false;
  field.select();
}

async function logOut() {
  await fetch("/hub/logout", { method: "POST" }).catch(() => null);
  location.reload();
}

form?.addEventListener("submit", logIn);
document.getElementById("logout")?.addEventListener("click", logOut);
