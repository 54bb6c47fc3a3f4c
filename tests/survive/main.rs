//! What a hub must hold out against: being killed, being replaced, strangers with its workers'
//! process ids, a disk that is full, files that are gone, a clock that is set, reloads without end.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod activated;
mod clock;
mod disk;
mod files;
mod hung;
mod killed;
mod own;
mod reloads;
mod replaced;
mod replaced_host;
mod replaced_knows;
mod replaced_meanwhile;
mod replaced_under_load;
mod signals;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod warnings;

use serde_json::Value;
use support::{Hub, SOON, stub, wait_for, wait_until};

/// A hub.yaml with these models: `NAME KEYS`, where `KEYS` is a YAML flow mapping without braces.
fn models(entries: &[(&str, &str)]) -> String {
    let models = entries
        .iter()
        .map(|(name, keys)| format!("- {{name: {name}, model_path: org/{name}, {keys}}}\n"));
    format!("models:\n{}", models.collect::<String>())
}

/// `worker_command` with these knobs.
fn worker(knobs: &[&str]) -> String {
    format!("worker_command: {}", stub(knobs))
}

fn pid(hub: &Hub, model: &str) -> Option<u32> {
    hub.model(model)["pid"]
        .as_u64()
        .map(|pid| u32::try_from(pid).unwrap())
}

/// `process_state`, `memory_state` and `pid`.
fn state(hub: &Hub, model: &str) -> [Value; 3] {
    let model = hub.model(model);
    ["process_state", "memory_state", "pid"].map(|key| model[key].clone())
}

/// Waits until the warnings of the status contain `text`.
fn wait_for_warning(hub: &Hub, text: &str) {
    wait_until(&format!("a warning: {text}"), SOON, || {
        warnings(hub).contains(text)
    });
}

fn warnings(hub: &Hub) -> String {
    hub.status()["warnings"].to_string()
}

/// Says that a check was not made; with CI=true that is a failure.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn not_run(what: &str, why: &str) {
    println!("not run: {what}: {why}");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{what}: {why}");
}

/// Waits until a model has a process.
fn wait_for_pid(hub: &Hub, model: &str) -> u32 {
    wait_for(&format!("a process of {model}"), SOON, || pid(hub, model))
}
