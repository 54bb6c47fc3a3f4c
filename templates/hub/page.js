// What all views of the page share: its elements, its messages, and how it talks to the hub.
// Text from the configuration, from logs and from models only ever becomes textContent, so none of it can be markup.

const TOAST_MS = 4000;
const FLASH_MS = 8000;

export const byId = (id) => document.getElementById(id);

// Touches the page only where something changed, so that a selection or a focus survives.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setOptional(node, text) {
  node.hidden = !text;
  setText(node, text ?? "");
}

export const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

export const fieldOf = (node) => (name) => node.querySelector(`[data-field="${name}"]`);

export function element(tag, text, className = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}

/** Offers these values in a list, after the first one, and keeps the choice if it is still there. */
export function setChoices(select, names, keep = 1) {
  const there = [...select.options].slice(keep).map((option) => option.value);
  if (there.join("\n") === names.join("\n")) return;
  const chosen = select.value;
  const options = names.map((name) => new Option(name, name));
  select.replaceChildren(...[...select.options].slice(0, keep), ...options);
  select.value = names.includes(chosen) ? chosen : select.options[0]?.value ?? "";
}

// Talking to the hub

/** The answer to a request; an error has the hub's own words. */
export async function fetched(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new Error("The hub cannot be reached.", { cause });
  }
  if (response.ok) return response;
  // The session is over: the hub answers with the page of the login.
  if (response.status === 401) location.reload();
  const answer = await response.json().catch(() => null);
  throw new Error(answer?.error?.message ?? `The hub answered ${response.status}.`);
}

export async function ask(path, options) {
  const response = await fetched(path, options);
  return response.json().catch(() => {
    throw new Error(`The hub answered ${response.status}.`);
  });
}

export const json = (body) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
});

export const post = (path) => ask(path, json({ reason: "dashboard" }));

// Banners, toasts and questions

let flashTimer;

export function flash(kind, text) {
  const banner = byId("flash");
  clearTimeout(flashTimer);
  banner.dataset.kind = kind;
  setOptional(banner, text);
  if (kind === "ok") flashTimer = setTimeout(clearFlash, FLASH_MS);
}

export const clearFlash = () => setOptional(byId("flash"), null);

export function toast(text) {
  const node = element("p", text, "toast");
  byId("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}

/** Asks before something that is not easily undone; resolves to true if it is wanted. */
export function confirmed(title, text, yes, no = "Cancel") {
  const dialog = byId("ask");
  setText(byId("ask-title"), title);
  setText(byId("ask-text"), text);
  setText(byId("ask-yes"), yes);
  setText(byId("ask-no"), no);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
}

/** A button that was disabled while it worked has lost the focus; nothing else has it. */
export function keepFocus(button) {
  if (document.activeElement === document.body) button.focus({ preventScroll: true });
}

// Words for figures

export const timeOf = (seconds) => new Date(seconds * 1000);

/** Powers of two, as Activity Monitor counts. */
export function bytes(count) {
  const gigabytes = count / 2 ** 30;
  return gigabytes < 1 ? `${Math.round(gigabytes * 1024)} MB` : `${gigabytes.toFixed(1)} GB`;
}

export function duration(seconds) {
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export const list = (names) => names.join(", ") || "none";

export const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
