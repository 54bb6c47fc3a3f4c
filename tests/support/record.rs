//! What the simulated workers of a test wrote down.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A record file, perhaps of several workers.
#[derive(Debug, Clone)]
pub struct Record(PathBuf);

impl Record {
    /// The record at `path`, which need not exist yet.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }

    /// The lines of that event: `start`, `load`, `loaded`, `load_failed`, `ready`, `request`,
    /// `streamed`, `cancelled`, `upload_aborted`, `sigterm`, `sigint`, `exit`.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let mut lines = self.lines();
        lines.retain(|line| line["event"] == event);
        lines
    }

    /// How often that event happened to that model (its served name, or its path).
    pub fn count(&self, event: &str, model: &str) -> usize {
        let of_model = |line: &&Value| line["model"] == model;
        self.events(event).iter().filter(of_model).count()
    }

    /// The requests to a path.
    pub fn requests(&self, path: &str) -> Vec<Value> {
        let mut requests = self.events("request");
        requests.retain(|request| request["path"] == path);
        requests
    }

    /// The process ids of all workers that were started; each leads a process group.
    pub fn workers(&self) -> Vec<u32> {
        let pids = self.events("start").into_iter();
        pids.filter_map(|line| u32::try_from(line["pid"].as_u64()?).ok())
            .collect()
    }
}

/// The fingerprint of a body, as `body_hash` has it.
pub fn hash(body: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("{:016x}", hasher.finish())
}
