// The dashboard's script: reads /hub/status, fills the page with text, sends what is clicked.
// Text from the configuration only ever becomes textContent, so none of it can be markup.

const POLL_MS = 5000;
const POLL_IN_TRANSITION_MS = 1000;
const GIVE_UP_MS = 10000;
const TOAST_MS = 4000;
const FLASH_MS = 8000;

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

const byId = (id) => document.getElementById(id);

// Touches the page only where something changed, so that a selection or a focus survives.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setOptional(node, text) {
  node.hidden = !text;
  setText(node, text ?? "");
}

// Talking to the hub

async function ask(method, path, options = {}) {
  let response;
  try {
    response = await fetch(path, { method, cache: "no-store", ...options });
  } catch (cause) {
    throw new Error("The hub cannot be reached.", { cause });
  }
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) {
    throw new Error(answer?.error?.message ?? `The hub answered ${response.status}.`);
  }
  return answer;
}

function post(path) {
  return ask("POST", path, {
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ reason: "dashboard" }),
  });
}

// Banners and toasts

let flashTimer;

function flash(kind, text) {
  const banner = byId("flash");
  clearTimeout(flashTimer);
  banner.dataset.kind = kind;
  setOptional(banner, text);
  if (kind === "ok") flashTimer = setTimeout(() => setOptional(banner, null), FLASH_MS);
}

function toast(text) {
  const node = document.createElement("p");
  node.className = "toast";
  node.textContent = text;
  byId("toasts").append(node);
  setTimeout(() => node.remove(), TOAST_MS);
}

// Showing a snapshot

const rows = new Map();
const underWay = new Set(); // "verb name" of every request that has no answer yet
let snapshot = null;

const clone = (id) => byId(id).content.firstElementChild.cloneNode(true);

const timeOf = (seconds) => new Date(seconds * 1000);

function show() {
  const { status, counts, timestamp, warnings, groups, models } = snapshot;
  showPill(status);
  setText(byId("started"), `${counts.started} / ${counts.registered} started`);
  setText(byId("loaded"), `${counts.loaded} / ${counts.registered} loaded`);
  const updated = byId("updated");
  setText(updated, timeOf(timestamp).toLocaleTimeString());
  updated.dateTime = timeOf(timestamp).toISOString();
  showWarnings(warnings);
  showGroups(groups);
  showModels(models);
}

function showPill(status) {
  const pill = byId("status");
  pill.dataset.state = status;
  setText(pill, status);
}

function showWarnings(warnings) {
  const box = byId("warnings");
  box.hidden = warnings.length === 0;
  const items = warnings.map((warning) => {
    const item = document.createElement("li");
    item.textContent = warning;
    return item;
  });
  box.querySelector("ul").replaceChildren(...items);
}

function showGroups(groups) {
  const chips = groups.map((group) => {
    const chip = clone("group-chip");
    const field = (name) => chip.querySelector(`[data-field="${name}"]`);
    const { name, loaded, max_loaded: cap, idle_unload_trigger_min: idle } = group;
    chip.title = group.members.join(", ");
    chip.dataset.full = cap !== null && loaded.length >= cap;
    setText(field("name"), name);
    setText(field("loaded"), cap === null ? `${loaded.length} loaded, no cap` : `${loaded.length} of ${cap} loaded`);
    setOptional(field("idle"), idle === null ? null : `idle limit ${idle} min`);
    return chip;
  });
  byId("groups").hidden = groups.length === 0;
  byId("groups").replaceChildren(...chips);
}

function showModels(models) {
  byId("fetching").hidden = true;
  byId("none").hidden = models.length > 0;
  const names = new Set(models.map((model) => model.id));
  for (const [name, row] of rows) {
    if (names.has(name)) continue;
    row.remove();
    rows.delete(name);
  }
  let previous = byId("none");
  for (const model of models) {
    let row = rows.get(model.id);
    if (!row) {
      row = newRow(model.id);
      rows.set(model.id, row);
    }
    fillRow(row, model);
    if (previous.nextElementSibling !== row) previous.after(row);
    previous = row;
  }
}

function newRow(name) {
  const row = clone("model-row");
  for (const button of row.querySelectorAll("button")) {
    button.parentElement.setAttribute("aria-label", `${button.dataset.cluster} of ${name}`);
    button.addEventListener("click", () => send(button.dataset.verb, name));
  }
  return row;
}

function fillRow(row, { id: name, metadata: model }) {
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const running = model.process_state === "running";
  row.dataset.model = name;
  setText(field("name"), name);
  field("name").title = model.log_path ? `Log: ${model.log_path}` : "";

  field("process").dataset.state = model.process_state;
  setText(field("process"), model.process_state.toUpperCase());
  setText(field("process-detail"), processDetail(model));
  setOptional(field("requests"), requestsOf(model));

  field("memory").dataset.state = running ? model.memory_state : "none";
  setText(field("memory"), running ? model.memory_state.toUpperCase() : "—");
  const since = running && model.memory_last_transition_at;
  const details = [since && timeOf(since).toLocaleTimeString(), running && heldBy(model)].filter(Boolean);
  setText(field("memory-detail"), details.map((detail) => `• ${detail}`).join(" "));
  field("memory-detail").title = since ? timeOf(since).toLocaleString() : "";
  setOptional(field("error"), model.memory_last_error && `Error: ${model.memory_last_error}`);

  setText(field("auto-unload"), model.auto_unload_minutes ? `${model.auto_unload_minutes} min` : "—");
  setText(field("type"), model.model_type);
  setText(field("group"), model.group ?? "—");
  setText(field("default"), model.default ? "✅" : "—");
  setText(field("path"), model.model_path);

  const button = (cluster) => row.querySelector(`[data-cluster="${cluster}"]`);
  fillButton(button("process"), name, PROCESS_VERBS[model.process_state], ["start", "stop"]);
  fillButton(button("memory"), name, MEMORY_VERBS[model.memory_state], ["load", "unload"]);
  button("memory").parentElement.hidden = !running;
}

function processDetail({ process_state: state, pid, port, exit_code: code }) {
  const parts = [];
  if (pid !== null) parts.push(`PID ${pid}`);
  if (port !== null && ["starting", "running", "stopping"].includes(state)) parts.push(`PORT ${port}`);
  if (state === "failed" && code !== null) parts.push(`exit ${code}`);
  return parts.map((part) => `• ${part}`).join(" ");
}

function requestsOf({ active_requests: active, waiting_requests: waiting, parked_requests: parked }) {
  const parts = [];
  if (active) parts.push(`${active} in flight`);
  if (waiting) parts.push(`${waiting} waiting`);
  if (parked) parts.push(`${parked} parked`);
  return parts.join(" • ");
}

// A request of this page counts as under way until it is answered, whatever the snapshot says.
function fillButton(button, name, offered, verbs) {
  const sent = verbs.find((verb) => underWay.has(`${verb} ${name}`));
  const { verb, busy = false } = sent ? { verb: sent, busy: true } : offered;
  button.dataset.verb = verb;
  button.disabled = busy;
  setText(button, busy ? VERBS[verb].doing : VERBS[verb].label);
}

// Refreshing

let pollTimer;
let current;

async function refresh() {
  clearTimeout(pollTimer);
  current?.abort();
  const mine = new AbortController();
  current = mine;
  const limit = setTimeout(() => mine.abort(), GIVE_UP_MS);
  let failure = null;
  try {
    const fetched = await ask("GET", "/hub/status", { signal: mine.signal });
    if (current !== mine) return true;
    snapshot = fetched;
    show();
  } catch (error) {
    if (current !== mine) return true;
    failure = error;
    showPill("error");
  } finally {
    clearTimeout(limit);
  }
  setOptional(byId("error"), failure && describe(failure));
  document.body.classList.toggle("stale", failure !== null);
  schedule();
  return failure === null;
}

function describe(failure) {
  const hint = byId("auto").checked ? " This page keeps trying." : "";
  return `${failure.message}${hint}`;
}

function schedule() {
  clearTimeout(pollTimer);
  if (!byId("auto").checked || document.hidden) return;
  const moving = underWay.size > 0 || (snapshot?.models ?? []).some(inTransition);
  pollTimer = setTimeout(refresh, moving ? POLL_IN_TRANSITION_MS : POLL_MS);
}

/** What a model on its way into memory, or in it, was last found to hold; powers of two, as Activity Monitor counts. */
function heldBy({ memory_state: state, memory_bytes: bytes }) {
  if (!bytes || state === "unloaded") return "";
  const gigabytes = bytes / 2 ** 30;
  return gigabytes < 1 ? `${Math.round(gigabytes * 1024)} MB` : `${gigabytes.toFixed(1)} GB`;
}

function inTransition({ metadata: { process_state, memory_state } }) {
  return PROCESS_VERBS[process_state].busy || MEMORY_VERBS[memory_state].busy;
}

// What is clicked

async function send(verb, name) {
  const key = `${verb} ${name}`;
  underWay.add(key);
  showModels(snapshot.models);
  toast(`${VERBS[verb].sent} request sent for ${name}`);
  schedule();
  try {
    await post(`/hub/models/${encodeURIComponent(name)}/${verb}`);
  } catch (error) {
    flash("error", `${VERBS[verb].sent} failed for ${name}: ${error.message}`);
  } finally {
    underWay.delete(key);
    await refresh();
  }
}

// Runs a control of the hub; `act` returns the flash banner's kind and words.
async function control(button, act) {
  button.disabled = true;
  try {
    flash(...(await act()));
  } catch (error) {
    flash("error", `${button.textContent} failed: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}

const list = (names) => names.join(", ") || "none";

byId("refresh").addEventListener("click", (event) =>
  control(event.target, async () => {
    if (!(await refresh())) throw new Error("the hub did not answer.");
    return ["ok", "Snapshot refreshed"];
  }),
);

byId("reload").addEventListener("click", (event) =>
  control(event.target, async () => {
    const { started, stopped, unchanged } = await post("/hub/reload").finally(refresh);
    return ["ok", `Hub reloaded: started=${list(started)} | stopped=${list(stopped)} | unchanged=${list(unchanged)}`];
  }),
);

byId("stop").addEventListener("click", (event) =>
  control(event.target, async () => {
    const { message } = await post("/hub/shutdown");
    schedule();
    return ["stop", `${message}: the hub finishes its requests, stops every model and exits.`];
  }),
);

byId("auto").addEventListener("change", (event) => (event.target.checked ? refresh() : schedule()));
document.addEventListener("visibilitychange", () => (document.hidden ? schedule() : refresh()));

// Browsers hand out the clipboard on https and localhost only; elsewhere the URL is selected.
byId("copy").addEventListener("click", async () => {
  const url = byId("openai-url");
  try {
    await navigator.clipboard.writeText(url.textContent);
    toast("OpenAI URL copied");
  } catch {
    getSelection().selectAllChildren(url);
    toast("OpenAI URL selected, ready to copy");
  }
});

const embedded = byId("snapshot")?.textContent.trim();
if (embedded) {
  snapshot = JSON.parse(embedded);
  show();
}
refresh();
