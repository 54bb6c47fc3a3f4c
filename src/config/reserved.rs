//! What the hub decides about a worker, and what hub.yaml may therefore not say in passing.
//!
//! The last of two options counts: `extra_args: [--port, 9999]` would have the worker listen where the
//! hub does not look for it. [`super::model`] asks; each refusal says which key is meant for it.

use std::collections::BTreeMap;

use super::raw::Table;

/// So begin the variables that mark what a hub has started.
const WORKER_MARK: &str = "MLX_HUB_WORKER_";

/// The options of `launch` that the hub passes itself, or does the work of, and the keys for them.
const FLAGS: [(&str, &str); 10] = [
    ("--model-path", "model_path"),
    ("--model-type", "model_type"),
    ("--host", "host"),
    ("--port", "port"),
    ("--log-level", "log_level"),
    ("--log-file", "log_file"),
    ("--no-log-file", "no_log_file"),
    ("--jit", "jit_enabled"),
    ("--no-jit", "jit_enabled"),
    ("--auto-unload-minutes", "auto_unload_minutes"),
];

/// `extra_args` without those.
pub(super) fn extra_args(table: &mut Table<'_, '_>) -> Vec<String> {
    let key = "extra_args";
    let arguments = table.list(key).unwrap_or_default();
    for (index, argument) in arguments.iter().enumerate() {
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (
                argument.as_str(),
                arguments.get(index + 1).map(String::as_str),
            ),
        };
        if let Some(instead) = instead_of(flag, value) {
            let message = format!("`{key}` has `{flag}`, which is for the hub to decide");
            table.refuse_item(key, index, &message, instead);
        }
    }
    arguments
}

/// What to write in place of an option that is the hub's, with this value or before this argument.
fn instead_of(flag: &str, value: Option<&str>) -> Option<String> {
    match flag {
        "--served-model-name" => {
            return Some("remove it: requests use the model's `name`".to_owned());
        }
        "--config" => return Some(CONFIG_HINT.to_owned()),
        _ => {}
    }
    let (_, key) = FLAGS.iter().find(|(reserved, _)| *reserved == flag)?;
    let value = match flag {
        "--jit" | "--no-log-file" => "true",
        "--no-jit" => "false",
        _ => value.filter(|value| !value.starts_with('-')).unwrap_or("…"),
    };
    Some(format!("write `{key}: {value}` in the model's entry"))
}

/// What to do about a configuration file of the worker.
pub(super) const CONFIG_HINT: &str = "the worker's `--config` silently wins over `model_path`: write what that file says as keys of this model";

/// Refuses what the hub sets in the environment whatever hub.yaml says. No worker reads a port, host or
/// path from there.
pub(super) fn env(table: &mut Table<'_, '_>, env: &BTreeMap<String, String>) {
    for name in env.keys().filter(|name| name.starts_with(WORKER_MARK)) {
        let message = format!("`env` has `{name}`, by which the hub knows its workers");
        table.refuse_key_within("env", name, &message);
    }
}
