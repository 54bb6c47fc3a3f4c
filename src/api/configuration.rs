//! hub.yaml as `/hub/config` shows it, checks it and saves it.

use serde::{Deserialize, Serialize};

use super::PolicyChanges;

/// hub.yaml as it is on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigText {
    /// The file.
    pub path: String,
    /// All of it.
    pub text: String,
    /// The mark of the text, which a change of it has to name: the SHA-256 in hexadecimal digits.
    pub version: String,
}

/// The judgement of a text that may become hub.yaml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigCheck {
    /// True if it can be saved: there is no finding.
    pub valid: bool,
    /// Its mistakes, in the order of the text.
    pub findings: Vec<ConfigFinding>,
    /// What a user should know about, and what is legal all the same.
    pub warnings: Vec<ConfigFinding>,
    /// The models that would be started anew.
    pub restarts: Vec<String>,
    /// Its lines beside those of the file, where they differ, each with up to three lines around it.
    pub difference: Vec<DiffLine>,
}

/// A mistake in hub.yaml, or a warning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFinding {
    /// From 1; none where it is not about a place.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// The number of characters that it is about, on this line.
    pub length: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// A line of a difference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiffLine {
    /// Its kind.
    pub kind: DiffKind,
    /// Its number in the file, from 1; none for one that is new.
    pub before: Option<usize>,
    /// Its number in the text, from 1; none for one that goes.
    pub after: Option<usize>,
    /// The line without its end.
    pub text: String,
}

/// The kind of a line of a difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiffKind {
    /// It is in both.
    #[default]
    Same,
    /// It is new.
    Added,
    /// It goes.
    Removed,
}

/// What became of a text that was saved as hub.yaml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSaved {
    /// The mark of the text.
    pub version: String,
    /// The file that has the old text.
    pub backup: String,
    /// The models that the reload starts.
    pub started: Vec<String>,
    /// The models that it has stopped.
    pub stopped: Vec<String>,
    /// The others.
    pub unchanged: Vec<String>,
    /// What changed about the policies, if anything did.
    #[serde(default, skip_serializing_if = "PolicyChanges::is_empty")]
    pub policies: PolicyChanges,
}
