// The requests in flight, each with a clock, and their cancellation.

import { byId, clone, confirmed, duration, fieldOf, flash, post, setText, timeOf } from "./page.js";
import { apiOf } from "./requests.js";

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
    flights.get(number)?.row.remove();
    flights.delete(number);
  }
  for (const request of requests) {
    const known = flights.get(request.number);
    flights.set(request.number, { request, row: known?.row ?? newRow(request.number) });
  }
  showFlights(now);
}

export function showFlights(now) {
  byId("no-flights").hidden = flights.size > 0;
  byId("flights-table").hidden = flights.size === 0;
  if (byId("view-requests").hidden) return;
  const model = byId("requests-model").value;
  for (const { request, row } of flights.values()) {
    row.hidden = Boolean(model) && request.model !== model;
    if (!row.hidden) fill(row, request, now);
  }
}

function newRow(number) {
  const row = clone("flight-row");
  row.querySelector("button").addEventListener("click", () => cancel(flights.get(number).request));
  byId("flights").append(row);
  return row;
}

function fill(row, request, now) {
  const field = fieldOf(row);
  const time = timeOf(request.time);
  row.title = `${request.method} ${request.path}\nid ${request.id}`;
  setText(field("since"), time.toLocaleTimeString());
  field("since").dateTime = time.toISOString();
  setText(field("for"), duration(Math.max(now - request.time, 0)));
  field("stage").dataset.state = COLOURS[request.stage];
  setText(field("stage"), request.stage);
  setText(field("model"), request.model ?? "—");
  setText(field("client"), request.client);
  setText(field("path"), apiOf(request));
  row.querySelector("button").setAttribute("aria-label", `Cancel the request ${request.id} to ${request.model ?? "no model"}`);
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
