// The requests in flight, each with a clock, and their cancellation.

import { offerBodies } from "./capture.js";
import { byId, clone, confirmed, duration, fieldOf, flash, isAimedAt, post, setText, timeOf } from "./page.js";
import { apiOf, wholeOf } from "./requests.js";

/** The state that colours each stage. */
const COLOURS = { waiting: "degraded", sent: "starting", answering: "running" };

/** The requests and their rows, by number. */
const flights = new Map();

export function forgetFlights() {
  for (const { row } of flights.values()) row.remove();
  flights.clear();
}

/** Takes in those that are new or got further, and drops those that are gone. */
export function changeFlights({ requests, gone }, now) {
  for (const number of gone) {
    flights.get(number)?.row.classList.add("gone");
    flights.delete(number);
  }
  for (const request of requests) {
    const known = flights.get(request.number);
    flights.set(request.number, { request, row: known?.row ?? newRow(request.number) });
  }
  showFlights(now);
}

/** Takes all of them, in the place of those that are known. */
export function setFlights(requests, now) {
  const numbers = new Set(requests.map(({ number }) => number));
  changeFlights({ requests, gone: [...flights.keys()].filter((number) => !numbers.has(number)) }, now);
}

export function showFlights(now) {
  const [table, rows] = [byId("flights-table"), byId("flights")];
  // While the pointer is over them, those that are gone leave their places empty: another must not come under it.
  if (!isAimedAt(table)) for (const row of rows.querySelectorAll(".gone")) row.remove();
  byId("no-flights").hidden = rows.childElementCount > 0;
  table.hidden = rows.childElementCount === 0;
  if (byId("view-requests").hidden) return;
  const model = byId("requests-model").value;
  for (const { request, row } of flights.values()) {
    row.hidden = Boolean(model) && request.model !== model;
    if (!row.hidden) fill(row, request, now);
  }
}

function newRow(number) {
  const row = clone("flight-row");
  fieldOf(row)("cancel").addEventListener("click", () => cancel(flights.get(number).request));
  byId("flights").append(row);
  return row;
}

function fill(row, request, now) {
  const field = fieldOf(row);
  const time = timeOf(request.time);
  setText(field("since"), time.toLocaleTimeString());
  field("since").dateTime = time.toISOString();
  setText(field("for"), duration(Math.max(now - request.time, 0)));
  field("stage").dataset.state = COLOURS[request.stage];
  setText(field("stage"), request.stage);
  setText(field("model"), request.model ?? "—");
  setText(field("client"), request.client);
  setText(field("path"), apiOf(request) || "—");
  setText(field("whole"), wholeOf(request));
  offerBodies(row, request);
  field("cancel").setAttribute("aria-label", `Cancel the request ${request.id} to ${request.model ?? "no model"}`);
}

async function cancel({ id, model, client, path }) {
  const text = `${path} of ${client}${model ? ` to ${model}` : ""}, id ${id}. Its client gets an error.`;
  if (!(await confirmed("Cancel this request?", text, "Cancel request", "Let it run"))) return;
  try {
    await post(`/hub/requests/${encodeURIComponent(id)}/cancel`);
  } catch (error) {
    flash("error", `Cancel failed: ${error.message}`);
  }
}
