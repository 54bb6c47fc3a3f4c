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
/** The last line, while it has no end. */
let rest = "";
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
  [style, rest, waiting] = ["", "", []];
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
  rest = lines.pop();
  waiting.push(...lines);
  if (waiting.length > KEPT) waiting.splice(0, waiting.length - KEPT);
  if (!isPaused) flush();
}

function flush() {
  const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const find = byId("log-find").value.toLowerCase();
  box.append(...waiting.map((text) => marked(line(text), find)));
  waiting = [];
  while (box.childElementCount > KEPT) box.firstElementChild.remove();
  if (isAtEnd) box.scrollTop = box.scrollHeight;
}

/** One line; what its escapes say of colours becomes classes, the others go. */
function line(text) {
  const node = document.createElement("div");
  // eslint-disable-next-line no-control-regex
  for (const part of text.split(/(\x1b\[[0-9;]*[A-Za-z])/)) {
    if (part.startsWith("\x1b[")) {
      if (part.endsWith("m")) style = styled(style, part.slice(2, -1));
    } else if (part) {
      node.append(style ? element("span", part, style) : part);
    }
  }
  return node;
}

function styled(before, codes) {
  let classes = before;
  for (const code of codes.split(";").map(Number)) {
    const without = (pattern) => classes.split(" ").filter((name) => name && !pattern.test(name)).join(" ");
    if (code === 0) classes = "";
    else if (code === 1) classes = `${without(/^bold$/)} bold`;
    else if (code === 2) classes = `${without(/^dim$/)} dim`;
    else if (code === 22) classes = without(/^(bold|dim)$/);
    else if (code === 39) classes = without(/^ansi-/);
    else if ((code >= 30 && code < 38) || (code >= 90 && code < 98)) classes = `${without(/^ansi-/)} ansi-${COLOURS[code % 10]}`;
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
