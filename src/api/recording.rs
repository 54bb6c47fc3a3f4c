//! The state of the recording of hook calls: the answer of `GET /hub/policies/recording`.

use serde::{Deserialize, Serialize};

/// The recording that is on, or the last one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordingReport {
    /// True if calls are being written down.
    pub recording: bool,
    /// The file; `None` before the first recording of this hub.
    pub file: Option<String>,
    /// Its begin, Unix seconds.
    pub since: Option<f64>,
    /// Calls that were written.
    pub calls: u64,
    /// Size of the file.
    pub bytes: u64,
    /// The recording ends before the file is larger.
    pub limit_bytes: u64,
    /// Calls that were left out because the disk was too slow.
    pub dropped: u64,
    /// The reason why it ended, unless a user ended it.
    pub error: Option<String>,
}
