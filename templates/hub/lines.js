// Charts of lines and of dots in SVG, each with its figures as a table for those who cannot see it.

import { element } from "./page.js";

const HEIGHT = 190;
const PAD = { left: 62, right: 12, top: 10, bottom: 24 };
/** Colours that can be told apart; further lines are dashed. */
const COLOURS = 8;
const QUARTER = 15 * 60;

function svg(tag, attributes = {}, text = null) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  return node;
}

const clockOf = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

/** The next of 1, 2, 5, 10, 20, … that is not smaller. */
function round(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value * 0.9999) * power;
}

const classOf = (index) => `line-${index % COLOURS}${index >= COLOURS ? " dashed" : ""}`;

/** A line breaks where nothing is known; a point that stands alone is a dot. */
function pathOf(points, x, y) {
  let path = "";
  let isDown = false;
  points.forEach((value, index) => {
    if (value === null) {
      isDown = false;
      return;
    }
    const at = `${x(index).toFixed(1)},${y(value).toFixed(1)}`;
    path += isDown ? `L${at}` : `M${at}h0.1`;
    isDown = true;
  });
  return path;
}

/**
 * Draws into `figure`. Each of `lines` has a `name`, a `colour` (a number) and `points` of one length, the last at
 * `end`, or `dots` of time and value. `unit` of an axis is what its marks are multiples of.
 */
export function draw(figure, { title, lines, end, span, step, format, unit = 1 }) {
  const width = Math.max(figure.clientWidth, 260);
  const valuesOf = ({ points, dots }) => (dots ? dots.map((dot) => dot.value) : points.filter((value) => value !== null));
  const most = round(Math.max(0, ...lines.map((line) => Math.max(0, ...valuesOf(line)))) / unit) * unit;
  const [inner, tall] = [width - PAD.left - PAD.right, HEIGHT - PAD.top - PAD.bottom];
  const atTime = (time) => PAD.left + inner * (1 - (end - time) / span);
  const y = (value) => PAD.top + tall * (1 - value / most);
  const chart = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img" });
  const told = lines.map((line) => `${line.name}: ${summary(valuesOf(line), format)}`).join("; ");
  chart.append(svg("title", {}, title), svg("desc", {}, told || "Nothing in the last hour."));
  for (const share of [0, 0.5, 1]) {
    const at = y(most * share);
    chart.append(svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: at, y2: at }));
    chart.append(svg("text", { x: PAD.left - 8, y: at + 4, "text-anchor": "end" }, format(most * share)));
  }
  for (let time = Math.ceil((end - span) / QUARTER) * QUARTER; time <= end; time += QUARTER) {
    const at = atTime(time);
    chart.append(svg("line", { class: "grid", x1: at, x2: at, y1: PAD.top, y2: PAD.top + tall }));
    if (at > PAD.left + 14 && at < width - 34) {
      chart.append(svg("text", { x: at, y: HEIGHT - 6, "text-anchor": "middle" }, clockOf(time)));
    }
  }
  for (const { name, colour, points, dots } of lines) {
    const line = svg("g", { class: classOf(colour) });
    line.append(svg("title", {}, name));
    if (dots) {
      for (const { time, value } of dots) line.append(svg("circle", { cx: atTime(time), cy: y(value), r: 4 }));
    } else {
      const x = (index) => atTime(end - (points.length - 1 - index) * step);
      line.append(svg("path", { d: pathOf(points, x, y) }));
    }
    chart.append(line);
  }
  const wasOpen = figure.querySelector("details")?.open ?? false;
  const table = figures(title, lines.map((line) => [line.name, valuesOf(line)]), format);
  table.open = wasOpen;
  figure.replaceChildren(element("figcaption", title), chart, legend(lines), table);
}

function summary(values, format) {
  if (!values.length) return "no figures";
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return `last ${format(values.at(-1))}, mean ${format(mean)}, most ${format(Math.max(...values))}`;
}

function legend(lines) {
  const list = element("ul", "", "legend");
  for (const { name, colour } of lines) list.append(element("li", name, classOf(colour)));
  return list;
}

function figures(title, lines, format) {
  const details = document.createElement("details");
  details.append(element("summary", "As figures"));
  const table = document.createElement("table");
  table.append(element("caption", title, "hidden"));
  const head = table.createTHead().insertRow();
  for (const name of ["", "Last", "Mean", "Most"]) {
    const cell = element("th", name);
    cell.scope = "col";
    head.append(cell);
  }
  head.cells[0].replaceWith(document.createElement("td"));
  const body = table.createTBody();
  for (const [name, values] of lines) {
    const row = body.insertRow();
    const header = element("th", name);
    header.scope = "row";
    row.append(header);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    for (const value of values.length ? [values.at(-1), mean, Math.max(...values)] : [null, null, null]) {
      row.append(element("td", value === null ? "—" : format(value)));
    }
  }
  details.append(table);
  return details;
}
