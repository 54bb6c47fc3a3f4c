// What all views of the page share: its elements, its messages, and how it talks to the hub.
// Text from the configuration, from logs and from models only ever becomes textContent, so none of it can be markup.

const TOAST_MS = 4000;
const FLASH_MS = 8000;
/** For a failure that no later state can show as mended. */
const FAILURE_MS = 30000;

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

/**
 * One node for each item, in their order. A node stays with its item's key, and where nothing changes it is not touched:
 * what is in focus, selected or open stays so.
 */
export function showList(box, items, keyOf, make, fill = () => {}) {
  const there = new Map([...box.children].map((node) => [node.dataset.key, node]));
  const nodes = items.map((item) => {
    const key = String(keyOf(item));
    const node = there.get(key) ?? make(item);
    there.delete(key);
    node.dataset.key = key;
    fill(node, item);
    return node;
  });
  const staying = new Set(nodes);
  for (const node of [...box.children]) if (!staying.has(node)) node.remove();
  nodes.forEach((node, index) => box.children[index] === node || box.insertBefore(node, box.children[index] ?? null));
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
  const error = new Error(answer?.error?.message ?? `The hub answered ${response.status}.`);
  error.status = response.status;
  throw error;
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
let flashIsOver = null;

/**
 * Shows a banner until `isOver(snapshot)`, which says that its cause is gone; without that, for a while. Returns what
 * takes it away, if no other has taken its place.
 */
export function flash(kind, text, isOver = null) {
  const banner = byId("flash");
  clearTimeout(flashTimer);
  flashIsOver = isOver;
  banner.dataset.kind = kind;
  setOptional(banner, text);
  if (!isOver) flashTimer = setTimeout(clearFlash, kind === "ok" ? FLASH_MS : FAILURE_MS);
  return () => flashIsOver === isOver && clearFlash();
}

export function clearFlash() {
  flashIsOver = null;
  setOptional(byId("flash"), null);
}

/** Takes the banner away if its cause is gone. */
export const settleFlash = (snapshot) => flashIsOver?.(snapshot) && clearFlash();

byId("flash-close")?.addEventListener("click", () => {
  clearFlash();
  document.querySelector("[role=tab][aria-selected=true]").focus({ preventScroll: true });
});

/** An error's words without the end of a log: that is in the row of the model. */
export const firstLine = (text) => text.split("\n", 1)[0];

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

// What one is about to click stays where it is

/** True after a mouse has been moved: what a finger has touched stays `:hover` until the next touch. */
let hasMouse = false;
addEventListener("pointerover", ({ pointerType }) => (hasMouse = pointerType === "mouse"), { passive: true });

export const isAimedAt = (node) => hasMouse && node.matches(":hover");

const CONTROLS = ":is(a, button, summary, select, label)";
const topOf = (node) => node.getBoundingClientRect().top;

/** When a change moved each control: nobody can tell where a finger is going. */
const movedAt = new WeakMap();
/** Nobody takes aim anew in less. */
const AIM_MS = 400;

function noting(change) {
  const before = new Map([...document.querySelectorAll(CONTROLS)].map((node) => [node, topOf(node)]));
  change();
  const now = performance.now();
  for (const [node, top] of before) if (Math.abs(topOf(node) - top) > 4) movedAt.set(node, now);
}

// A tap on what has just come under the finger is not meant. A key and a screen reader click without a place.
addEventListener(
  "click",
  (event) => {
    const control = event.target.closest?.(CONTROLS);
    if (hasMouse || !event.detail || !(performance.now() - movedAt.get(control) < AIM_MS)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
  },
  true,
);

/**
 * Makes a change. What the mouse is over keeps its place, as the page is scrolled by as much as it would move; a finger
 * that comes too late for what has moved does nothing.
 */
export function steadily(change) {
  if (!hasMouse) return noting(change);
  const aimed = document.querySelector(`${CONTROLS}:hover`);
  const before = aimed && topOf(aimed);
  const { style } = document.body;
  if (!aimed && style.minHeight) style.minHeight = "";
  change();
  const by = aimed && aimed.isConnected && aimed.checkVisibility() ? topOf(aimed) - before : 0;
  if (Math.abs(by) < 0.5) return;
  const { scrollHeight, clientHeight } = document.documentElement;
  if (scrollY + by + clientHeight > scrollHeight) style.minHeight = `${scrollY + by + clientHeight}px`;
  scrollBy(0, by);
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

/** Lines about the policies of a reload, for the end of its message. */
export function policyLines({ changed = [], settings = [], refused = [] } = {}) {
  const lines = refused.map((problem) => `The policies were not reloaded, the old ones stay. ${problem}`);
  if (changed.length) lines.push(`Changed policies: ${list(changed)}`);
  if (settings.length) lines.push(`Changed settings of policies: ${list(settings)}`);
  return lines.map((line) => `\n${line}`).join("");
}

export const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;
