// The requests that ended last.

import { byId, clone, duration, fieldOf, setChoices, setText, timeOf } from "./page.js";

/** As many as the hub keeps. */
const KEPT = 500;
/** Rows in the table; more would only cost. */
const SHOWN = 100;

let requests = [];
let isStale = true;

export function addRequests(more) {
  const newest = requests.at(-1)?.number ?? 0;
  // A stream that begins again has them all again; a hub that began again counts from one.
  requests = more.length && more.at(-1).number < newest ? more : [...requests, ...more.filter(({ number }) => number > newest)];
  requests = requests.slice(-KEPT);
  isStale = true;
  showRequests();
}

export function showRequests(snapshot) {
  const select = byId("requests-model");
  if (snapshot) setChoices(select, snapshot.models.map((model) => model.id));
  if (byId("view-requests").hidden || !isStale) return;
  isStale = false;
  const onlyFailed = byId("requests-failed").checked;
  const wanted = requests.filter(({ model, status }) => (!select.value || model === select.value) && (!onlyFailed || status >= 400));
  const rows = wanted.slice(-SHOWN).reverse().map(row);
  byId("no-requests").hidden = rows.length > 0;
  setText(byId("requests-count"), wanted.length > SHOWN ? `the newest ${SHOWN} of ${wanted.length}` : "");
  byId("requests").replaceChildren(byId("no-requests"), ...rows);
}

/** The route of OpenAI's API, or the name of another. */
export const apiOf = ({ protocol, path }) => (protocol === "openai" ? path.replace(/^\/v1\//, "") : protocol);

function row(request) {
  const node = clone("request-row");
  const field = fieldOf(node);
  const time = timeOf(request.time);
  setText(field("time"), time.toLocaleTimeString());
  field("time").dateTime = time.toISOString();
  node.title = `${request.method} ${request.path}\nid ${request.id}`;
  const status = field("status");
  const note = request.cancelled ? "cancelled" : request.status === 499 ? "client left" : "";
  status.dataset.state = request.status < 400 ? "ok" : note ? "degraded" : "error";
  setText(status, `${request.status} ${note}`.trim());
  setText(field("model"), request.model ?? "—");
  setText(field("client"), request.client);
  setText(field("path"), apiOf(request));
  const seconds = (value) => (value ? duration(value) : "—");
  setText(field("waited"), seconds(request.wait_seconds));
  setText(field("first"), seconds(request.first_token_seconds));
  setText(field("took"), seconds(request.seconds));
  const tokens = [request.prompt_tokens, request.completion_tokens];
  setText(field("tokens"), tokens.every((value) => value === null) ? "—" : tokens.map((value) => value ?? "?").join(" → "));
  setText(field("rate"), request.tokens_per_second ? request.tokens_per_second.toFixed(1) : "—");
  return node;
}

for (const id of ["requests-model", "requests-failed"]) {
  byId(id).addEventListener("change", () => {
    isStale = true;
    showRequests();
  });
}
