// A text with line numbers, marks at its lines, and suggestions at the caret.

import { byId, element, setText } from "./page.js";
import { suggestions } from "./complete.js";

const text = byId("config-text");
const gutter = byId("config-gutter");
const popup = byId("config-popup");
const choices = byId("config-choices");

let schema = null;
/** What is suggested now: the start of the word, the words, and the chosen one. */
let offer = null;
let marks = new Map();

export const useSchema = (value) => (schema = value);

/** Shows the numbers of all lines, and the findings at theirs. */
export function mark(mistakes, warnings) {
  const marked = (findings, isMistake) => findings.filter(({ line }) => line).map(({ line, message }) => [line, { message, isMistake }]);
  // Of a line with both the mistake is shown.
  marks = new Map([...marked(warnings, false), ...marked(mistakes, true)]);
  number(true);
}

function number(isForced = false) {
  const count = text.value.split("\n").length;
  if (!isForced && gutter.childElementCount === count) return;
  const lines = Array.from({ length: count }, (_, index) => {
    const here = marks.get(index + 1);
    const node = element("div", here ? `${here.isMistake ? "●" : "▲"} ${index + 1}` : String(index + 1));
    if (here) {
      node.dataset.bad = String(here.isMistake);
      node.title = here.message;
    }
    return node;
  });
  gutter.replaceChildren(...lines);
  follow();
}

function follow() {
  gutter.scrollTop = text.scrollTop;
  if (offer) place();
}

/** Puts the caret at a line and a column, and shows them. */
export function goTo(line, column, length) {
  const lines = text.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  // Columns are counted in characters, positions in UTF-16.
  const wide = (count) => [...lines[line - 1]].slice(0, count).join("").length;
  text.focus();
  text.setSelectionRange(start + wide(column - 1), start + wide(column - 1 + length));
  text.scrollTop = (line - 4) * lineHeight();
}

const lineHeight = () => parseFloat(getComputedStyle(text).lineHeight);

const measure = document.createElement("canvas").getContext("2d");

function letterWidth() {
  const style = getComputedStyle(text);
  measure.font = `${style.fontSize} ${style.fontFamily}`;
  return measure.measureText("0").width;
}

/** Replaces a part of the text so that it can be undone. */
function insert(start, end, words) {
  text.setSelectionRange(start, end);
  if (!document.execCommand("insertText", false, words)) {
    text.setRangeText(words, start, end, "end");
    text.dispatchEvent(new Event("input"));
  }
}

function suggest() {
  close();
  if (!schema || text.selectionStart !== text.selectionEnd) return;
  const found = suggestions(schema, text.value, text.selectionStart);
  if (!found.words.length) return;
  offer = { ...found, chosen: 0 };
  choices.replaceChildren(...found.words.map(({ name }, index) => {
    const option = element("li", name);
    option.id = `config-choice-${index}`;
    option.setAttribute("role", "option");
    // The text keeps the focus.
    option.addEventListener("mousedown", (event) => {
      event.preventDefault();
      choose(index);
      take();
    });
    return option;
  }));
  popup.hidden = false;
  choose(0);
}

function choose(index) {
  const count = offer.words.length;
  offer.chosen = (index + count) % count;
  for (const [at, option] of [...choices.children].entries()) option.setAttribute("aria-selected", String(at === offer.chosen));
  const chosen = choices.children[offer.chosen];
  text.setAttribute("aria-activedescendant", chosen.id);
  chosen.scrollIntoView({ block: "nearest" });
  setText(byId("config-about"), offer.words[offer.chosen].about);
  place();
}

/** Below the word, or above it where there is no room. */
function place() {
  const before = text.value.slice(0, offer.start).split("\n");
  const style = getComputedStyle(text);
  const [across, down] = [letterWidth(), lineHeight()];
  const top = text.offsetTop + parseFloat(style.paddingTop) + before.length * down - text.scrollTop;
  const left = text.offsetLeft + parseFloat(style.paddingLeft) + before.at(-1).length * across - text.scrollLeft;
  const isBelow = top + popup.offsetHeight < text.offsetTop + text.offsetHeight;
  popup.style.top = `${isBelow ? top : Math.max(top - down - popup.offsetHeight, 0)}px`;
  popup.style.left = `${Math.max(0, Math.min(left, text.parentElement.clientWidth - popup.offsetWidth))}px`;
}

function take() {
  const { start, words, chosen } = offer;
  close();
  insert(start, text.selectionStart, words[chosen].insert);
}

function close() {
  offer = null;
  popup.hidden = true;
  choices.replaceChildren();
  text.removeAttribute("aria-activedescendant");
}

/** A new line begins below the one before. */
function breakLine() {
  const at = text.selectionStart;
  const line = text.value.slice(text.value.lastIndexOf("\n", at - 1) + 1, at);
  const lead = /^\s*/.exec(line)[0] + (/^\s*-\s+\S/.test(line) ? "  " : "");
  insert(at, text.selectionEnd, `\n${lead}`);
}

text.addEventListener("keydown", (event) => {
  const { key, ctrlKey } = event;
  if (ctrlKey && key === " ") suggest();
  else if (offer && key === "ArrowDown") choose(offer.chosen + 1);
  else if (offer && key === "ArrowUp") choose(offer.chosen - 1);
  else if (offer && key === "Escape") close();
  else if (offer && key === "Enter") take();
  else if (key === "Enter" && !event.isComposing) breakLine();
  else {
    if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(key)) close();
    return;
  }
  event.preventDefault();
});

text.addEventListener("input", ({ data }) => {
  number();
  if (data && /^[\w ]$/.test(data)) suggest();
  else close();
});
text.addEventListener("scroll", follow);
text.addEventListener("blur", close);
