// The status page: listens to /hub/events, shows what has changed, sends what is clicked.

import { ask, byId, bytes, clearFlash, clone, confirmed, count, element, fieldOf, firstLine, flash, keepFocus, list, policyLines, post, setOptional, setText, settleFlash, showList, steadily, timeOf, toast } from "./page.js";
import { isDone, isMoving, showModels } from "./models.js";
import { addRequests, newestRequest, showRequests } from "./requests.js";
import { changeFlights, forgetFlights, setFlights, showFlights } from "./flights.js";
import { showLogs } from "./logs.js";
import { showChat } from "./chat.js";
import { showPolicies } from "./policies.js";
import { showClients } from "./clients.js";

const POLL_MS = 5000;
const POLL_IN_TRANSITION_MS = 1000;
const GIVE_UP_MS = 10000;

let snapshot = null;
/** True while the hub cannot be reached. */
let isLost = false;
/** Seconds by which the hub's clock is ahead of the browser's. */
let ahead = 0;

// Showing a snapshot

const show = () => steadily(draw);

function draw() {
  const { status, counts, timestamp, warnings, groups, models } = snapshot;
  ahead = timestamp - Math.floor(Date.now() / 1000);
  showPill(status);
  settleFlash(snapshot);
  const failed = models.filter(({ metadata }) => [metadata.process_state, metadata.memory_state].includes("failed"));
  showNotice("failed", failed.length && `${failed.length} failed`, failed, (model) => model.id, failedLine);
  setText(byId("started"), `${counts.started} / ${counts.registered} started`);
  setText(byId("loaded"), `${counts.loaded} / ${counts.registered} loaded`);
  const sum = (key) => models.reduce((sum, { metadata }) => sum + (metadata[key] ?? 0), 0);
  setText(byId("active"), `${sum("active_requests")} in flight`);
  setText(byId("queued"), `${sum("waiting_requests") + sum("parked_requests")} waiting`);
  showMemory(snapshot.memory, sum("memory_bytes"));
  const spares = snapshot.spares.filter((spare) => spare.ready).length;
  // Its line stays once it is there.
  if (spares > 0 || !byId("spares").hidden) setOptional(byId("spares"), `${spares} spare`);
  const updated = byId("updated");
  setText(updated, timeOf(timestamp).toLocaleTimeString());
  updated.dateTime = timeOf(timestamp).toISOString();
  showNotice("warnings", warnings.length && count(warnings.length, "warning"), warnings, (warning) => warning, (warning) => element("li", warning));
  showGroups(groups);
  showViews();
}

const now = () => Date.now() / 1000 + ahead;

function showViews() {
  showModels(snapshot, now());
  showRequests(snapshot);
  showFlights(now());
  showLogs(snapshot);
  showChat(snapshot);
  showPolicies(snapshot);
  showClients(snapshot);
  // Not part of the first load.
  if (!byId("view-charts").hidden) import("./charts.js").then(({ showCharts }) => showCharts(snapshot));
  if (byId("view-config")?.hidden === false) import("./config.js").then(({ showConfig }) => showConfig());
}

function showPill(status) {
  const pill = byId("status");
  pill.dataset.state = status;
  setText(pill, status);
}

function showMemory({ total, available, pressure }, ofModels) {
  const bar = byId("memory-bar");
  bar.hidden = total === null || available === null;
  if (!bar.hidden) {
    bar.value = (total - available) / total;
    bar.dataset.pressure = pressure;
  }
  const free = available === null ? "free memory unknown" : `${bytes(available)} free`;
  const ofTotal = total === null ? "" : ` of ${bytes(total)}`;
  setText(byId("memory-models"), `models ${bytes(ofModels)}`);
  setText(byId("memory-free"), `${free}${ofTotal}`);
}

/** A counter that opens a list; both go when there is nothing to say. */
function showNotice(id, words, items, keyOf, make, fill) {
  setOptional(byId(id), words);
  const box = byId(`${id}-list`);
  if (!items.length && box.matches(":popover-open")) box.hidePopover();
  showList(box.querySelector("ul"), items, keyOf, make, fill);
}

/** A failed model, which a click leads to. */
function failedLine({ id }) {
  const line = document.createElement("li");
  const button = element("button", id, "quiet");
  button.addEventListener("click", () => {
    byId("failed-list").hidePopover();
    openView("models");
    const row = document.querySelector(`.model[data-model="${CSS.escape(id)}"]`);
    row?.scrollIntoView({ block: "center" });
    row?.querySelector(".name").focus({ preventScroll: true });
  });
  line.append(button);
  return line;
}

function showGroups(groups) {
  byId("groups").hidden = groups.length === 0;
  showList(byId("groups"), groups, (group) => group.name, () => clone("group-chip"), (chip, group) => {
    const field = fieldOf(chip);
    const { name, members, loaded, max_loaded: cap, idle_unload_trigger_min: idle } = group;
    chip.dataset.full = cap !== null && loaded.length >= cap;
    setText(field("name"), name);
    setText(field("loaded"), cap === null ? `${loaded.length} loaded, no cap` : `${loaded.length} of ${cap} loaded`);
    setOptional(field("idle"), idle === null ? null : `idle limit ${idle} min`);
    const states = members.map((member) => (loaded.includes(member) ? `${member} (loaded)` : member));
    setText(field("members"), `Members: ${list(states)}`);
  });
}

// Keeping up with the hub: by events, or by asking where there are none

let events = null;
/** True once events come: between hub and page something may hold them back. */
let isLive = false;
let pollTimer;
let current;

/** Listens to the hub's events while the page can be seen and wants to be refreshed. */
function listen() {
  const isWanted = byId("auto").checked && !document.hidden;
  if (!isWanted) {
    events?.close();
    events = null;
    isLive = false;
    clearTimeout(pollTimer);
    return;
  }
  if (events) return;
  events = new EventSource("/hub/events");
  const on = (name, act) => events.addEventListener(name, ({ data }) => act(JSON.parse(data)));
  on("status", (status) => {
    isLive = true;
    clearTimeout(pollTimer);
    forgetFlights();
    found(status);
  });
  on("change", ({ order, models, ...rest }) => {
    const all = new Map(snapshot.models.map((model) => [model.id, model]));
    for (const model of models) all.set(model.id, model);
    const names = order ?? snapshot.models.map((model) => model.id);
    found({ ...rest, models: names.map((name) => all.get(name)) });
  });
  on("requests", (ended) => steadily(() => addRequests(ended)));
  on("in_flight", (changed) => steadily(() => changeFlights(changed, now())));
  // The browser tries again by itself, unless it was refused.
  events.addEventListener("error", () => {
    isLive = false;
    if (events?.readyState === EventSource.CLOSED) events = null;
    refresh();
  });
  schedule();
}

/** Asks for all that events do not tell at the moment. */
async function askForAll(signal) {
  const status = await ask("/hub/status", { signal });
  if (isLive) return { status };
  // The requests of another hub have other numbers.
  const after = status.pid === snapshot?.pid ? newestRequest() : 0;
  const { requests, in_flight: flying } = await ask(`/hub/requests?after=${after}`, { signal });
  return { status, requests, flying };
}

async function refresh() {
  clearTimeout(pollTimer);
  current?.abort();
  const mine = new AbortController();
  current = mine;
  const limit = setTimeout(() => mine.abort(), GIVE_UP_MS);
  let failure = null;
  try {
    const { status, requests, flying } = await askForAll(mine.signal);
    if (current !== mine) return true;
    found(status);
    // Events may have come meanwhile.
    if (!isLive && requests) {
      steadily(() => {
        addRequests(requests);
        setFlights(flying, now());
      });
    }
  } catch (error) {
    if (current !== mine) return true;
    failure = error;
    missed(error);
  } finally {
    clearTimeout(limit);
  }
  if (!isLive) schedule();
  return failure === null;
}

function found(status) {
  snapshot = status;
  setLost(false);
  setOptional(byId("error"), null);
  show();
}

function missed(failure) {
  const hint = byId("auto").checked ? " This page keeps trying." : "";
  const words = failure.name === "AbortError" ? "The hub does not answer." : failure.message;
  // What was said of the hub says no more than this.
  clearFlash();
  setOptional(byId("error"), `${words}${hint}`);
  setLost(true);
  showPill("error");
}

function setLost(now) {
  isLost = now;
  document.body.classList.toggle("stale", isLost);
  for (const id of controls) setControl(id);
}

/** Asks again after a while, and tries to listen. */
function schedule() {
  clearTimeout(pollTimer);
  if (!byId("auto").checked || document.hidden) return;
  const moving = isMoving(snapshot);
  pollTimer = setTimeout(() => {
    listen();
    refresh();
  }, moving ? POLL_IN_TRANSITION_MS : POLL_MS);
}

// What is clicked

/** Tells whether the hub has been away, degraded or replaced, and is well now. */
function mending() {
  const { pid } = snapshot ?? {};
  let wasIll = false;
  return (now) => {
    const isWell = byId("status").dataset.state === "ok";
    wasIll ||= !isWell || now.pid !== pid;
    return wasIll && isWell;
  };
}

const controls = [];
/** Those that wait for their answer. */
const waiting = new Set();

/** Nothing but to ask again makes sense while the hub cannot be reached. */
const setControl = (id) => (byId(id).disabled = waiting.has(id) || (isLost && id !== "refresh"));

/** Runs a control of the hub; `act` returns what `flash` takes, or nothing. */
function control(id, act) {
  const button = byId(id);
  controls.push(id);
  button.addEventListener("click", async () => {
    waiting.add(id);
    setControl(id);
    clearFlash();
    try {
      const message = await act();
      if (message) flash(...message);
    } catch (error) {
      flash("error", `${button.textContent} failed: ${firstLine(error.message)}`, mending());
    } finally {
      waiting.delete(id);
      setControl(id);
      keepFocus(button);
      if (!isLive) refresh();
    }
  });
}

// The banner of a hub that cannot be reached says it already.
control("refresh", async () => ((await refresh()) ? ["ok", "Snapshot refreshed"] : null));

control("reload", async () => {
  const { started, stopped, unchanged, policies } = await post("/hub/reload");
  const kind = policies?.refused.length ? "error" : "ok";
  return [kind, `Hub reloaded: started=${list(started)} | stopped=${list(stopped)} | unchanged=${list(unchanged)}${policyLines(policies)}`];
});

function allReport(verb, word, { done, busy, failed }) {
  const parts = [`${word}: ${list(done)}`];
  if (busy.length) parts.push(`in use, not ${word.toLowerCase()}: ${list(busy)}`);
  const reasons = Object.entries(failed).map(([name, reason]) => `${name}: ${firstLine(reason)}`);
  return reasons.length ? ["error", [...parts, ...reasons].join("\n"), isDone(verb, Object.keys(failed))] : ["ok", parts.join("\n")];
}

control("unload-all", async () => allReport("unload", "Unloaded", await post("/hub/models/unload-all")));

const inFlight = () => snapshot.models.reduce((sum, { metadata }) => sum + metadata.active_requests, 0);
const endsFirst = () => (inFlight() ? ` ${count(inFlight(), "request")} in flight will be answered first.` : "");

control("stop-all", async () => {
  const started = snapshot.models.filter(({ metadata }) => ["starting", "running"].includes(metadata.process_state));
  const names = list(started.map((model) => model.id));
  const text = `Started now: ${names}.${endsFirst()} The hub goes on; start models again with their buttons.`;
  if (!(await confirmed("Stop all models?", text, "Stop all models"))) return null;
  return allReport("stop", "Stopped", await post("/hub/models/stop-all"));
});

control("stop", async () => {
  const text = `Every model is stopped and nothing answers at ${byId("openai-url").textContent} any more, this page included.${endsFirst()}`;
  if (!(await confirmed("Stop the hub?", text, "Stop hub"))) return null;
  const { message } = await post("/hub/shutdown");
  return ["stop", `${message}: the hub finishes its requests, stops every model and exits.`, mending()];
});

byId("auto").addEventListener("change", (event) => {
  listen();
  if (event.target.checked) refresh();
});
document.addEventListener("visibilitychange", () => {
  listen();
  if (!document.hidden) refresh();
});

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

// Views

const tabs = [...document.querySelectorAll("[role=tab]")];

/** Shows the view of that name; the page's address names it, so that it can be linked and reloaded. */
function openView(name) {
  const tab = byId(`tab-${name}`) ?? tabs[0];
  for (const other of tabs) {
    const isOpen = other === tab;
    other.setAttribute("aria-selected", String(isOpen));
    other.tabIndex = isOpen ? 0 : -1;
    byId(other.getAttribute("aria-controls")).hidden = !isOpen;
  }
  history.replaceState(null, "", tab === tabs[0] ? location.pathname : `#${tab.id.slice("tab-".length)}`);
  if (snapshot) showViews();
}

for (const [index, tab] of tabs.entries()) {
  tab.addEventListener("click", () => openView(tab.id.slice("tab-".length)));
  tab.addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (!step) return;
    const next = tabs.at((index + step) % tabs.length);
    next.focus();
    next.click();
  });
}

// From a model to what else there is about it.
document.addEventListener("click", ({ target }) => {
  const view = target.dataset?.goto;
  if (!view) return;
  const select = byId({ logs: "log-of", requests: "requests-model", charts: "charts-model", chat: "chat-model", policies: "decisions-model" }[view]);
  openView(view);
  select.value = target.closest("tbody").dataset.model;
  select.dispatchEvent(new Event("change"));
});

byId("requests-model").addEventListener("change", () => showFlights(now()));

const embedded = byId("snapshot")?.textContent.trim();
if (embedded) {
  snapshot = JSON.parse(embedded);
  draw();
}
openView(location.hash.slice(1) || "models");
// Whoever has scrolled down sees the messages too.
new IntersectionObserver(([{ isIntersecting }]) => byId("messages").classList.toggle("away", !isIntersecting)).observe(byId("messages").parentElement);
addEventListener("hashchange", () => openView(location.hash.slice(1) || "models"));
// Times that pass are shown as they pass.
setInterval(() => {
  if (!snapshot || document.hidden) return;
  steadily(() => {
    showModels(snapshot, now());
    showFlights(now());
  });
}, 1000);
listen();
