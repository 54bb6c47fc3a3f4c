//! The answer of `GET /hub/history`: the last hour in figures.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The last hour. All lists are of one length, the newest point last; a point without a figure is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HistoryReport {
    /// Seconds between two points.
    pub step: u64,
    /// The time of the newest point, Unix seconds.
    pub end: u64,
    /// The machine's memory in use, in bytes.
    pub memory_bytes: Vec<Option<u64>>,
    /// The models of which there is anything to tell.
    pub models: BTreeMap<String, ModelHistory>,
}

/// The last hour of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelHistory {
    /// Tokens of answers that ended in the time before the point, per second of it.
    pub tokens_per_second: Vec<Option<f64>>,
    /// Requests that ended in it.
    pub requests: Vec<Option<u64>>,
    /// The memory of its process.
    pub memory_bytes: Vec<Option<u64>>,
    /// Its loads.
    pub loads: Vec<LoadTime>,
}

/// A load that has succeeded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadTime {
    /// When it ended, Unix seconds.
    pub time: f64,
    /// Seconds that it took.
    pub seconds: f64,
}
