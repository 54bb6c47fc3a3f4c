// A log as it grows, with its terminal colours.

import { byId, element, fetched, setChoices, setText, toast } from "./page.js";

const LINES = 500;
const KEPT = 5000;
const AGAIN_MS = 2000;
/** The colours that terminals number from 30 and from 90. */
const COLOURS = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];

const box = byId("log");
let reading = null;
/** The source of what is shown. */
let of = null;
let style = "";
/** The last line, while it has no end, and its node. */
let rest = "";
let unfinished = null;
let isPaused = false;
let waiting = [];

export function showLogs(snapshot) {
  setChoices(byId("log-of"), snapshot.models.map((model) => model.id));
  const isOpen = !byId("view-logs").hidden;
  if (!isOpen || document.hidden) return stop();
  const wanted = byId("log-of").value;
  if (!reading || of !== wanted) read(wanted);
}

function stop() {
  reading?.abort();
  reading = null;
}

async function read(name) {
  stop();
  const mine = new AbortController();
  reading = mine;
  of = name;
  [style, rest, waiting, unfinished] = ["", "", [], null];
  box.replaceChildren();
  const path = name ? `/hub/models/${encodeURIComponent(name)}/logs` : "/hub/logs";
  try {
    const answer = await fetched(`${path}?follow=1&lines=${LINES}`, { signal: mine.signal });
    setText(byId("log-state"), "live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (mine.signal.aborted) return;
      if (done) break;
      add(value);
    }
    setText(byId("log-state"), "ended");
  } catch (error) {
    if (mine.signal.aborted) return;
    setText(byId("log-state"), error.message);
  }
  // The hub was replaced, or is away: whoever still looks gets it from the next one.
  setTimeout(() => reading === mine && (reading = null), AGAIN_MS);
}

function add(text) {
  const lines = (rest + text).split("\n");
  // A bar that is drawn again and again is one line without an end.
  rest = overwritten(lines.pop());
  waiting.push(...lines);
  if (waiting.length > KEPT) waiting.splice(0, waiting.length - KEPT);
  if (!isPaused) flush();
}

function flush() {
  const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const find = byId("log-find").value.toLowerCase();
  unfinished?.remove();
  box.append(...waiting.map((text) => marked(line(text), find)));
  waiting = [];
  // What has no end yet is shown as it is, and again when there is more of it.
  const before = style;
  unfinished = rest ? marked(line(rest), find) : null;
  style = before;
  if (unfinished) box.append(unfinished);
  while (box.childElementCount > KEPT) box.firstElementChild.remove();
  if (isAtEnd) box.scrollTop = box.scrollHeight;
}

/** What a terminal shows of a line: a carriage return begins it anew. */
function overwritten(text) {
  const end = /\r*$/.exec(text)[0];
  const shown = text.slice(0, text.length - end.length);
  return shown.slice(shown.lastIndexOf("\r") + 1) + end;
}

// Colours and other attributes; all other sequences of ECMA-48 and of xterm: titles, links, character sets.
// eslint-disable-next-line no-control-regex
const ESCAPES = /\x1b\[([0-9;:]*)m|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\-~]/g;

/** One line; what its escapes say of colours becomes classes, the others go. */
function line(text) {
  const node = document.createElement("div");
  const shown = overwritten(text).replace(/\r+$/, "");
  const say = (part) => part && node.append(style ? element("span", part, style) : part);
  let from = 0;
  for (const found of shown.matchAll(ESCAPES)) {
    say(shown.slice(from, found.index));
    from = found.index + found[0].length;
    if (found[1] !== undefined) style = styled(style, found[1]);
  }
  say(shown.slice(from));
  return node;
}

function styled(before, parameters) {
  let classes = before;
  const codes = parameters.split(/[;:]/).map(Number);
  const without = (pattern) => classes.split(" ").filter((name) => name && !pattern.test(name)).join(" ");
  const colour = (number) => (classes = `${without(/^ansi-/)} ansi-${COLOURS[number % 8]}`);
  while (codes.length) {
    const code = codes.shift();
    if (code === 0) classes = "";
    else if (code === 1) classes = `${without(/^bold$/)} bold`;
    else if (code === 2) classes = `${without(/^dim$/)} dim`;
    else if (code === 22) classes = without(/^(bold|dim)$/);
    else if (code === 39) classes = without(/^ansi-/);
    else if ((code >= 30 && code < 38) || (code >= 90 && code < 98)) colour(code % 10);
    else if (code === 38 || code === 48 || code === 58) {
      // `5` and a number, or `2` and three of them. Of those the page has the first sixteen, as a colour of the text.
      const [kind, number] = codes.splice(0, codes[0] === 2 ? 4 : 2);
      if (code === 38 && kind === 5 && number < 16) colour(number);
    }
  }
  return classes.trim();
}

function marked(node, find) {
  node.hidden = find !== "" && !node.textContent.toLowerCase().includes(find);
  return node;
}

byId("log-of").addEventListener("change", ({ target }) => read(target.value));

byId("log-find").addEventListener("input", ({ target }) => {
  const find = target.value.toLowerCase();
  for (const node of box.children) marked(node, find);
});

byId("log-pause").addEventListener("click", ({ target }) => {
  isPaused = !isPaused;
  target.setAttribute("aria-pressed", String(isPaused));
  setText(target, isPaused ? "Go on" : "Pause");
  if (!isPaused) flush();
});

byId("log-copy").addEventListener("click", async () => {
  const lines = [...box.children].filter((node) => !node.hidden).map((node) => node.textContent);
  try {
    await navigator.clipboard.writeText(lines.join("\n"));
    toast(`${lines.length} lines copied`);
  } catch {
    getSelection().selectAllChildren(box);
    toast("The log is selected, ready to copy");
  }
});
