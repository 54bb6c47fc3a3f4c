//! `<log_path>/hub_runtime.json`: how commands find the daemon, and a new daemon the workers of an
//! old one. The daemon writes it at start and at every change of a worker and removes it at a clean
//! stop; the command line reads it before it looks at hub.yaml.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What stands in the file. Unknown keys are ignored, so that older hubs can read newer files.
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
    /// The workers that are up, for a hub that comes after a crash.
    #[serde(default)]
    pub workers: Vec<RuntimeWorker>,
}

/// One worker process group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
}

impl RuntimeFile {
    /// Where the file is.
    pub fn path(log_path: &Path) -> PathBuf {
        log_path.join("hub_runtime.json")
    }

    /// Reads it; `None` when there is none or it is not one of ours.
    pub fn read(log_path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(log_path)).ok()?).ok()
    }

    /// Replaces the file in one step; readable by its owner only.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, log_path: &Path) -> std::io::Result<()> {
        // A named temporary file has mode 0600 and replaces the old one atomically.
        let mut file = tempfile::NamedTempFile::new_in(log_path)?;
        serde_json::to_writer(&mut file, self)?;
        file.flush()?;
        file.persist(Self::path(log_path))
            .map_err(|error| error.error)?;
        Ok(())
    }

    /// Removes the file; a missing one is fine.
    pub fn remove(log_path: &Path) {
        let _ = std::fs::remove_file(Self::path(log_path));
    }
}
