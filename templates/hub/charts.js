// The last hour in charts. Loaded when its view is opened for the first time.

import { ask, byId, bytes, duration, setChoices } from "./page.js";
import { draw } from "./lines.js";

const AGAIN_MS = 10000;
const HOUR = 3600;

let timer = null;
let history = null;

export function showCharts(snapshot) {
  setChoices(byId("charts-model"), snapshot.models.map((model) => model.id));
  if (timer === null && isSeen()) again();
}

const isSeen = () => !byId("view-charts").hidden && !document.hidden;

async function again() {
  timer = setTimeout(() => {
    timer = null;
    if (isSeen()) again();
  }, AGAIN_MS);
  try {
    history = await ask("/hub/history");
    drawAll();
  } catch {
    // The page says already that the hub is away.
  }
}

const number = (value) => (value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1));

function drawAll() {
  if (!history || !isSeen()) return;
  const { end, step, models, memory_bytes: machine } = history;
  const names = Object.keys(models);
  const wanted = byId("charts-model").value;
  const shown = names.filter((name) => !wanted || name === wanted);
  const time = { end, step, span: HOUR };
  const linesOf = (key) => shown.map((name) => ({ name, colour: names.indexOf(name) + 1, points: models[name][key] }));
  draw(byId("chart-tokens"), { title: "Tokens per second, of answers that ended", lines: linesOf("tokens_per_second"), format: number, ...time });
  draw(byId("chart-requests"), { title: `Requests that ended, in ${step} s`, lines: linesOf("requests"), format: number, ...time });
  const all = { name: "the machine, in use", colour: 0, points: machine };
  draw(byId("chart-memory"), { title: "Memory", lines: [...(wanted ? [] : [all]), ...linesOf("memory_bytes")], format: bytes, unit: 2 ** 30, ...time });
  const loads = shown.map((name) => ({
    name,
    colour: names.indexOf(name) + 1,
    dots: models[name].loads.map((load) => ({ time: load.time, value: load.seconds })),
  }));
  draw(byId("chart-loads"), { title: "Loads, and how long each took", lines: loads.filter((line) => line.dots.length), format: duration, ...time });
}

byId("charts-model").addEventListener("change", drawAll);
new ResizeObserver(drawAll).observe(byId("view-charts"));
