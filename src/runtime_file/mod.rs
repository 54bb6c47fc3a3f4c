//! `<log_path>/hub_runtime.json`: with it commands find the daemon, and a new daemon the workers of an old
//! one. The daemon writes it at start and at every change of a worker and removes it at a clean
//! stop; the command line reads it before it looks at hub.yaml.
//!
//! Also here: the lock of the folder ([`lock`]), and the trail from hub.yaml to the folder after an edit of
//! `log_path` ([`Trail`]).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

mod lock;
mod trail;

pub use lock::{is_locked, try_lock};
pub use trail::Trail;

/// The content of the file. Unknown keys are ignored, so that older hubs can read newer files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeFile {
    /// The daemon's process id.
    pub pid: u32,
    /// Its bind address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// ISO 8601, UTC.
    pub started_at: String,
    /// Its hub.yaml; none in the file of an older hub.
    #[serde(default)]
    pub config_path: Option<String>,
    /// Other processes that belong to it: the service's, and earlier hubs that finish their requests.
    #[serde(default)]
    pub also: Vec<u32>,
    /// True if a service manager holds its sockets, and starts it at the next connection.
    #[serde(default)]
    pub activated: bool,
    /// True if it belongs to whatever started it, a terminal or a service manager, which may start it again.
    #[serde(default)]
    pub foreground: bool,
    /// The models that the next hub takes over after a crash.
    #[serde(flatten)]
    pub models: RuntimeModels,
}

/// The models that are started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeModels {
    /// The workers that are up.
    pub workers: Vec<RuntimeWorker>,
    /// Names of models that are started and have no process, as they are not in memory.
    pub standby: Vec<String>,
}

/// One worker process group: enough to recognise it and to serve from it without starting it again.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuntimeWorker {
    /// The model's name.
    pub model: String,
    /// Process id of the worker, which leads its process group.
    pub pid: u32,
    /// Start time of that process, seconds since the Unix epoch: a pid alone may be a stranger's.
    pub start_time: u64,
    /// The port it serves on.
    pub port: u16,
    /// The whole command line it was started with.
    pub command: Vec<String>,
    /// The launch that its processes are marked with; empty for a worker of an older hub.
    pub launch: String,
    /// The settings of hub.yaml it was started with.
    pub settings: serde_json::Value,
    /// True if it can stay up without the weights.
    pub resident: bool,
    /// The one `model` value it answers to; none when it ignores it.
    pub answers_to: Option<String>,
    /// Its log file, which stays when `log_path` changes; none in the file of an older hub.
    pub log_file: Option<PathBuf>,
    /// Byte offset of its output in its log file, after that of earlier launches.
    pub log_begin: u64,
    /// True if its weights were in memory, or on their way.
    pub loaded: bool,
    /// Other machines on which it has processes, as `ssh` knows them.
    pub hosts: Vec<String>,
    /// Where these compute together.
    pub addresses: Vec<String>,
    /// What these are known by.
    pub mark: String,
}

impl RuntimeFile {
    /// The file's path.
    pub fn path(log_path: &Path) -> PathBuf {
        log_path.join("hub_runtime.json")
    }

    /// Reads it; `None` when it is missing or not a runtime file.
    pub fn read(log_path: &Path) -> Option<Self> {
        serde_json::from_slice(&files::read(&Self::path(log_path)).ok()?).ok()
    }

    /// Replaces the file in one step; readable by its owner only.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, log_path: &Path) -> std::io::Result<()> {
        files::replace_private(&Self::path(log_path), self)
    }

    /// Removes the file, if it exists.
    pub fn remove(log_path: &Path) {
        let _ = std::fs::remove_file(Self::path(log_path));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file() -> RuntimeFile {
        RuntimeFile {
            pid: 4321,
            host: "127.0.0.1".to_owned(),
            port: 8000,
            started_at: "2026-11-22T00:16:37Z".to_owned(),
            config_path: Some("/home/me/hub.yaml".to_owned()),
            also: vec![4320],
            activated: false,
            foreground: true,
            models: RuntimeModels {
                workers: vec![RuntimeWorker {
                    model: "qwen".to_owned(),
                    pid: 4322,
                    start_time: 1_764_000_000,
                    port: 47850,
                    command: vec!["mlx-openai-server".to_owned(), "launch".to_owned()],
                    ..RuntimeWorker::default()
                }],
                standby: vec!["beta".to_owned()],
            },
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_by_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        file().write(folder.path()).unwrap();
        assert_eq!(RuntimeFile::read(folder.path()), Some(file()));
        let metadata = RuntimeFile::path(folder.path()).metadata().unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_file_of_another_version_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"pid": 1, "host": "::", "port": 1, "started_at": "", "later": true}"#;
        std::fs::write(RuntimeFile::path(folder.path()), text).unwrap();
        assert_eq!(
            RuntimeFile::read(folder.path()).unwrap().models,
            RuntimeModels::default()
        );
    }

    #[test]
    fn a_file_that_is_missing_or_damaged_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(RuntimeFile::read(folder.path()), None);
        std::fs::write(RuntimeFile::path(folder.path()), r#"{"pid": 1"#).unwrap();
        assert_eq!(RuntimeFile::read(folder.path()), None);
        RuntimeFile::remove(folder.path());
        RuntimeFile::remove(folder.path());
        assert!(!RuntimeFile::path(folder.path()).exists());
    }
}
