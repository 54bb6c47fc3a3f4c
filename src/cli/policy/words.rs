//! A decision in plain English: the event, the policy and line that decided, and the facts it was decided by.

use std::time::Duration;

use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value};

use crate::api::{Decision, Verb};
use crate::cli::render::duration;

const BEFORE_READY: &str = "before it was ready";

/// In the place of the name that a request does not have.
pub(super) const NO_MODEL: &str = "(no model)";

/// A local time of day, with the date unless it is that of `now`.
pub(super) fn time(unix: f64, now: &Zoned) -> String {
    let Ok(moment) = Timestamp::from_duration(jiff::SignedDuration::from_secs_f64(unix)) else {
        return "?".to_owned();
    };
    let moment = moment.to_zoned(now.time_zone().clone());
    let format = match moment.date() == now.date() {
        true => "%H:%M:%S",
        false => "%Y-%m-%d %H:%M:%S",
    };
    moment.strftime(format).to_string()
}

/// The lines about one decision; seen from `model`, if one was asked for.
pub(super) fn paragraph(decision: &Decision, model: Option<&str>, now: &Zoned) -> Vec<String> {
    let nameless = match decision.request {
        Some(_) => NO_MODEL,
        None => "hub",
    };
    let name = decision.model.as_deref().unwrap_or(nameless);
    let (name, happened) = match model {
        Some(evicted) if decision.evicts(evicted) => {
            (evicted, format!("unloaded to make room for {name}"))
        }
        _ => (name, happened(decision)),
    };
    let when = time(decision.last_time, now);
    // A request comes before its outcome; a decision is shown after its effects.
    let told = match decision.hook {
        Some(_) => format!("{happened}: {}", why(decision)),
        None => format!("{}: {happened}", why(decision)),
    };
    let mut lines = vec![printable(&format!("{when}  {name}  {told}"))];
    let indent = " ".repeat(when.chars().count() + 2);
    let mut add = |text: String| lines.push(format!("{indent}{}", printable(&text)));
    if decision.times > 1 {
        let first = time(decision.time, now);
        add(format!("{} times since {first}", decision.times));
    }
    for failure in &decision.failed {
        add(format!("failed before that: {failure}"));
    }
    if !decision.abstained.is_empty() {
        add(format!("said nothing: {}", decision.abstained.join(", ")));
    }
    if let Some(id) = &decision.request {
        let last = if decision.times > 1 {
            "last request"
        } else {
            "request"
        };
        add(format!("{last} {id}"));
    }
    lines
}

/// Its outcome.
fn happened(decision: &Decision) -> String {
    match (&decision.outcome, decision.verdict.as_str()) {
        (Some(outcome), _) => outcome.clone(),
        (None, "allow") => "loading".to_owned(),
        (None, "evict") => "loading once there is room".to_owned(),
        (None, "wait") => "waiting".to_owned(),
        (None, "restart") => "restarting".to_owned(),
        (None, "shutdown") => "shutting down".to_owned(),
        (None, verdict) => match Verb::named(verdict) {
            Some(verb) => verb.under_way().to_owned(),
            None => verdict.to_owned(),
        },
    }
}

fn why(decision: &Decision) -> String {
    let mut text = match (&decision.hook, &decision.policy) {
        (Some(hook), Some(policy)) if decision.verdict == "deny" => {
            format!("{hook} of {policy} failed, and it refuses then")
        }
        (Some(hook), Some(policy)) => {
            let place = decision.place.as_deref().unwrap_or(policy);
            format!(
                "{hook} of {place} said {}",
                verdict(&decision.verdict, &decision.fields)
            )
        }
        (Some(hook), None) => format!("no policy decided {hook}"),
        (None, _) => wish(decision),
    };
    if let Some(reason) = &decision.reason {
        text.push_str(&format!(": {reason}"));
    }
    let inputs = inputs(decision);
    if !inputs.is_empty() {
        text.push_str(&format!(" ({})", inputs.join(", ")));
    }
    text
}

/// The origin of a change that no policy decided.
fn wish(decision: &Decision) -> String {
    match decision.by.as_deref() {
        Some("command") => format!("a command asked to {}", decision.verdict),
        Some("status page") => format!("{} was clicked on the status page", decision.verdict),
        Some("control API") => format!(
            "a program asked to {}, by the control API",
            decision.verdict
        ),
        Some("reload") => format!("reload of hub.yaml, {}", decision.verdict),
        Some("shutdown") => "it was asked to stop".to_owned(),
        _ => "the hub did so by itself".to_owned(),
    }
}

/// The verdict with its fields, as a sentence goes on.
pub(super) fn verdict(word: &str, fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let list = |name: &str| names(fields.get(name));
    let seconds = fields.get("seconds").and_then(Value::as_f64);
    match (word, seconds) {
        ("restart", Some(seconds)) => format!("restart in {}", span(seconds)),
        (_, Some(seconds)) if seconds > 0.0 => format!("{word} for {}", span(seconds)),
        ("evict", _) => format!("evict {}", list("evict").unwrap_or_default()),
        ("reject", _) => match (fields.get("status"), text("message")) {
            (Some(status), Some(message)) => format!("reject with {status}: {message}"),
            (Some(status), None) => format!("reject with {status}"),
            (None, _) => "reject".to_owned(),
        },
        ("route", _) => {
            let to = text("model").map(|model| format!("to {model}"));
            let set = list("set").map(|names| format!("set {names}"));
            let unset = list("unset").map(|names| format!("remove {names}"));
            let headers = list("headers").map(|names| format!("add header {names}"));
            let parts: Vec<_> = [to, set, unset, headers].into_iter().flatten().collect();
            format!("route {}", parts.join(", ")).trim_end().to_owned()
        }
        _ => word.to_owned(),
    }
}

/// The facts of the decision.
fn inputs(decision: &Decision) -> Vec<String> {
    let input = |name: &str| decision.inputs.get(name);
    let number = |name: &str| input(name).and_then(Value::as_f64);
    let text = |name: &str| input(name).and_then(Value::as_str);
    match decision.hook.as_deref() {
        Some("on_idle") => {
            let idle = number("idle_seconds").map(|idle| format!("idle {}", span(idle)));
            let limits = [
                number("auto_unload_minutes"),
                number("idle_unload_trigger_min"),
            ];
            let limit = limits.into_iter().flatten().reduce(f64::min);
            let limit = limit.map(|minutes| format!("limit {minutes} min"));
            idle.into_iter().chain(limit).collect()
        }
        Some("on_load") => {
            let reason = match text("reason") {
                Some("request") => number("waiting").map(|waiting| match waiting {
                    1.0 => "a request waits".to_owned(),
                    waiting => format!("{waiting} requests wait"),
                }),
                Some("start") => Some("at its start".to_owned()),
                Some("manual") => Some("load was asked for".to_owned()),
                _ => None,
            };
            let count = input("loaded")
                .and_then(Value::as_array)
                .map_or(0, Vec::len);
            let loaded =
                names(input("loaded")).map_or_else(String::new, |names| format!(": {names}"));
            let group = text("group").map(|group| match number("max_loaded") {
                Some(most) => format!("group {group} has {count} of at most {most} loaded{loaded}"),
                None => format!("group {group} has {count} loaded{loaded}"),
            });
            let waited = number("waited_seconds").filter(|waited| *waited >= 1.0);
            let waited = waited.map(|waited| format!("waited {}", span(waited)));
            [reason, group, waited].into_iter().flatten().collect()
        }
        Some("on_exit") => {
            let code = match number("exit_code") {
                Some(code) if code < 0.0 => format!("killed by signal {}", -code),
                Some(code) => format!("exit code {code}"),
                None => "exit code unknown".to_owned(),
            };
            let uptime = match input("was_ready").and_then(Value::as_bool) {
                Some(true) => number("uptime_seconds").map(|up| format!("after {}", span(up))),
                _ => Some(BEFORE_READY.to_owned()),
            };
            let row = number("crashes").filter(|crashes| *crashes > 1.0);
            let row = row.map(|crashes| format!("{crashes} times in a row"));
            // The last lines are in the worker's log; the line above says that it was killed.
            let is_new = uptime.as_deref() == Some(BEFORE_READY);
            let error = text("error").filter(|_| is_new);
            let error = error.and_then(|error| error.split(';').next().map(str::to_owned));
            [Some(code), uptime, row, error]
                .into_iter()
                .flatten()
                .collect()
        }
        Some("on_trouble") => {
            let silent = number("silent_seconds").filter(|silent| *silent > 0.0);
            let silent = silent.map(|silent| format!("silent for {}", span(silent)));
            let cpu = number("cpu_seconds").filter(|_| silent.is_some());
            let cpu = cpu.map(|cpu| format!("CPU {}", span(cpu)));
            let expected = number("expected_seconds").filter(|_| silent.is_some());
            let expected = expected.map(|expected| format!("expected {}", span(expected)));
            let errors = number("errors").filter(|errors| *errors > 0.0);
            let errors = errors.map(|errors| format!("{errors} errors in a row"));
            let status = number("last_status").filter(|_| errors.is_some());
            let status = status.map(|status| format!("the last one {status}"));
            [silent, cpu, expected, errors, status]
                .into_iter()
                .flatten()
                .collect()
        }
        Some("on_request") => {
            let path = text("path").map(str::to_owned);
            let client = text("client").map(|client| format!("from {client}"));
            path.into_iter().chain(client).collect()
        }
        _ => Vec::new(),
    }
}

/// A number of calls of hooks.
pub(super) fn calls(count: u64) -> String {
    match count {
        1 => "1 call".to_owned(),
        count => format!("{count} calls"),
    }
}

/// Seconds in words.
fn span(seconds: f64) -> String {
    if seconds < 10.0 && seconds.fract() != 0.0 {
        return format!("{seconds:.1}s");
    }
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// The texts of a list.
fn names(value: Option<&Value>) -> Option<String> {
    let names: Vec<_> = value?
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Ids and messages come from clients and policies, and must not control the terminal.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Zoned {
        let now: Timestamp = "2026-11-22T15:00:00Z".parse().unwrap();
        now.to_zoned(jiff::tz::TimeZone::UTC)
    }

    fn decision(fields: Value) -> Decision {
        let mut decision = json!({
            "number": 1, "time": 1_795_356_131.0, "last_time": 1_795_356_131.0, "times": 1,
            "hook": null, "model": "qwen3_30b", "request": null, "policy": null, "place": null,
            "verdict": "unload", "fields": {}, "reason": null, "inputs": {}, "abstained": [],
            "failed": [], "by": null, "outcome": null,
        });
        for (key, value) in fields.as_object().unwrap() {
            decision[key] = value.clone();
        }
        serde_json::from_value(decision).unwrap()
    }

    fn told(fields: Value) -> String {
        paragraph(&decision(fields), None, &now()).join("\n")
    }

    #[test]
    fn every_kind_of_decision_is_a_sentence() {
        let create_hub = "bundled/create_hub.lua";
        let texts = [
            json!({"hook": "on_idle", "policy": create_hub, "place": "bundled/create_hub.lua:67",
                   "inputs": {"idle_seconds": 1802.4, "auto_unload_minutes": 30,
                              "idle_unload_trigger_min": 45},
                   "outcome": "unloaded", "abstained": ["a.lua", "b.lua"]}),
            json!({"hook": "on_load", "policy": "swap.lua", "place": "swap.lua:9", "verdict": "evict",
                   "fields": {"evict": ["alpha"]}, "outcome": "loaded in 3.2 s",
                   "inputs": {"reason": "request", "waiting": 1, "waited_seconds": 0.0, "group": "g",
                              "loaded": ["alpha"], "max_loaded": 1}}),
            json!({"hook": "on_load", "verdict": "allow", "failed": ["a.lua:3: no such thing"],
                   "inputs": {"reason": "start", "waiting": 0}}),
            json!({"hook": "on_load", "policy": "a.lua", "place": "a.lua:2", "verdict": "wait",
                   "fields": {"seconds": 90.0}, "times": 12, "time": 1_795_356_071.0,
                   "inputs": {"reason": "request", "waiting": 3, "waited_seconds": 60.0}}),
            json!({"hook": "on_exit", "policy": create_hub, "place": "bundled/create_hub.lua:75",
                   "verdict": "restart", "fields": {"seconds": 2.0}, "outcome": "started",
                   "inputs": {"exit_code": -9, "was_ready": true, "uptime_seconds": 182.0,
                              "crashes": 2, "error": "it was killed"}}),
            json!({"hook": "on_exit", "policy": create_hub, "verdict": "leave", "outcome": "left failed",
                   "inputs": {"exit_code": 1, "was_ready": false, "uptime_seconds": 0.0, "crashes": 1,
                              "error": "it ended before it was up; its log ends:"}}),
            json!({"hook": "on_request", "policy": "alias.lua", "place": "alias.lua:4",
                   "verdict": "route", "model": "fast", "request": "id\u{1b}[31m-7",
                   "fields": {"model": "qwen3_4b", "set": ["temperature"]},
                   "outcome": "sent to qwen3_4b",
                   "inputs": {"path": "/v1/chat/completions", "client": "127.0.0.1"}}),
            json!({"hook": "on_request", "policy": "strict.lua", "verdict": "deny",
                   "failed": ["strict.lua:1: boom"], "outcome": "refused with 500"}),
            json!({"by": "command", "outcome": "unloaded"}),
            json!({"by": "status page", "verdict": "stop"}),
            json!({"by": "control API", "verdict": "load", "outcome": "refused with 429: full"}),
            json!({"by": "reload", "verdict": "restart", "reason": "its launch settings changed",
                   "outcome": "stopped"}),
            json!({"by": "shutdown", "verdict": "shutdown", "model": null}),
            json!({"by": "hub", "outcome": "unloaded"}),
            json!({"hook": "on_load", "policy": "swap.lua", "place": "swap.lua:9", "verdict": "evict",
                   "fields": {"evict": ["alpha"]}, "inputs": {"reason": "manual", "group": "g"}}),
            json!({"hook": "on_exit", "policy": create_hub, "verdict": "leave",
                   "inputs": {"exit_code": null, "was_ready": true, "uptime_seconds": 5.0}}),
            json!({"hook": "on_trouble", "policy": create_hub, "place": "bundled/create_hub.lua:118",
                   "verdict": "restart", "fields": {"seconds": 1.0}, "outcome": "started",
                   "reason": "it hangs",
                   "inputs": {"kind": "silent", "silent_seconds": 900.0, "cpu_seconds": 898.2,
                              "expected_seconds": 12.0, "errors": 0}}),
            json!({"hook": "on_trouble", "policy": "mine.lua", "verdict": "leave",
                   "outcome": "left as it is",
                   "inputs": {"kind": "errors", "silent_seconds": 0.0, "errors": 7, "last_status": 503}}),
        ];
        let open = [
            "allow", "wait", "unload", "restart", "start", "stop", "load", "route",
        ]
        .map(|verdict| json!({"by": "command", "verdict": verdict}));
        let text: Vec<_> = texts.into_iter().chain(open).map(told).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn a_model_that_made_room_is_told_so() {
        let evict = decision(
            json!({"hook": "on_load", "policy": "swap.lua", "place": "swap.lua:9",
            "verdict": "evict", "fields": {"evict": ["alpha"]}, "outcome": "loaded in 3.2 s"}),
        );
        assert_eq!(
            paragraph(&evict, Some("alpha"), &now()),
            [
                "14:02:11  alpha  unloaded to make room for qwen3_30b: on_load of swap.lua:9 said evict alpha"
            ]
        );
    }

    #[test]
    fn another_day_has_its_date() {
        assert_eq!(
            time(1_795_356_131.0 - 86_400.0, &now()),
            "2026-11-21 14:02:11"
        );
    }
}
