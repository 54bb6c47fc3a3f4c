//! Refuses a log file with two writers: two models, or a model and the hub itself.
//!
//! [`super::hub`] calls it once all models are read. Paths are compared as the system resolves them: another
//! spelling, a link or, on a Mac, another case is the same file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::locate::canonical;
use super::problem::{Findings, KeyPath};
use super::{Config, model, older_log, schema};

/// The hub's own files in the folder of the logs, besides those that begin with `app.`.
const OWN_FILES: [&str; 8] = [
    "hub_history.json",
    "hub.lock",
    "hub_program.json",
    "hub_runtime.json",
    "learned.json",
    "ports.json",
    "routes.json",
    "spares.json",
];

/// Refuses every `log_file` that something else writes to.
pub(super) fn check(config: &Config, findings: &mut Findings) {
    let logs = resolved(&config.log_path);
    let hub_yaml = resolved(&config.path);
    let workers = logs.join("workers");
    let folder = hub_yaml.parent().unwrap_or(Path::new("/"));
    // `hub.yaml.bak.1`, `.hub.yaml.running`, `.hub.yaml.key`.
    let is_hub_yamls = |name: &str| {
        let own = hub_yaml.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix('.').unwrap_or(name).starts_with(&*own)
    };
    let is_the_hubs = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_own = name.starts_with("app.") || OWN_FILES.contains(&&*name);
        let is_lua = path.extension().is_some_and(|ending| ending == "lua");
        path.starts_with(&workers)
            || path.parent() == Some(&logs) && is_own
            || path.parent() == Some(folder) && (is_hub_yamls(&name) || name == schema::FILE)
            || path.starts_with(folder) && is_lua
    };
    let mut taken: BTreeMap<PathBuf, usize> = BTreeMap::new();
    // First the logs that are named after their model: only a `log_file` can move.
    let (set, named): (Vec<_>, Vec<_>) =
        (0..config.models.len()).partition(|index| config.models[*index].log_file.is_some());
    for index in named.into_iter().chain(set) {
        let entry = &config.models[index];
        let file = entry.log_file(&config.log_path);
        let is_unnamed = entry.log_file.is_none() && entry.name.is_empty();
        if is_unnamed || is_device(&file) {
            continue;
        }
        let paths = [resolved(&file), resolved(&older_log(&file))];
        let owner = match paths.iter().find_map(|path| taken.get(path)) {
            Some(other) => format!("that of {}", subject(config, *other)),
            None if paths.iter().any(|path| is_the_hubs(path)) => "a file of the hub".to_owned(),
            None => {
                taken.extend(paths.map(|path| (path, index)));
                continue;
            }
        };
        if entry.log_file.is_none() {
            // Two models of one name have been refused already.
            continue;
        }
        let subject = subject(config, index);
        let message = format!("{subject}: `log_file` `{}` is {owner}", file.display());
        let hint = "set another, or remove `log_file` and the log is named after the model";
        let key_path = KeyPath::default().key("models").item(index).key("log_file");
        findings.value(key_path, message, Some(hint.to_owned()));
    }
}

fn subject(config: &Config, index: usize) -> String {
    model::subject(&config.models[index].name, index)
}

/// Any number of models may write to `/dev/null`.
fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// The path as a case-insensitive file system compares it.
fn resolved(path: &Path) -> PathBuf {
    let path = canonical(path);
    PathBuf::from(path.to_string_lossy().to_lowercase())
}
