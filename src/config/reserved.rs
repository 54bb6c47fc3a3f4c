//! Refuses options and variables of a worker that the hub sets itself.
//!
//! The last of two options wins: with `extra_args: [--port, 9999]` the worker would listen on a port that
//! the hub does not know. [`super::model`] calls it; each refusal names the key to use instead.

use std::collections::BTreeMap;

use super::raw::Table;

/// Prefix of the variables that mark a hub's workers.
const WORKER_MARK: &str = "MLX_HUB_WORKER_";

/// The options of `launch` that the hub passes or replaces, and the key to use for each.
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

/// Reads `extra_args` and refuses those options in it.
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

/// The key to write in place of a reserved option, with this value or before this argument.
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

/// The hint for a worker's own configuration file.
pub(super) const CONFIG_HINT: &str = "the worker's `--config` silently wins over `model_path`: write what that file says as keys of this model";

/// Refuses the variables that the hub always sets. No worker reads a port, host or path from its
/// environment.
pub(super) fn env(table: &mut Table<'_, '_>, env: &BTreeMap<String, String>) {
    for name in env.keys().filter(|name| name.starts_with(WORKER_MARK)) {
        let message = format!("`env` has `{name}`, by which the hub knows its workers");
        table.refuse_key_within("env", name, &message);
    }
}
