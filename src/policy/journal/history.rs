//! The recent decisions, from which `policy explain` gives its reasons: a bounded ring of verdicts, of changes
//! that no policy decided, and of the outcome of each.
//!
//! Hooks and their verdicts come from [`super::witness`], changes from the lifecycle and the control
//! API, and outcomes from the events that observers hear too. Verdicts on requests have a ring of their
//! own, so that they never displace one about a model.

use std::collections::VecDeque;
use std::net::IpAddr;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::eviction::Eviction;
use super::ruling::{Question, Ruling};
use crate::api::{Decision, DecisionsReport, Verb, WantedDecisions};
use crate::policy::bindings::verdicts::Verdict;
use crate::policy::host::Policy;
use crate::policy::interface::hook::Hook;
use crate::policy::set::HookAnswer;
use crate::policy::{Details, Event, EventName, ModelEvent, RequestView, World};

/// Decisions about models that are kept.
const MODELS: usize = 1000;
/// Decisions about requests that are kept.
const REQUESTS: usize = 250;
/// Longer texts are clipped, in characters.
const CLIP: usize = 300;
/// Longer lists are clipped.
const LIST: usize = 20;
/// Seconds for which repeated verdicts on requests to a model count as one.
const TOGETHER: f64 = 60.0;
/// Prefix of the outcome of a route to a model.
const SENT_TO: &str = "sent to ";

/// The rings.
#[derive(Debug, Default)]
pub(crate) struct History {
    rings: Mutex<Rings>,
}

#[derive(Debug, Default)]
struct Rings {
    numbers: u64,
    models: VecDeque<Decision>,
    requests: VecDeque<Decision>,
    /// The gist of each of `requests`, in their order.
    said: VecDeque<Option<Gist>>,
    is_shutting_down: bool,
}

/// A verdict on a request, to recognise a repeated one quickly.
#[derive(Debug)]
struct Gist {
    verdict: Verdict,
    client: IpAddr,
}

impl Gist {
    fn of(asked: &Question<'_>, ruling: &Ruling) -> Option<Self> {
        match (asked, &ruling.answer) {
            (Question::Request(view), HookAnswer::Verdict(verdict)) => Some(Self {
                verdict: verdict.clone(),
                client: view.client.ip(),
            }),
            _ => None,
        }
    }
}

impl History {
    /// Records a verdict if a policy decided, or if the question is one that is always kept.
    pub(crate) fn decided(
        &self,
        asked: &Question<'_>,
        ruling: &Ruling,
        policies: &[Policy],
        world: &dyn World,
    ) {
        let hook = asked.hook();
        let now = world.clock();
        if let Question::Request(view) = asked
            && self.decided_again(view, ruling, policies, world, now)
        {
            return;
        }
        let mut decision = Decision {
            time: now,
            last_time: now,
            times: 1,
            hook: Some(hook.name().to_owned()),
            model: asked.model().map(clipped),
            request: request_id(asked),
            policy: ruling.policy.map(|policy| policies[policy].name.clone()),
            place: ruling.place.as_deref().map(clipped),
            reason: ruling.reason.as_deref().map(clipped),
            verdict: ruling.word(hook).to_owned(),
            fields: clipped_fields(ruling.fields()),
            inputs: inputs(asked, world),
            failed: ruling.failed.iter().map(|text| clipped(text)).collect(),
            outcome: outcome_at_once(hook, &ruling.answer, world),
            ..Decision::default()
        };
        let abstained = ruling.abstained(hook, policies).take(LIST);
        decision.abstained = abstained.map(str::to_owned).collect();
        let mut rings = self.rings.lock();
        rings.settle(&decision);
        rings.add(
            decision,
            Some(Gist::of(asked, ruling)).filter(|_| hook == Hook::Request),
        );
    }

    /// Counts a verdict on a request that equals the one before in every word: most do, and formatting it costs
    /// more than the policies.
    fn decided_again(
        &self,
        view: &RequestView,
        ruling: &Ruling,
        policies: &[Policy],
        world: &dyn World,
        now: f64,
    ) -> bool {
        let HookAnswer::Verdict(verdict) = &ruling.answer else {
            return false;
        };
        let mut rings = self.rings.lock();
        let Rings { requests, said, .. } = &mut *rings;
        let same_model = |other: &Decision| other.model == view.model;
        let Some(index) = requests.iter().rposition(same_model) else {
            return false;
        };
        let before = &mut requests[index];
        let policy = ruling.policy.map(|policy| &policies[policy].name);
        let is_said = said[index]
            .as_ref()
            .is_some_and(|said| said.verdict == *verdict && said.client == view.client.ip());
        let is_same = is_said
            && before.place.as_deref() == ruling.place.as_deref()
            && before.reason.as_deref() == ruling.reason.as_deref()
            && before.policy.as_ref() == policy
            && before.failed == ruling.failed
            && before.inputs.get("path").and_then(Value::as_str) == Some(view.parts.uri.path())
            && now - before.time < TOGETHER
            && target_of(verdict).is_none_or(|target| {
                let outcome = before.outcome.as_deref().unwrap_or_default();
                let facts = world.facts(target);
                facts.is_some_and(|facts| outcome.strip_prefix(SENT_TO) == Some(&facts.name))
            });
        if is_same {
            before.times += 1;
            before.last_time = now;
            put_id(before.request.get_or_insert_default(), view);
        }
        is_same
    }

    /// Records a change that no policy decided: `what` was done to `model` at the request of `by`. Returns the
    /// number for [`Self::ended`].
    pub(crate) fn done(
        &self,
        now: f64,
        model: Option<&str>,
        what: &str,
        by: &str,
        why: Option<&str>,
    ) -> u64 {
        let mut rings = self.rings.lock();
        if what == "shutdown" {
            rings.is_shutting_down = true;
        }
        let decision = Decision {
            time: now,
            last_time: now,
            times: 1,
            model: model.map(clipped),
            verdict: what.to_owned(),
            by: Some(by.to_owned()),
            reason: why.map(clipped),
            ..Decision::default()
        };
        rings.add(decision, None)
    }

    /// Records the outcome of the decision of that number, unless it has one.
    pub(crate) fn ended(&self, number: u64, outcome: &str) {
        let mut rings = self.rings.lock();
        let mut models = rings.models.iter_mut().rev();
        if let Some(decision) = models.find(|decision| decision.number == number) {
            decision.outcome.get_or_insert_with(|| clipped(outcome));
        }
    }

    /// Records that the open verdict of `hook` about `model` was not carried out: `what` came before.
    pub(crate) fn overtaken(&self, model: &str, hook: Hook, what: &str) {
        let mut rings = self.rings.lock();
        let open = rings.open(model, |decision| {
            decision.hook.as_deref() == Some(hook.name())
        });
        if let Some(decision) = open {
            decision.outcome = Some(format!("not done: {what} came meanwhile"));
        }
    }

    /// Records an event: the outcome of a decision, or an entry of its own.
    pub(crate) fn observe(&self, event: &Event) {
        let Details::Model(details) = &event.details else {
            return;
        };
        let mut rings = self.rings.lock();
        rings.happened(event.name, event.time, details);
    }

    /// Why a model is no longer in memory, at the moment at which it is not.
    pub(crate) fn eviction(&self, model: &str) -> Eviction {
        let rings = self.rings.lock();
        let explanation = rings.explanation(model);
        explanation.map_or_else(Eviction::default, |decision| Eviction::of(decision, model))
    }

    /// The decisions of the query, the oldest first.
    pub(crate) fn report(&self, wanted: &WantedDecisions) -> DecisionsReport {
        let rings = self.rings.lock();
        let mut decisions: Vec<Decision> = rings
            .models
            .iter()
            .chain(&rings.requests)
            .filter(|decision| wanted.takes(decision))
            .cloned()
            .collect();
        let oldest = rings
            .models
            .front()
            .into_iter()
            .chain(rings.requests.front());
        let since = oldest.map(|decision| decision.time).reduce(f64::min);
        drop(rings);
        decisions.sort_by(|one, other| {
            let by_time = one.last_time.total_cmp(&other.last_time);
            by_time.then(one.number.cmp(&other.number))
        });
        if let Some(limit) = wanted.limit {
            decisions.drain(..decisions.len().saturating_sub(limit));
        }
        DecisionsReport { decisions, since }
    }
}

impl Rings {
    /// Adds a decision, or counts it to the one before if it repeats that. A decision about a request comes with
    /// its verdict.
    fn add(&mut self, mut decision: Decision, said: Option<Option<Gist>>) -> u64 {
        self.numbers += 1;
        decision.number = self.numbers;
        let (ring, most) = match said {
            Some(_) => (&mut self.requests, REQUESTS),
            None => (&mut self.models, MODELS),
        };
        let same_question = |other: &Decision| {
            other.hook == decision.hook && other.model == decision.model && other.hook.is_some()
        };
        if let Some(index) = ring.iter().rposition(same_question)
            && is_repeated(&ring[index], &decision)
        {
            if let Some(said) = said {
                self.said[index] = said;
            }
            let before = &mut ring[index];
            before.times += 1;
            before.last_time = decision.time;
            before.inputs = decision.inputs;
            before.reason = decision.reason;
            before.request = decision.request;
            return before.number;
        }
        let is_full = ring.len() == most;
        if is_full {
            ring.pop_front();
        }
        ring.push_back(decision);
        if let Some(said) = said {
            if is_full {
                self.said.pop_front();
            }
            self.said.push_back(said);
        }
        self.numbers
    }

    /// The newest decision without an outcome that is about `model` and fits.
    fn open(&mut self, model: &str, fits: impl Fn(&Decision) -> bool) -> Option<&mut Decision> {
        let mut models = self.models.iter_mut().rev();
        models.find(|decision| {
            decision.outcome.is_none() && decision.model.as_deref() == Some(model) && fits(decision)
        })
    }

    /// A new decision about a load ends a wait for one.
    fn settle(&mut self, decision: &Decision) {
        let hook = Hook::Load.name();
        if decision.hook.as_deref() != Some(hook) || decision.verdict == "wait" {
            return;
        }
        let model = decision.model.clone().unwrap_or_default();
        let waits = |open: &Decision| open.hook.as_deref() == Some(hook) && open.verdict == "wait";
        if let Some(open) = self.open(&model, waits) {
            let waited = decision.time - open.time;
            open.outcome = Some(format!("asked again after {waited:.1} s"));
        }
    }

    fn happened(&mut self, name: EventName, time: f64, event: &ModelEvent) {
        let model = event.model.as_str();
        let (outcome, causes): (String, &[&str]) = match name {
            EventName::ModelStarted => ("started".to_owned(), &["restart"]),
            EventName::ModelLoaded => (loaded(event.seconds), &["allow", "evict"]),
            EventName::ModelUnloaded => ("unloaded".to_owned(), &["unload"]),
            EventName::ModelStopped => ("stopped".to_owned(), &["stop", "restart"]),
            EventName::ModelFailed => {
                let error = event.error.as_deref().unwrap_or("it failed");
                let error = error.lines().next().unwrap_or_default();
                (format!("failed: {error}"), &["allow", "evict", "restart"])
            }
            _ => return,
        };
        // A hung worker is ended before it is started again: its end is no failure of the restart.
        let is_meant = |decision: &Decision| {
            name == EventName::ModelFailed && decision.hook.as_deref() == Some(Hook::Trouble.name())
        };
        let fits = |decision: &Decision| {
            causes.contains(&decision.verdict.as_str()) && !is_meant(decision)
        };
        if let Some(decision) = self.open(model, fits) {
            decision.outcome = Some(clipped(&outcome));
            return;
        }
        // A user's request ends with an answer of its own, and `on_exit` is asked after a failure.
        let is_told = matches!(name, EventName::ModelUnloaded | EventName::ModelStopped)
            && !self.is_explained(model);
        if is_told && !self.is_shutting_down {
            let decision = Decision {
                time,
                last_time: time,
                times: 1,
                model: Some(clipped(model)),
                verdict: match name {
                    EventName::ModelUnloaded => "unload".to_owned(),
                    _ => "stop".to_owned(),
                },
                by: Some(Decision::HUB.to_owned()),
                outcome: Some(outcome),
                ..Decision::default()
            };
            self.add(decision, None);
        }
    }

    /// True if the newest decisions explain why that model is no longer in memory.
    fn is_explained(&self, model: &str) -> bool {
        self.explanation(model).is_some()
    }

    /// The newest decision about that model, if it explains why the model is no longer in memory.
    fn explanation(&self, model: &str) -> Option<&Decision> {
        let last = |decision: &&Decision| {
            decision.evicts(model)
                || decision.model.as_deref() == Some(model) && decision.verdict != "keep"
        };
        let last = self.models.iter().rev().find(last);
        last.filter(|decision| {
            let verdict = decision.verdict.as_str();
            decision.evicts(model)
                || Verb::named(verdict).is_some_and(Verb::frees_memory)
                || matches!(verdict, "restart" | "leave" | "reload")
        })
    }
}

fn loaded(seconds: Option<f64>) -> String {
    seconds.map_or_else(
        || "loaded".to_owned(),
        |seconds| format!("loaded in {seconds:.1} s"),
    )
}

/// True if a decision only repeats the last one about the same subject.
fn is_repeated(before: &Decision, now: &Decision) -> bool {
    let is_same = before.verdict == now.verdict
        && before.place == now.place
        && before.fields == now.fields
        && before.policy == now.policy
        && before.failed == now.failed;
    is_same
        && match now.verdict.as_str() {
            // Neither had an outcome.
            "keep" | "wait" => before.outcome == now.outcome,
            _ => {
                now.hook.as_deref() == Some(Hook::Request.name())
                    && before.outcome == now.outcome
                    && now.time - before.time < TOGETHER
            }
        }
}

fn request_id(asked: &Question<'_>) -> Option<String> {
    match asked {
        Question::Request(view) => {
            let mut id = String::new();
            put_id(&mut id, view);
            Some(id)
        }
        _ => None,
    }
}

/// Replaces the id of a request, without allocation if the earlier one is as long.
fn put_id(place: &mut String, view: &RequestView) {
    clip(place, &String::from_utf8_lossy(view.id.as_bytes()));
}

/// The model that a verdict routes a request to, if not the one it named.
fn target_of(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Route(route) => route.model.as_deref(),
        _ => None,
    }
}

/// The outcome of a verdict, if it is certain from the start.
fn outcome_at_once(hook: Hook, answer: &HookAnswer, world: &dyn World) -> Option<String> {
    match (hook, answer) {
        (Hook::Request | Hook::Load, HookAnswer::Verdict(Verdict::Reject(error))) => {
            Some(format!("refused with {}", error.status))
        }
        (Hook::Request, HookAnswer::Denied(_)) => Some("refused with 500".to_owned()),
        (Hook::Load, HookAnswer::Denied(_)) => Some("refused with 503".to_owned()),
        (Hook::Request, HookAnswer::Verdict(verdict @ Verdict::Route(_))) => {
            Some(match target_of(verdict) {
                None => "sent on, changed".to_owned(),
                Some(model) => match world.facts(model) {
                    Some(facts) => format!("{SENT_TO}{}", facts.name),
                    None => format!("refused with 500: there is no model `{}`", clipped(model)),
                },
            })
        }
        (Hook::Request, HookAnswer::Verdict(Verdict::Wait(_))) => Some("parked".to_owned()),
        (Hook::Idle, HookAnswer::Verdict(Verdict::Keep(_)) | HookAnswer::Denied(_)) => {
            Some("kept".to_owned())
        }
        (
            Hook::Trouble,
            HookAnswer::Verdict(Verdict::Leave | Verdict::Keep(_)) | HookAnswer::Denied(_),
        ) => Some("left as it is".to_owned()),
        (
            Hook::Exit,
            HookAnswer::Verdict(Verdict::Leave) | HookAnswer::Abstain | HookAnswer::Denied(_),
        ) => Some("left failed".to_owned()),
        _ => None,
    }
}

/// The facts behind a verdict, as far as users ask for them.
fn inputs(asked: &Question<'_>, world: &dyn World) -> Map<String, Value> {
    let model = asked.model().and_then(|model| world.model(model));
    let facts = model.as_ref().map(|model| &model.facts);
    let group = facts
        .and_then(|facts| facts.group.as_deref())
        .and_then(|group| world.group(group));
    let inputs = match asked {
        Question::Request(view) => json!({
            "path": clipped(view.parts.uri.path()),
            "client": view.client.ip().to_string(),
        }),
        Question::Load(_, load) => json!({
            "reason": load.reason.as_str(),
            "waiting": load.waiting,
            "waited_seconds": load.waited_seconds,
            "group": group.as_ref().map(|group| &group.facts.name),
            "loaded": group.as_ref().map(|group| group.loaded.iter().take(LIST).collect::<Vec<_>>()),
            "max_loaded": group.as_ref().and_then(|group| group.facts.max_loaded),
            "memory_available": world.memory().available,
        }),
        Question::Idle(_) => {
            let by_model = facts.filter(|facts| facts.jit_enabled);
            json!({
                "idle_seconds": model.as_ref().map(|model| model.idle_seconds),
                "auto_unload_minutes": by_model.and_then(|facts| facts.auto_unload_minutes),
                "idle_unload_trigger_min":
                    group.as_ref().and_then(|group| group.facts.idle_unload_trigger_min),
            })
        }
        Question::Exit(_, exit) => json!({
            "exit_code": exit.exit_code,
            "was_ready": exit.was_ready,
            "uptime_seconds": exit.uptime_seconds,
            "crashes": exit.crashes,
            "error": facts
                .and_then(|facts| facts.memory_last_error.as_deref())
                .and_then(|error| error.lines().next())
                .map(clipped),
        }),
        Question::Trouble(_, trouble) => json!(trouble),
    };
    let Value::Object(mut inputs) = inputs else {
        return Map::new();
    };
    inputs.retain(|_, value| !value.is_null());
    inputs
}

fn clipped(text: &str) -> String {
    let mut kept = String::new();
    clip(&mut kept, text);
    kept
}

/// Replaces a text by the kept part of `text`.
fn clip(place: &mut String, text: &str) {
    place.clear();
    // Most are short, and need no counting of characters.
    let end = match text.len() > CLIP {
        true => text.char_indices().nth(CLIP).map(|(end, _)| end),
        false => None,
    };
    place.push_str(&text[..end.unwrap_or(text.len())]);
    if end.is_some() {
        place.push('…');
    }
}

/// Texts and lists of a verdict, clipped to a readable length.
fn clipped_fields(mut fields: Map<String, Value>) -> Map<String, Value> {
    for value in fields.values_mut() {
        match value {
            Value::String(text) => *text = clipped(text),
            Value::Array(values) => {
                values.truncate(LIST);
                for value in values {
                    if let Value::String(text) = value {
                        *text = clipped(text);
                    }
                }
            }
            _ => {}
        }
    }
    fields
}
