//! The report of each policy: the answer of `GET /hub/policies`, which `policy list` shows.

use serde::{Deserialize, Serialize};

/// All policies in the order in which they are asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PoliciesReport {
    /// Those in force.
    pub policies: Vec<PolicyFacts>,
    /// Files that do not load, hooks that fail; one sentence each.
    pub warnings: Vec<String>,
    /// Memory of the Lua state, in bytes.
    pub memory_bytes: u64,
}

/// One policy, counted since it was loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyFacts {
    /// `alpha.lua`, or `bundled/create_hub.lua`.
    pub name: String,
    /// Its origin.
    pub origin: Origin,
    /// Its hooks: `on_request`, …
    pub hooks: Vec<String>,
    /// The events that it observes: `model.loaded`, …
    #[serde(default)]
    pub observes: Vec<String>,
    /// The names of models that it answers for: `auto`, …
    #[serde(default)]
    pub models: Vec<String>,
    /// True if it refuses when it fails (`on_error = "deny"`).
    pub denies: bool,
    /// Number of calls of its hooks.
    pub calls: u64,
    /// Number of its verdicts.
    pub verdicts: u64,
    /// Number of its failures.
    pub failures: u64,
    /// Average time of a call in seconds; `None` before the first timed one.
    pub average_seconds: Option<f64>,
    /// The last failure: `file:line: what`.
    pub last_error: Option<String>,
    /// True if it is not asked any more, after too many failures in a row.
    pub switched_off: bool,
}

/// The origin of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A file in the folder of hub.yaml.
    File,
    /// The program itself.
    Bundled,
}

impl Origin {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Bundled => "bundled",
        }
    }
}
