// The bodies of a request and of its answer, where the hub keeps them.

import { ask, byId, count, fieldOf, flash, setOptional, setText } from "./page.js";

let isOn = false;

/** Takes in whether the hub keeps them; true if that is news. */
export function noteCapture(snapshot) {
  const wasOn = isOn;
  isOn = snapshot.capture === true;
  return isOn !== wasOn;
}

/** Offers them in the row of a request that may have a body. */
export function offerBodies(row, { id, method }) {
  const button = fieldOf(row)("bodies");
  button.hidden = !isOn || method === "GET" || method === "HEAD";
  button.setAttribute("aria-label", `Texts of the request ${id}`);
  button.onclick = () => show(id);
}

async function show(id) {
  try {
    const { request, answer, status } = await ask(`/hub/requests/${encodeURIComponent(id)}/capture`);
    setText(byId("capture-title"), `Request ${id}`);
    fill("request", request, "");
    fill("answer", answer, status === null ? "not begun" : `${status}`);
    byId("capture").showModal();
  } catch (error) {
    flash("error", error.message);
  }
}

function fill(part, body, status) {
  const kinds = [status, body.content_type, body.bytes ? count(body.bytes, "byte") : "no body"];
  setText(byId(`capture-${part}-kind`), kinds.filter(Boolean).join(", "));
  byId(`capture-${part}`).hidden = !body.text;
  setText(byId(`capture-${part}`), pretty(body.text));
  setOptional(byId(`capture-${part}-cut`), body.cut);
}

/** JSON with its lines indented; any other text as it is. */
function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
