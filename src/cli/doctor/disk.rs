//! The disk: the log folder, the files of models and the caches they lie in, and what is free there.

use std::io;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::cli::render::bytes;
use crate::config::{Config, ModelConfig};
use crate::files;
use crate::model_files::{self, ModelFiles, Origin};
use crate::telemetry;

const GB: u64 = 1_000_000_000;
/// Logs of the hub take half of it.
const FOR_LOGS: u64 = GB;
/// Less has no room for most models.
const FOR_A_MODEL: u64 = 20 * GB;

/// A folder that is to be written to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// An error unless it, or the folder in which it is to be made, takes a file.
    writable: io::Result<()>,
    free: Option<u64>,
    /// The command that closes it to other users, if it is open to them.
    close: Option<String>,
}

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        let mut folders = path.ancestors();
        let there = folders.find(|folder| folder.exists()).unwrap_or(path);
        let writable = match there.is_dir() {
            true => files::has_room(there),
            false => Err(io::Error::other(format!(
                "`{}` is no folder",
                there.display()
            ))),
        };
        Self {
            path: path.to_owned(),
            writable,
            free: files::free_bytes(there).ok(),
            close: telemetry::open_to_others(path),
        }
    }
}

/// The folder of the logs.
pub(super) fn logs(folder: &Folder) -> Vec<Finding> {
    let shown = folder.path.display();
    if let Err(error) = &folder.writable {
        return vec![
            Finding::broken(format!(
                "The log folder `{shown}` cannot be written: {error}"
            ))
            .with_hint("set another `log_path` in hub.yaml"),
        ];
    }
    let mut findings = Vec::new();
    if let Some(close) = &folder.close {
        let what = format!(
            "Other users may write into the log folder `{shown}`, and so to what the hub reads there"
        );
        findings.push(Finding::warning(what).with_hint(close));
    }
    match folder.free {
        Some(free) if free < FOR_LOGS => findings.push(
            Finding::warning(format!(
                "{} are free on the disk of the logs, `{shown}`",
                bytes(free)
            ))
            .with_hint("make room, or set another `log_path` in hub.yaml"),
        ),
        _ if findings.is_empty() => findings.push(Finding::ok(format!("Logs: {shown}"))),
        _ => {}
    }
    findings
}

/// The place of a model's files.
#[derive(Debug)]
pub(super) enum OnDisk {
    /// All of them.
    Complete(ModelFiles),
    /// Some of them, or none of a model.
    Incomplete(PathBuf),
    /// A repository that is to be downloaded into that cache.
    Missing { id: String, cache: Folder },
    /// A path with nothing there, which hub.yaml's own warnings tell.
    Nowhere,
}

impl OnDisk {
    pub(super) fn of(model: &ModelConfig) -> Self {
        if let Some(folder) = model_files::folder_of(model) {
            let files = ModelFiles::read(&folder, model.model_path.clone(), Origin::Folder);
            return files.map_or(Self::Incomplete(folder), Self::Complete);
        }
        match model_files::repository_of(model) {
            Some(repository) => Self::Missing {
                cache: Folder::at(repository.folder.parent().unwrap_or(&repository.folder)),
                id: repository.id,
            },
            None => Self::Nowhere,
        }
    }

    pub(super) fn files(&self) -> Option<ModelFiles> {
        match self {
            Self::Complete(files) => Some(files.clone()),
            _ => None,
        }
    }
}

/// True if the worker of a model may not ask the network for files.
pub(super) fn is_offline(model: &ModelConfig, variable: &dyn Fn(&str) -> Option<String>) -> bool {
    let value = |name: &str| model.env.get(name).cloned().or_else(|| variable(name));
    ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
        .iter()
        .any(|name| {
            value(name).is_some_and(|value| {
                let value = value.to_ascii_lowercase();
                ["1", "on", "yes", "true"].contains(&value.as_str())
            })
        })
}

/// The files of the models of hub.yaml.
pub(super) fn models(config: &Config, on_disk: &[OnDisk], offline: &[bool]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut caches: Vec<&Path> = Vec::new();
    for ((model, files), offline) in config.models.iter().zip(on_disk).zip(offline) {
        let name = &model.name;
        match files {
            OnDisk::Complete(_) | OnDisk::Nowhere => {}
            OnDisk::Incomplete(folder) => findings.push(
                Finding::warning(format!(
                    "Model `{name}`: files are missing in `{}`, or it is no model that a worker serves",
                    folder.display()
                ))
                .with_hint("a repository is completed by its next load; copy other files again"),
            ),
            OnDisk::Missing { id, .. } if *offline => findings.push(
                Finding::broken(format!(
                    "Model `{name}`: `{id}` is not on this disk, and HF_HUB_OFFLINE forbids its download"
                ))
                .with_hint("remove the variable from `env` or from the environment"),
            ),
            OnDisk::Missing { id, cache } => {
                let what = format!(
                    "Model `{name}`: `{id}` is not on this disk; its first load downloads it"
                );
                let hint = format!("`pull {id}` downloads it now");
                findings.push(Finding::note(what).with_hint(hint));
                if !caches.contains(&cache.path.as_path()) {
                    caches.push(&cache.path);
                    findings.extend(download_into(cache));
                }
            }
        }
    }
    if !findings
        .iter()
        .any(|one| one.severity > super::Severity::Ok)
    {
        findings.push(Finding::ok("The files of all models are on this disk"));
    }
    findings
}

/// A cache into which something is to be downloaded.
fn download_into(cache: &Folder) -> Option<Finding> {
    let shown = cache.path.display();
    if let Err(error) = &cache.writable {
        let what = format!("The cache `{shown}` cannot be written: {error}");
        let hint = "set HF_HOME to a folder that can, or correct its owner";
        return Some(Finding::broken(what).with_hint(hint));
    }
    let free = cache.free.filter(|free| *free < FOR_A_MODEL)?;
    let what = format!(
        "{} are free on the disk of the cache `{shown}`",
        bytes(free)
    );
    Some(Finding::warning(what).with_hint("make room before models are downloaded, or set HF_HOME"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::finding::told;
    use super::*;

    fn folder(writable: bool, free: u64, is_open: bool) -> Folder {
        Folder {
            path: "/a/logs".into(),
            writable: match writable {
                true => Ok(()),
                false => Err(io::Error::other("it is read-only")),
            },
            free: Some(free),
            close: is_open.then(|| "close it".to_owned()),
        }
    }

    #[test]
    fn a_log_folder_that_is_closed_full_or_open_to_others_is_told() {
        let all = [
            folder(true, GB, false),
            folder(false, GB, true),
            folder(true, GB / 2, true),
        ];
        let all = all.map(|folder| told(&logs(&folder)));
        insta::assert_snapshot!(all.join("\n"), @"
        ok: Logs: /a/logs
        broken: The log folder `/a/logs` cannot be written: it is read-only
          hint: set another `log_path` in hub.yaml
        warning: Other users may write into the log folder `/a/logs`, and so to what the hub reads there
          hint: close it
        warning: 500 MB are free on the disk of the logs, `/a/logs`
          hint: make room, or set another `log_path` in hub.yaml
        ");
    }

    #[test]
    fn a_folder_is_tried_where_it_is_or_will_be_and_nothing_stays() {
        let home = tempfile::tempdir().unwrap();
        let at = |path: &str| Folder::at(&home.path().join(path));
        let there = at("a/b");
        assert!(there.writable.is_ok() && there.free.is_some_and(|free| free > 0));
        std::fs::write(home.path().join("file"), "").unwrap();
        let error = at("file/logs").writable.unwrap_err().to_string();
        assert!(error.ends_with("/file` is no folder"), "{error}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn models_whose_files_are_not_there_are_told_and_their_cache_once() {
        let config = crate::config::from_yaml(
            "models: [{name: a, model_path: org/a}, {name: b, model_path: org/b}, \
             {name: c, model_path: org/c}, {name: d, model_path: org/d}]",
        );
        let missing = |id: &str, writable, free| OnDisk::Missing {
            id: id.to_owned(),
            cache: folder(writable, free, false),
        };
        let tell = |on_disk: &[OnDisk], offline: &[bool]| told(&models(&config, on_disk, offline));
        let all = [
            OnDisk::Incomplete("/b".into()),
            missing("org/b", true, GB),
            missing("org/c", true, GB),
            missing("org/d", true, GB),
        ];
        insta::assert_snapshot!(tell(&all, &[false, false, false, true]), @"
        warning: Model `a`: files are missing in `/b`, or it is no model that a worker serves
          hint: a repository is completed by its next load; copy other files again
        note: Model `b`: `org/b` is not on this disk; its first load downloads it
          hint: `pull org/b` downloads it now
        warning: 1.0 GB are free on the disk of the cache `/a/logs`
          hint: make room before models are downloaded, or set HF_HOME
        note: Model `c`: `org/c` is not on this disk; its first load downloads it
          hint: `pull org/c` downloads it now
        broken: Model `d`: `org/d` is not on this disk, and HF_HUB_OFFLINE forbids its download
          hint: remove the variable from `env` or from the environment
        ");
        let closed = tell(&[missing("org/a", false, GB)], &[false]);
        assert!(
            closed.contains("broken: The cache `/a/logs` cannot be written"),
            "{closed}"
        );
        let all_there = tell(&[OnDisk::Nowhere], &[false]);
        assert_eq!(all_there, "ok: The files of all models are on this disk");
    }

    #[test]
    fn a_worker_is_offline_by_its_own_environment_first() {
        let mut model = crate::config::from_yaml("models: [{name: a, model_path: org/a}]")
            .models
            .remove(0);
        let everywhere = |name: &str| (name == "HF_HUB_OFFLINE").then(|| "True".to_owned());
        assert!(is_offline(&model, &everywhere));
        assert!(!is_offline(&model, &|_| None));
        model.env = BTreeMap::from([("HF_HUB_OFFLINE".to_owned(), "0".to_owned())]);
        assert!(!is_offline(&model, &everywhere));
    }
}
