// The requests that ended last.

import { noteCapture, offerBodies } from "./capture.js";
import { byId, clone, count, duration, fieldOf, setChoices, setText, showList, timeOf } from "./page.js";

/** As many as the hub keeps. */
const KEPT = 500;

let requests = [];
let isStale = true;

/** The number of the newest one that is known; 0 if none is. */
export const newestRequest = () => requests.at(-1)?.number ?? 0;

export function addRequests(more) {
  if (!more.length) return;
  const newest = newestRequest();
  // A stream that begins again has them all again; a hub that began again counts from one.
  requests = more.length && more.at(-1).number < newest ? more : [...requests, ...more.filter(({ number }) => number > newest)];
  requests = requests.slice(-KEPT);
  isStale = true;
  showRequests();
}

export function showRequests(snapshot) {
  const select = byId("requests-model");
  if (snapshot) {
    setChoices(select, snapshot.models.map((model) => model.id));
    isStale = noteCapture(snapshot) || isStale;
  }
  if (byId("view-requests").hidden || !isStale) return;
  isStale = false;
  const onlyFailed = byId("requests-failed").checked;
  const wanted = requests.filter(({ model, status }) => (!select.value || model === select.value) && (!onlyFailed || status >= 400));
  byId("no-requests").hidden = wanted.length > 0;
  setText(byId("requests-count"), wanted.length ? count(wanted.length, "request") : "");
  showList(byId("requests"), wanted.toReversed(), keyOf, row, offerBodies);
}

/** Another hub counts from one again. */
const keyOf = ({ number, id, time }) => `${number} ${id} ${time}`;

/** The route of OpenAI's API, or the name of another. */
export const apiOf = ({ protocol, path }) => (protocol === "openai" ? path.replace(/^\/v1\//, "") : protocol);

export const wholeOf = ({ method, path, id }) => `${method} ${path}, id ${id}`;

function row(request) {
  const node = clone("request-row");
  const field = fieldOf(node);
  const time = timeOf(request.time);
  setText(field("time"), time.toLocaleTimeString());
  field("time").dateTime = time.toISOString();
  const status = field("status");
  const note = request.cancelled ? "cancelled" : request.status === 499 ? "client left" : "";
  status.dataset.state = request.status < 400 ? "ok" : note ? "degraded" : "error";
  setText(status, `${request.status} ${note}`.trim());
  setText(field("model"), request.model ?? "—");
  setText(field("client"), request.client);
  setText(field("path"), apiOf(request) || "—");
  setText(field("whole"), wholeOf(request));
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
