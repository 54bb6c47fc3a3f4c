//! Sentences about the models of a status: what they are doing, and why one has failed.
//!
//! `status`, `start` and `watch` print them below their tables, whose columns are too narrow for them.

use std::time::Duration;

use super::render::{Out, duration};
use crate::api::{MemoryState, ModelStatus, ProcessState, Status};

const GIB: f64 = (1_u64 << 30) as f64;

/// Prints a line for each of these models that has something to say, and one for the machine's memory.
pub(super) fn print(out: &mut Out, status: &Status, models: &[&ModelStatus], now: f64) {
    for model in models {
        if let Some(note) = note(status, model, now) {
            out.sentence(format_args!("  {}: {note}", model.id));
        }
    }
    if let Some(memory) = memory(status) {
        out.line(memory);
    }
}

/// A sentence on what a model does, or why it has failed.
pub(super) fn note(status: &Status, model: &ModelStatus, now: f64) -> Option<String> {
    let facts = &model.metadata.facts;
    match (facts.process_state, facts.memory_state) {
        (_, MemoryState::Loading) => Some(loading(model, now)),
        (ProcessState::Failed, _) | (_, MemoryState::Failed) => Some(failed(model)),
        (_, MemoryState::Unloading) => Some("unloading".to_owned()),
        (_, MemoryState::Loaded) => Some(loaded(status, model, now)),
        _ => waiting(model),
    }
}

/// The same beside a table that shows its state, memory and requests.
pub(super) fn detail(status: &Status, model: &ModelStatus, now: f64) -> Option<String> {
    let facts = &model.metadata.facts;
    match (facts.process_state, facts.memory_state) {
        (_, MemoryState::Loading) => passed(model, now),
        (ProcessState::Failed, _) | (_, MemoryState::Failed) => {
            let failed = failed(model);
            Some(
                failed
                    .strip_prefix("failed: ")
                    .unwrap_or(&failed)
                    .to_owned(),
            )
        }
        (_, MemoryState::Loaded) if model.metadata.activity.active_requests == 0 => {
            Some(idle(status, model, now))
        }
        _ => None,
    }
}

/// `loading 12 s of about 40 s`
fn loading(model: &ModelStatus, now: f64) -> String {
    let mut text = "loading".to_owned();
    if let Some(passed) = passed(model, now) {
        text += &format!(" {passed}");
    }
    if let Some(waiting) = waiting(model) {
        text += &format!(", {waiting}");
    }
    text
}

/// `12 s of about 40 s`, or of a download `12 s, downloaded 1.0 GB of 17.2 GB`
fn passed(model: &ModelStatus, now: f64) -> Option<String> {
    let facts = &model.metadata.facts;
    let passed = (now - facts.memory_last_transition_at?).max(0.0);
    Some(
        match (model.metadata.activity.download, facts.load_seconds) {
            (Some(download), _) => format!("{passed:.0} s, downloaded {download}"),
            (None, Some(about)) => format!("{passed:.0} s of about {about:.0} s"),
            (None, None) => format!("{passed:.0} s"),
        },
    )
}

fn failed(model: &ModelStatus) -> String {
    let facts = &model.metadata.facts;
    match (&facts.memory_last_error, facts.exit_code) {
        // The end of its log may follow.
        (Some(reason), _) => {
            let first = reason.lines().next().unwrap_or_default();
            match first.strip_suffix("; its log ends:") {
                Some(first) => format!("failed: {first}; see `logs {}`", model.id),
                None => format!("failed: {first}"),
            }
        }
        (None, Some(code)) => format!("failed: its process ended with code {code}"),
        (None, None) => "failed: its process ended".to_owned(),
    }
}

/// Memory, and requests or idleness.
fn loaded(status: &Status, model: &ModelStatus, now: f64) -> String {
    let activity = &model.metadata.activity;
    let memory = activity.memory_bytes.map(gib);
    let doing = match activity.active_requests {
        0 => Some(idle(status, model, now)),
        1 => Some("1 request".to_owned()),
        many => Some(format!("{many} requests")),
    };
    let parts = [memory, doing, waiting(model)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

/// `idle 12 min, unloads in 18`, rounded to what is left and gone at least.
fn idle(status: &Status, model: &ModelStatus, now: f64) -> String {
    let facts = &model.metadata.facts;
    let times = [model.metadata.activity.last_request_at, facts.last_load_at];
    let Some(since) = times.into_iter().flatten().reduce(f64::max) else {
        return "idle".to_owned();
    };
    let idle = (now - since).max(0.0);
    let group = facts.group.as_deref();
    let group = status
        .groups
        .iter()
        .find(|one| Some(one.name.as_str()) == group);
    let limits = [
        facts.auto_unload_minutes,
        group.and_then(|group| group.idle_unload_trigger_min),
    ];
    let limit = limits.into_iter().flatten().min();
    let short = |seconds: f64| match seconds < 60.0 {
        true => format!("{seconds:.0} s"),
        false => format!("{:.0} min", (seconds / 60.0).floor()),
    };
    match limit {
        None => format!("idle {}", short(idle)),
        Some(limit) => {
            let left = (f64::from(limit) * 60.0 - idle).max(0.0);
            // One unit for both is said once.
            let left = match (idle >= 60.0, left >= 60.0) {
                (true, true) => format!("{:.0}", (left / 60.0).ceil()),
                _ => short(left),
            };
            format!("idle {}, unloads in {left}", short(idle))
        }
    }
}

fn waiting(model: &ModelStatus) -> Option<String> {
    let activity = &model.metadata.activity;
    match activity.waiting_requests + activity.parked_requests {
        0 => None,
        1 => Some("1 request waits".to_owned()),
        many => Some(format!("{many} requests wait")),
    }
}

/// `Memory: models hold 18.2 GiB of 64.0 GiB, 30.1 GiB are available`
pub(super) fn memory(status: &Status) -> Option<String> {
    let memory = &status.memory;
    let held = status
        .models
        .iter()
        .filter_map(|model| model.metadata.activity.memory_bytes);
    let held = gib(held.sum());
    let total = gib(memory.total?);
    let available = memory.available.map_or_else(String::new, |bytes| {
        format!(", {} are available", gib(bytes))
    });
    Some(format!("Memory: models hold {held} of {total}{available}"))
}

pub(super) fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB)
}

/// The end of a load that was waited for.
pub(super) fn loaded_in(model: &ModelStatus) -> String {
    let took = model
        .metadata
        .facts
        .load_seconds
        .map(Duration::from_secs_f64);
    match took {
        Some(took) => format!("loaded in {}", duration(took)),
        None => "loaded".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: f64 = 1_764_000_000.0;

    fn status(models: &[Value]) -> Status {
        let models: Vec<Value> = models
            .iter()
            .map(|facts| {
                let mut metadata = json!({
                    "status": "running", "process_state": "running", "memory_state": "unloaded", "group": null,
                    "model_type": "lm", "model_path": "org/a", "default": false, "jit_enabled": false,
                    "auto_unload_minutes": null, "log_path": null, "memory_last_transition_at": null,
                    "memory_last_error": null, "last_load_at": null, "last_unload_at": null, "pid": null,
                    "port": null, "started_at": null, "stopped_at": null, "exit_code": null,
                    "active_requests": 0, "waiting_requests": 0, "last_request_at": null,
                });
                for (key, value) in facts.as_object().unwrap() {
                    metadata[key] = value.clone();
                }
                json!({"id": "a", "object": "model", "created": 0, "owned_by": "hub", "metadata": metadata})
            })
            .collect();
        let group = json!({"name": "g", "max_loaded": 1, "idle_unload_trigger_min": 10,
            "members": [], "loaded": []});
        serde_json::from_value(json!({
            "status": "ok", "timestamp": 0, "host": "", "port": 1, "warnings": [], "controller_available": true,
            "counts": {"registered": 0, "started": 0, "loaded": 0}, "groups": [group], "models": models,
            "memory": {"total": 64_u64 << 30, "available": 30_u64 << 30, "returning": 0, "pressure": "normal"},
        }))
        .unwrap()
    }

    fn notes(models: &[Value]) -> String {
        let status = status(models);
        let notes = status
            .models
            .iter()
            .map(|model| note(&status, model, NOW).unwrap_or_else(|| "-".to_owned()));
        notes.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_model_says_what_it_does() {
        let since = |seconds: f64| NOW - seconds;
        let loading = json!({"memory_state": "loading", "memory_last_transition_at": since(12.2),
            "load_seconds": 40.4, "waiting_requests": 1});
        let first = json!({"memory_state": "loading", "memory_last_transition_at": since(3.0)});
        let downloads = json!({"memory_state": "loading", "memory_last_transition_at": since(60.0),
            "load_seconds": 40.4, "download": {"bytes": 1_234_000_000, "total": 4_300_000_000_u64}});
        let begins = json!({"memory_state": "loading", "memory_last_transition_at": since(2.0),
            "download": {"bytes": 812_000, "total": null}});
        let idle = json!({"memory_state": "loaded", "last_load_at": since(9000.0), "memory_bytes": 5_u64 << 29,
            "last_request_at": since(12.5 * 60.0), "auto_unload_minutes": 30});
        let in_group = json!({"memory_state": "loaded", "last_load_at": since(590.0), "group": "g",
            "auto_unload_minutes": 30});
        let fresh = json!({"memory_state": "loaded", "last_load_at": since(5.0)});
        let busy = json!({"memory_state": "loaded", "active_requests": 2, "waiting_requests": 3,
            "parked_requests": 1});
        let failed = json!({"process_state": "failed", "memory_state": "failed",
            "memory_last_error": "out of memory; its log ends:\n  ERROR"});
        let died = json!({"process_state": "failed", "exit_code": -9});
        let parked = json!({"parked_requests": 1});
        insta::assert_snapshot!(
            notes(&[loading, first, downloads, begins, idle, in_group, fresh, busy, failed, died, parked, json!({})]),
            @"
        loading 12 s of about 40 s, 1 request waits
        loading 3 s
        loading 60 s, downloaded 1.2 GB of 4.3 GB
        loading 2 s, downloaded 812 kB
        2.5 GiB, idle 12 min, unloads in 18
        idle 9 min, unloads in 10 s
        idle 5 s
        2 requests, 4 requests wait
        failed: out of memory; see `logs a`
        failed: its process ended with code -9
        1 request waits
        -
        "
        );
    }

    #[test]
    fn the_machines_memory_is_told_where_it_is_measured() {
        let mut status = status(&[
            json!({"memory_bytes": 5_u64 << 30}),
            json!({"memory_bytes": 1_u64 << 30}),
        ]);
        insta::assert_snapshot!(memory(&status).unwrap(), @"Memory: models hold 6.0 GiB of 64.0 GiB, 30.0 GiB are available");
        status.memory = crate::api::SystemMemory::default();
        assert_eq!(memory(&status), None);
    }
}
