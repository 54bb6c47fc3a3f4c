// What may stand at a place of hub.yaml, by its JSON schema. Knows nothing of the page.

const MOST = 200;

const indentOf = (line) => line.length - line.trimStart().length;
const isDash = (line) => /^\s*-(\s|$)/.test(line);
const isBlank = (line) => /^\s*(#|$)/.test(line);
const keyOf = (line) => /^\s*(?:-\s+)?([A-Za-z_][\w-]*)\s*:/.exec(line)?.[1];
/** The column in which the keys of a line stand. */
const columnOf = (line) => /^\s*(?:-\s+)?/.exec(line)[0].length;

/** The schema of the entries of a list of mappings. */
function entriesOf(schema, list) {
  const name = schema.properties[list]?.items?.$ref?.split("/").at(-1);
  return name ? schema.$defs[name] : null;
}

/** The mapping that a line belongs to: its schema, and the keys that it has in other lines. */
function mappingAt(schema, lines, row, column) {
  const isTop = (line) => !isBlank(line) && indentOf(line) === 0 && !isDash(line);
  const others = (from, to, at) => lines.slice(from, to).filter((line, index) => from + index !== row && !isBlank(line) && columnOf(line) === at).map(keyOf);
  if (column === 0) return { of: schema, used: others(0, lines.length, 0) };
  const top = lines.findLastIndex((line, index) => index < row && isTop(line));
  const of = top < 0 ? null : entriesOf(schema, keyOf(lines[top]));
  if (!of) return null;
  const first = lines.findIndex((line, index) => index > top && !isBlank(line));
  const isEntry = (line) => isDash(line) && indentOf(line) === indentOf(lines[first]);
  const begin = lines.findLastIndex((line, index) => index <= row && index > top && isEntry(line));
  if (begin < 0 || column !== Math.max(columnOf(lines[begin]), indentOf(lines[begin]) + 2)) return null;
  const next = lines.findIndex((line, index) => index > begin && (isEntry(line) || isTop(line)));
  return { of, used: others(begin, next < 0 ? lines.length : next, column) };
}

/** The words that a value of this schema may be. */
function wordsOf(property, key, text) {
  const schemas = [property, ...(property.anyOf ?? [])];
  const words = schemas.flatMap((one) => one.enum ?? (one.type === "boolean" ? ["true", "false"] : []));
  if (key === "group") {
    const groups = /^groups:[^\n]*\n((?:[ -][^\n]*\n?|\n)*)/m.exec(text)?.[1] ?? "";
    words.push(...[...groups.matchAll(/\bname:\s*([\w.-]+)/g)].map((match) => match[1]));
  }
  return words;
}

const isRefused = (property) => property.type === "null";

function keyEnd(property) {
  if (property.items?.$ref) return ":\n  - ";
  return ": ";
}

/**
 * What may be written at `at`: the `start` of the word that stands there, and for each word its `insert` text and
 * what it is `about`.
 */
export function suggestions(schema, text, at) {
  const nothing = { start: at, words: [] };
  const lines = text.split("\n");
  const row = text.slice(0, at).split("\n").length - 1;
  const before = text.slice(text.lastIndexOf("\n", at - 1) + 1, at);
  const found = /^(\s*(?:-\s+)?)(?:([A-Za-z_][\w-]*):\s+)?([\w.-]*)$/.exec(before);
  const rest = lines[row].slice(before.length);
  // Within a word nothing is to be completed.
  if (!found || /^[\w.-]/.test(rest)) return nothing;
  const [, lead, key, word] = found;
  const mapping = mappingAt(schema, lines, row, lead.length);
  if (!mapping) return nothing;
  const { properties } = mapping.of;
  let words;
  if (key) {
    const about = properties[key]?.description ?? "";
    words = wordsOf(properties[key] ?? {}, key, text).map((name) => ({ name, insert: name, about }));
  } else {
    const names = Object.keys(properties).filter((name) => !isRefused(properties[name]) && !mapping.used.includes(name));
    words = names.map((name) => ({ name, insert: rest.startsWith(":") ? name : name + keyEnd(properties[name]), about: properties[name].description ?? "" }));
  }
  const begins = (name) => name.toLowerCase().startsWith(word.toLowerCase()) && name !== word;
  return { start: at - word.length, words: words.filter(({ name }) => begins(name)).slice(0, MOST) };
}
