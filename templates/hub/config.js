// hub.yaml in an editor: read, checked while it is written, reviewed, saved. Loaded when its view is opened for the
// first time.

import { ask, byId, confirmed, count, element, fetched, flash, list, policyLines, setOptional, setText } from "./page.js";
import { goTo, mark, useSchema } from "./editor.js";

const CHECK_MS = 400;

const style = document.createElement("link");
style.rel = "stylesheet";
style.href = "/hub/assets/config.css";
document.head.append(style);

const text = byId("config-text");
const dialog = byId("review");

/** The file as it was read; `text` is as the browser has it. */
let file = null;
let lineEnd = "\n";
let isOpened = false;
let timer;
let checking;

export function showConfig() {
  if (isOpened) return;
  isOpened = true;
  read();
}

const isEdited = () => file !== null && text.value !== file.text;
const written = () => text.value.replaceAll("\n", lineEnd);
const say = (words) => setText(byId("config-state"), words);
const complain = (words) => setOptional(byId("config-error"), words);

async function read() {
  complain(null);
  say("reading…");
  try {
    const [now, schema] = await Promise.all([ask("/hub/config"), ask("/hub/config/schema")]);
    useSchema(schema);
    // A browser ends all lines alike.
    lineEnd = now.text.includes("\r\n") ? "\r\n" : "\n";
    text.value = now.text;
    file = { ...now, text: text.value };
    setText(byId("config-path"), now.path);
    text.disabled = false;
    say("");
    await check();
  } catch (error) {
    text.disabled = file === null;
    say("");
    complain(error.message);
  }
}

/** The hub's judgement of the text; null if a later one is under way. */
async function judged() {
  checking?.abort();
  const mine = new AbortController();
  checking = mine;
  const body = { method: "POST", headers: { "Content-Type": "application/yaml" }, body: written(), signal: mine.signal };
  try {
    const result = await ask("/hub/config/check", body);
    if (checking !== mine) return null;
    showFindings(result);
    return result;
  } catch (error) {
    if (error.name === "AbortError") return null;
    throw error;
  }
}

async function check() {
  try {
    await judged();
  } catch (error) {
    complain(error.message);
  }
}

/** A finding with a button that leads to its place. */
function itemOf({ line, column, length, message, hint }, isMistake) {
  const item = element("li", "");
  item.dataset.bad = String(isMistake);
  if (line) {
    const button = element("button", `Line ${line}, column ${column}`, "quiet");
    button.type = "button";
    button.addEventListener("click", () => goTo(line, column, length));
    item.append(button, " ");
  }
  item.append(element("span", message));
  if (hint) item.append(element("span", ` ${hint}`, "detail"));
  return item;
}

function showFindings({ findings, warnings }) {
  mark(findings, warnings);
  const items = [...findings.map((finding) => itemOf(finding, true)), ...warnings.map((warning) => itemOf(warning, false))];
  byId("config-findings").replaceChildren(...items);
  const mistakes = findings.length ? count(findings.length, "mistake") : "no mistakes";
  setText(byId("config-count"), warnings.length ? `${mistakes}, ${count(warnings.length, "warning")}` : mistakes);
}

function showReview({ warnings, restarts, difference }) {
  setText(byId("review-text"), restarts.length ? `Started anew: ${list(restarts)}.` : "No model that is started will be started anew.");
  byId("review-warnings").replaceChildren(...warnings.map(({ message }) => element("li", message)));
  const marks = { same: " ", added: "+", removed: "-" };
  let last = 0;
  const lines = difference.flatMap(({ kind, before, after, text: line }) => {
    const isGap = before !== null && before > last + 1;
    last = before ?? last;
    const node = element("div", `${String(before ?? "").padStart(4)} ${String(after ?? "").padStart(4)} ${marks[kind]} ${line}`);
    node.dataset.kind = kind;
    return isGap ? [element("div", `line ${before}`, "gap"), node] : [node];
  });
  byId("review-difference").replaceChildren(...lines);
}

/** Shows what would change; resolves to true if that is wanted. */
function isWanted(result) {
  showReview(result);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

async function review() {
  clearTimeout(timer);
  complain(null);
  const result = await judged();
  if (result === null) return;
  if (!result.valid) {
    complain("This hub.yaml has mistakes, and is not saved.");
    (byId("config-findings").querySelector("button") ?? text).focus();
    return;
  }
  if (!result.difference.length) {
    say("Nothing is changed.");
    return;
  }
  const mine = text.value;
  const body = written();
  if (!(await isWanted(result))) return;
  say("saving…");
  const headers = { "Content-Type": "application/yaml", "If-Match": `"${file.version}"` };
  const answer = await fetched("/hub/config", { method: "PUT", headers, body });
  const { version, backup, started, stopped, unchanged, policies } = await answer.json();
  file = { ...file, text: mine, version };
  say("");
  flash("ok", `hub.yaml saved and reloaded: started=${list(started)} | stopped=${list(stopped)} | unchanged=${list(unchanged)}${policyLines(policies)}\nThe old one is ${backup}`);
  await check();
}

async function save() {
  try {
    await review();
  } catch (error) {
    say(isEdited() ? "not saved" : "");
    complain(error.message);
    if (error.status === 409) await compareAgain();
  }
}

/** The file is another one: the next review shows how the text differs from that. */
async function compareAgain() {
  try {
    const { version } = await ask("/hub/config");
    file.version = version;
    complain(`${byId("config-error").textContent} “Review and save” shows now how your text differs from it.`);
  } catch {
    // Whoever tries again is told.
  }
}

byId("config-review").addEventListener("click", save);

byId("config-again").addEventListener("click", async () => {
  if (isEdited() && !(await confirmed("Read hub.yaml again?", "What you have changed here is lost.", "Read again", "Keep my text"))) return;
  read();
});

text.addEventListener("input", () => {
  say(isEdited() ? "not saved" : "");
  clearTimeout(timer);
  timer = setTimeout(check, CHECK_MS);
});

addEventListener("beforeunload", (event) => {
  if (isEdited()) event.preventDefault();
});
