// The models: their rows, what they do now, why, and the buttons.

import { ask, byId, bytes, clone, confirmed, count, duration, element, fieldOf, firstLine, flash, isAimedAt, keepFocus, list, post, setText, timeOf, toast } from "./page.js";
import { showDecisions } from "./policies.js";

// Each verb: its button, the button while it is under way, and the toast's words.
const VERBS = {
  start: { label: "Start", doing: "Starting…", sent: "Start process" },
  stop: { label: "Stop", doing: "Stopping…", sent: "Stop process" },
  load: { label: "Load", doing: "Loading…", sent: "Load memory" },
  unload: { label: "Unload", doing: "Unloading…", sent: "Unload memory" },
};
// The verb that each state offers, or that is under way in it.
const PROCESS_VERBS = {
  inactive: { verb: "start" },
  starting: { verb: "start", busy: true },
  running: { verb: "stop" },
  stopping: { verb: "stop", busy: true },
  stopped: { verb: "start" },
  failed: { verb: "start" },
};
const MEMORY_VERBS = {
  unloaded: { verb: "load" },
  loading: { verb: "load", busy: true },
  loaded: { verb: "unload" },
  unloading: { verb: "unload", busy: true },
  failed: { verb: "load" },
};

// What each verb wants of a model.
const WANTED = {
  start: (model) => model.process_state === "running" && (model.jit_enabled || model.memory_state === "loaded"),
  stop: (model) => !PROCESS_VERBS[model.process_state].busy && model.process_state !== "running",
  load: (model) => model.process_state === "running" && model.memory_state === "loaded",
  unload: (model) => model.process_state !== "running" || model.memory_state === "unloaded",
};

/** Tells of a snapshot whether each of these models is as the verb wanted it, or is gone. */
export const isDone = (verb, names) => (snapshot) =>
  snapshot.models.every((model) => !names.includes(model.id) || WANTED[verb](model.metadata));

/** The table's part of each model, by name. */
const bodies = new Map();
/** "verb name" of every request that has no answer yet. */
const underWay = new Set();
let shown = null;
let shownAt = 0;

export function showModels(snapshot, now) {
  [shown, shownAt] = [snapshot, now];
  const { models } = snapshot;
  byId("fetching").hidden = true;
  byId("none").hidden = models.length > 0;
  const names = new Set(models.map((model) => model.id));
  for (const [name, body] of bodies) {
    if (names.has(name)) continue;
    body.remove();
    bodies.delete(name);
  }
  let previous = byId("models");
  for (const model of models) {
    let body = bodies.get(model.id);
    if (!body) {
      body = newBody(model.id);
      bodies.set(model.id, body);
    }
    fill(body, model, now);
    if (previous.nextElementSibling !== body) previous.after(body);
    previous = body;
  }
}

/** True if a model is between two states, or a button waits for its answer. */
export const isMoving = (snapshot) =>
  underWay.size > 0 || (snapshot?.models ?? []).some(({ metadata }) => PROCESS_VERBS[metadata.process_state].busy || MEMORY_VERBS[metadata.memory_state].busy);

function newBody(name) {
  const body = clone("model-row");
  body.dataset.model = name;
  for (const button of body.querySelectorAll("[data-cluster]")) {
    button.parentElement.setAttribute("aria-label", `${button.dataset.cluster} of ${name}`);
    button.addEventListener("click", async () => {
      await send(button.dataset.verb, name);
      keepFocus(button);
    });
  }
  const disclose = body.querySelector(".name");
  disclose.addEventListener("click", () => {
    const more = body.querySelector(".more");
    more.hidden = !more.hidden;
    disclose.setAttribute("aria-expanded", String(!more.hidden));
    body.dataset.decided = "";
    showModels(shown, shownAt);
  });
  return body;
}

function fill(body, { id: name, metadata: model }, now) {
  const field = fieldOf(body);
  const running = model.process_state === "running";
  body.querySelector(".model").dataset.model = name;
  setText(field("name"), name);

  field("process").dataset.state = model.process_state;
  setText(field("process"), model.process_state.toUpperCase());
  setText(field("process-detail"), processDetail(model));
  setText(field("requests"), requestsOf(model));

  field("memory").dataset.state = running ? model.memory_state : "none";
  setText(field("memory"), running ? model.memory_state.toUpperCase() : "—");
  const since = running && model.memory_last_transition_at;
  const held = running && model.memory_state !== "unloaded" && model.memory_bytes;
  const details = [since && timeOf(since).toLocaleTimeString(), held && bytes(held)].filter(Boolean);
  setText(field("memory-detail"), bulleted(details));
  field("memory-detail").title = since ? `Since ${timeOf(since).toLocaleString()}` : "";
  fillProgress(field("progress"), model, now);
  setText(field("memory-note"), memoryNote(model, now) || "");
  showFailure(body.querySelector(".failure"), model.memory_last_error);

  setText(field("auto-unload"), model.auto_unload_minutes ? `${model.auto_unload_minutes} min` : "—");
  setText(field("type"), model.model_type);
  setText(field("group"), model.group ?? "—");
  setText(field("default"), model.default ? "✅" : "—");
  setText(field("path"), model.model_path);
  if (!body.querySelector(".more").hidden) fillMore(body, name, model);

  const button = (cluster) => body.querySelector(`[data-cluster="${cluster}"]`);
  fillButton(button("process"), name, PROCESS_VERBS[model.process_state], ["start", "stop"]);
  fillButton(button("memory"), name, MEMORY_VERBS[model.memory_state], ["load", "unload"]);
  button("memory").parentElement.hidden = !running;
}

/** An error that is gone leaves its place empty while the pointer is over the table: the rows below must not move up. */
function showFailure(row, error) {
  if (error) setText(row.querySelector(".error"), `Error: ${error}`);
  const isKept = !error && !row.hidden && isAimedAt(row.closest("table"));
  row.classList.toggle("gone", isKept);
  row.hidden = !error && !isKept;
}

/** Broken between the parts alone. */
const bulleted = (parts) => parts.map((part) => `• ${part}`.replaceAll(" ", "\u00a0")).join(" ");

function processDetail({ process_state: state, pid, port, exit_code: code }) {
  const parts = [];
  if (pid !== null) parts.push(`PID ${pid}`);
  // A started model may have no process, and then nobody listens.
  if (pid !== null && port !== null) parts.push(`PORT ${port}`);
  if (state === "failed" && code !== null) parts.push(`exit ${code}`);
  return bulleted(parts);
}

function requestsOf({ active_requests: active, waiting_requests: waiting, parked_requests: parked }) {
  const parts = [];
  if (active) parts.push(`${active} in flight`);
  if (waiting) parts.push(`${waiting} waiting`);
  if (parked) parts.push(`${parked} parked`);
  return parts.join(" • ");
}

const isLoading = (model) => model.memory_state === "loading" && model.memory_last_transition_at !== null;

/** The last load of this model is the best guess at how long this one takes. */
function fillProgress(bar, model, now) {
  bar.hidden = !isLoading(model);
  if (bar.hidden) return;
  const { bytes: here, total } = model.download ?? {};
  if (total) bar.value = Math.min(here / total, 0.98);
  else if (model.load_seconds && !model.download) bar.value = Math.min((now - model.memory_last_transition_at) / model.load_seconds, 0.98);
  else bar.removeAttribute("value");
}

const downloaded = ({ bytes: here, total }) => (total ? `${bytes(here)} of ${bytes(total)}` : bytes(here));

function memoryNote(model, now) {
  if (isLoading(model)) {
    const passed = duration(Math.max(now - model.memory_last_transition_at, 0));
    if (model.download) return `${passed}, downloaded ${downloaded(model.download)}`;
    return model.load_seconds ? `${passed} of about ${duration(model.load_seconds)}` : `${passed} so far`;
  }
  if (model.memory_state !== "loaded") return null;
  const rate = model.usage.last_tokens_per_second;
  if (model.active_requests) return rate && `last ${rate.toFixed(1)} tokens/s`;
  const since = Math.max(model.last_request_at ?? 0, model.last_load_at ?? 0);
  const idle = now - since;
  if (!since || idle < 60) return rate && `last ${rate.toFixed(1)} tokens/s`;
  const limit = idleLimit(model);
  const left = limit && limit * 60 - idle;
  return left > 0 ? `idle ${duration(idle)}, unloads in ${duration(left)}` : `idle ${duration(idle)}`;
}

/** In minutes; of the model's own and its group's the smaller counts. */
function idleLimit({ auto_unload_minutes: own, group }) {
  const ofGroup = shown.groups.find(({ name }) => name === group)?.idle_unload_trigger_min;
  return own && ofGroup ? Math.min(own, ofGroup) : (own ?? ofGroup);
}

function fillMore(body, name, model) {
  const field = fieldOf(body);
  const at = (seconds) => seconds && timeOf(seconds).toLocaleString();
  const { usage } = model;
  const pairs = [
    ["Last loaded", at(model.last_load_at)],
    ["Last load took", model.load_seconds && duration(model.load_seconds)],
    ["Last request", at(model.last_request_at)],
    ["Most memory", model.peak_bytes && bytes(model.peak_bytes)],
    ["Requests", String(usage.requests)],
    ["Tokens in, out", `${usage.prompt_tokens}, ${usage.completion_tokens}`],
    ["Loaded by", model.jit_enabled ? "its first request" : "its start"],
    ["Log", model.log_path],
  ].filter(([, value]) => value);
  const nodes = pairs.flatMap(([key, value]) => [element("dt", key), element("dd", value)]);
  const box = field("pairs");
  if (box.textContent !== nodes.map((node) => node.textContent).join("")) box.replaceChildren(...nodes);

  // Decisions are asked for again when the model has changed its state.
  const state = `${model.process_state} ${model.memory_state} ${model.memory_last_transition_at}`;
  if (body.dataset.decided === state) return;
  body.dataset.decided = state;
  ask(`/hub/policies/decisions?limit=5&model=${encodeURIComponent(name)}`).then(
    ({ decisions }) => {
      showDecisions(field("decisions"), decisions);
      field("no-decisions").hidden = decisions.length > 0;
    },
    () => (body.dataset.decided = ""),
  );
}

// A request of this page counts as under way until it is answered, whatever the snapshot says.
function fillButton(button, name, offered, verbs) {
  const sent = verbs.find((verb) => underWay.has(`${verb} ${name}`));
  const { verb, busy = false } = sent ? { verb: sent, busy: true } : offered;
  button.dataset.verb = verb;
  button.disabled = busy;
  setText(button, busy ? VERBS[verb].doing : VERBS[verb].label);
}

/** Asks before what takes others out of memory or concerns requests; the hub says whether it does. */
export async function isWanted(verb, name) {
  const path = `/hub/models/${encodeURIComponent(name)}/plan?verb=${verb}`;
  const { unloads, in_flight: inFlight, refused_requests: refused } = await ask(path);
  const parts = [];
  if (unloads.length) parts.push(`There is no room for both: ${list(unloads)} will be unloaded.`);
  if (inFlight) parts.push(`${count(inFlight, "request")} in flight will be answered first.`);
  if (refused) parts.push(`${count(refused, "request")} waiting will be refused.`);
  const { label } = VERBS[unloads.length ? "load" : verb];
  const also = unloads.length ? ` (unloads ${list(unloads)})` : ` ${name}`;
  return !parts.length || confirmed(`${label} ${name}?`, parts.join(" "), `${label}${also}`);
}

/** What takes away the banner of each model's last failure. */
const refusals = new Map();

async function send(verb, name) {
  const key = `${verb} ${name}`;
  underWay.add(key);
  showModels(shown, shownAt);
  try {
    if (!(await isWanted(verb, name))) return;
    toast(`${VERBS[verb].sent} request sent for ${name}`);
    await post(`/hub/models/${encodeURIComponent(name)}/${verb}`);
    refusals.get(name)?.();
  } catch (error) {
    const text = `Could not ${verb} ${name}: ${firstLine(error.message)}`;
    refusals.set(name, flash("error", text, isDone(verb, [name])));
  } finally {
    underWay.delete(key);
    showModels(shown, shownAt);
  }
}
