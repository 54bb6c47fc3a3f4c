//! Refuses options and variables of a worker that the hub sets itself.
//!
//! The last of two options wins: with `extra_args: [--port, 9999]` the worker would listen on a port that
//! the hub does not know. [`super::model`] calls it; each refusal names the key to use instead.

use std::collections::BTreeMap;

use super::raw::Table;
use crate::engine::Engine;

/// Prefix of the variables that mark a hub's workers.
const WORKER_MARK: &str = "MLX_HUB_WORKER_";

/// Reads `extra_args` and refuses those options in it.
pub(super) fn extra_args(table: &mut Table<'_, '_>, engine: &Engine) -> Vec<String> {
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
        if let Some(instead) = instead_of(engine, flag, value) {
            let message = format!("`{key}` has `{flag}`, which is for the hub to decide");
            table.refuse_item(key, index, &message, instead);
        }
    }
    arguments
}

/// What to write in place of a reserved option, with this value or before this argument.
pub(crate) fn instead_of(engine: &Engine, flag: &str, value: Option<&str>) -> Option<String> {
    let (_, instead) = engine.reserved.iter().find(|(own, _)| {
        // Python's argparse takes the beginning of an option for it.
        let is_beginning = flag.len() > 2 && flag.starts_with("--") && own.starts_with(flag);
        own == flag || is_beginning && !is_key(engine, flag)
    })?;
    let is_word = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    Some(match instead.split_once(": ") {
        Some((key, set)) if is_word(key) && is_word(set) => {
            format!("write `{instead}` in the model's entry")
        }
        None if is_word(instead) => {
            let value = value.filter(|value| !value.starts_with('-')).unwrap_or("…");
            format!("write `{instead}: {value}` in the model's entry")
        }
        _ => instead.clone(),
    })
}

/// True for the option of one of the engine's keys.
fn is_key(engine: &Engine, flag: &str) -> bool {
    let name = flag.trim_start_matches('-').replace('-', "_");
    engine.key(&name).is_some()
}

/// Refuses the variables that the hub always sets. Where a worker also reads its port, host or path from the
/// environment, as `llama-server` does, the option that the hub passes wins.
pub(super) fn env(table: &mut Table<'_, '_>, env: &BTreeMap<String, String>) {
    for name in env.keys().filter(|name| name.starts_with(WORKER_MARK)) {
        let message = format!("`env` has `{name}`, by which the hub knows its workers");
        table.refuse_key_within("env", name, &message);
    }
}
