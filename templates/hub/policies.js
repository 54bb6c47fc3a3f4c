// The policies, and what they and others decided.

import { ask, byId, clone, duration, element, fieldOf, setChoices, setText, showList, timeOf } from "./page.js";

const AGAIN_MS = 3000;
const LIMIT = 100;

let timer = null;

export function showPolicies(snapshot) {
  setChoices(byId("decisions-model"), snapshot.models.map((model) => model.id));
  if (timer === null && isSeen()) again();
}

const isSeen = () => !byId("view-policies").hidden && !document.hidden;

async function again() {
  timer = setTimeout(() => {
    timer = null;
    if (isSeen()) again();
  }, AGAIN_MS);
  const model = byId("decisions-model").value;
  const about = model ? `&model=${encodeURIComponent(model)}` : "";
  try {
    const [{ policies }, { decisions }] = await Promise.all([
      ask("/hub/policies"),
      ask(`/hub/policies/decisions?limit=${LIMIT}${about}`),
    ]);
    showList(byId("policies"), policies, (policy) => policy.name, () => clone("policy-row"), fill);
    showDecisions(byId("decisions"), decisions);
    byId("no-decisions").hidden = decisions.length > 0;
  } catch {
    // The page says already that the hub is away.
  }
}

function fill(node, policy) {
  const field = fieldOf(node);
  setText(field("name"), policy.switched_off ? `${policy.name} (switched off)` : policy.name);
  node.dataset.bad = String(policy.switched_off || policy.failures > 0);
  setText(field("hooks"), [...policy.hooks, ...policy.observes].join(", "));
  for (const key of ["calls", "verdicts", "failures"]) setText(field(key), String(policy[key]));
  const average = policy.average_seconds;
  setText(field("takes"), average === null ? "—" : average < 0.001 ? `${(average * 1e6).toFixed(1)} µs` : duration(average));
  setText(field("error"), policy.last_error ?? "—");
}

/** Decisions, the newest first: when, what, by whom, why, and what became of it. */
export const showDecisions = (box, decisions) => showList(box, decisions.toReversed(), JSON.stringify, decisionLine);

function decisionLine(decision) {
  const line = document.createElement("li");
  const times = decision.times > 1 ? `, ${decision.times} times` : "";
  line.append(element("time", `${timeOf(decision.last_time).toLocaleTimeString()}${times}`, "detail"));
  line.append(" ", element("strong", decision.model ? `${decision.model}: ${decision.verdict}` : decision.verdict));
  if (decision.reason) line.append(` — ${decision.reason}`);
  const by = [decision.by ?? decision.place ?? decision.policy, decision.hook].filter(Boolean).join(" · ");
  line.append(" ", element("span", by, "detail"));
  if (decision.outcome) line.append(" ", element("span", `→ ${decision.outcome}`, "outcome"));
  return line;
}

byId("decisions-model").addEventListener("change", () => {
  clearTimeout(timer);
  again();
});
