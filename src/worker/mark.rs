//! The mark of a worker's processes: environment variables that only the workers of hubs and their
//! descendants have. They name the hub.yaml, the log folder and the launch.
//!
//! A process without a mark is not a worker's, however much it resembles one. The operating system may hide
//! the environment of its own programs (macOS does, that of `/bin/sh` for one).

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::config;

/// The log folder. The first hubs set no other variable.
const LOG_FOLDER: &str = "MLX_HUB_WORKER_OF";
/// The hub.yaml.
const CONFIG: &str = "MLX_HUB_WORKER_CONFIG";
/// The launch, see [`launch_id`].
const LAUNCH: &str = "MLX_HUB_WORKER_LAUNCH";

/// The hub of one hub.yaml, whatever its `log_path` is: it owns the workers that carry its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    config: PathBuf,
    log_paths: Vec<PathBuf>,
    /// The path of hub.yaml before its folder was moved.
    former: Option<PathBuf>,
}

impl Owner {
    /// The hub of a hub.yaml with this log folder.
    pub fn new(config_path: &Path, log_path: &Path) -> Self {
        Self {
            config: config::canonical(config_path),
            log_paths: vec![config::canonical(log_path)],
            former: None,
        }
    }

    /// Adds another log folder that it had.
    pub fn add_log_path(&mut self, log_path: &Path) {
        self.log_paths.push(config::canonical(log_path));
    }

    /// Adds an earlier path of its hub.yaml.
    pub fn set_former(&mut self, config_path: &Path) {
        self.former = Some(config_path.to_owned());
    }

    /// The variables for a worker of that launch.
    pub(super) fn marks(&self, launch: &str) -> [(String, String); 3] {
        [
            (LOG_FOLDER, self.log_paths[0].display().to_string()),
            (CONFIG, self.config.display().to_string()),
            (LAUNCH, launch.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    pub(super) fn owns(&self, mark: &Mark) -> bool {
        let Some(config) = &mark.config else {
            let mut log_paths = self.log_paths.iter();
            return log_paths.any(|log_path| config::is_same(log_path, &mark.log_path));
        };
        config::is_same(config, &self.config) || self.former.as_ref() == Some(config)
    }
}

/// A name for one launch of a model, unique among all launches of all hubs.
pub(super) fn launch_id(model: &str) -> String {
    // Names of models have no slash.
    format!("{model}/{}", spare_id())
}

/// The same for a process that is started before its model is known.
pub(super) fn spare_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let hub = process::id();
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{hub}-{}-{number}", since.as_micros())
}

/// The mark of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) log_path: PathBuf,
    /// `None` for the worker of a hub that did not set it.
    config: Option<PathBuf>,
    pub(super) launch: Option<String>,
}

impl Mark {
    /// Reads the mark from an environment.
    pub(super) fn of(environment: &[OsString]) -> Option<Self> {
        let value = |name: &str| {
            let mut words = environment.iter().filter_map(|word| word.to_str());
            words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            log_path: value(LOG_FOLDER)?.into(),
            config: value(CONFIG).map(PathBuf::from),
            launch: value(LAUNCH).map(str::to_owned),
        })
    }

    /// The model it was launched for.
    pub(super) fn model(&self) -> Option<&str> {
        Some(self.launch.as_ref()?.rsplit_once('/')?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(variables: &[(String, String)]) -> Option<Mark> {
        let words = variables.iter();
        let words: Vec<OsString> = words
            .map(|(name, value)| format!("{name}={value}").into())
            .collect();
        Mark::of(&words)
    }

    #[test]
    fn a_worker_is_owned_by_the_hub_of_its_hub_yaml_whatever_the_log_folder() {
        let owner = Owner::new(Path::new("/home/a/hub.yaml"), Path::new("/logs/a"));
        let launch = launch_id("qwen");
        let its = mark(&owner.marks(&launch)).unwrap();
        assert_eq!(its.model(), Some("qwen"));
        assert!(owner.owns(&its));
        let edited = Owner::new(Path::new("/home/a/hub.yaml"), Path::new("/logs/new"));
        assert!(edited.owns(&its));
        let mut other = Owner::new(Path::new("/home/b/hub.yaml"), Path::new("/logs/a"));
        assert!(!other.owns(&its), "a log folder alone does not tell");
        other.set_former(Path::new("/home/a/hub.yaml"));
        assert!(other.owns(&its));
    }

    #[test]
    fn the_mark_of_an_older_hub_is_its_log_folder_alone() {
        let old = mark(&[(LOG_FOLDER.to_owned(), "/logs/a".to_owned())]).unwrap();
        let mut owner = Owner::new(Path::new("/home/a/hub.yaml"), Path::new("/logs/new"));
        assert!(!owner.owns(&old));
        owner.add_log_path(Path::new("/logs/a"));
        assert!(owner.owns(&old));
        assert_eq!(old.model(), None);
    }

    #[test]
    fn no_launch_is_called_like_another_and_without_a_mark_there_is_none() {
        assert_ne!(launch_id("a"), launch_id("a"));
        assert_eq!(mark(&[("HOME".to_owned(), "/".to_owned())]), None);
    }
}
