//! The lines of a recording, which docs/testing-policies.md describes: each call of a hook
//! with everything a policy could see and the verdict, and each event. They hold no texts of requests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::{MemoryState, ProcessState, SystemMemory};
use crate::policy::{Event, Exit, ModelView, Trouble};

/// The version of the format.
pub(in crate::policy) const VERSION: u32 = 1;

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(in crate::policy) enum Line {
    /// The first.
    Head {
        recording: u32,
        program: String,
        time: f64,
    },
    /// The last, if the recording was ended.
    End {
        end: String,
        time: f64,
        dropped: u64,
    },
    /// An event for observers.
    Event(Box<Heard>),
    /// Any other.
    Call(Box<CallLine>),
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::policy) struct Heard {
    pub(in crate::policy) event: Event,
    /// As in a call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::policy) models: BTreeMap<String, Row>,
    /// As in a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) memory: Option<SystemMemory>,
}

/// One call of a hook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::policy) struct CallLine {
    pub(in crate::policy) time: f64,
    pub(in crate::policy) hook: String,
    /// Empty for a request that names none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(in crate::policy) model: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) request: Option<RequestLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) load: Option<Load>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) exit: Option<Exit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) trouble: Option<Trouble>,
    pub(in crate::policy) said: Said,
    /// The models that have changed since the line before; all of them at the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(in crate::policy) models: BTreeMap<String, Row>,
    /// The machine's memory, if it has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) memory: Option<SystemMemory>,
}

/// A request without its texts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::policy) struct RequestLine {
    pub(in crate::policy) method: String,
    pub(in crate::policy) path: String,
    pub(in crate::policy) client: String,
    /// The trusted proxy that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) via: Option<IpAddr>,
    /// The name of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) key: Option<String>,
    /// Empty for OpenAI's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(in crate::policy) protocol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) keep_alive: Option<f64>,
    pub(in crate::policy) waited_seconds: f64,
    /// Those of a short list.
    pub(in crate::policy) headers: BTreeMap<String, String>,
    /// `None` for a body that had not arrived when the policies decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) body: Option<RecordedBody>,
}

/// The recorded part of a body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::policy) struct RecordedBody {
    pub(in crate::policy) size_bytes: usize,
    pub(in crate::policy) prompt_chars: usize,
    /// True if it is a JSON object.
    pub(in crate::policy) is_json: bool,
    /// Its top-level fields that are numbers or booleans.
    pub(in crate::policy) fields: Map<String, Value>,
}

/// A load that a policy was asked about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::policy) struct Load {
    pub(in crate::policy) reason: String,
    pub(in crate::policy) waiting: usize,
    pub(in crate::policy) waited_seconds: f64,
}

/// The policies' answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The constructor: `unload`, `evict`; if all abstained, the default: `pass`.
    pub verdict: String,
    /// The verdict's fields, without texts.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
    /// The line: `file:line`, or the file alone; `None` when no policy decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// One model at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::policy) struct Row {
    pub(in crate::policy) process: ProcessState,
    pub(in crate::policy) memory: MemoryState,
    pub(in crate::policy) active: usize,
    pub(in crate::policy) waiting: usize,
    pub(in crate::policy) parked: usize,
    /// Unix seconds; `None` while it has requests, and before its first load.
    pub(in crate::policy) idle_since: Option<f64>,
    /// Unix seconds; `None` unless it is loaded.
    pub(in crate::policy) loaded_since: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::policy) keep_alive: Option<f64>,
    pub(in crate::policy) load_seconds: Option<f64>,
    pub(in crate::policy) memory_bytes: Option<u64>,
    pub(in crate::policy) peak_bytes: Option<u64>,
}

impl Row {
    pub(super) fn of(view: &ModelView, now: f64) -> Self {
        let ago = |seconds: f64| millis(now - seconds);
        Self {
            process: view.facts.process_state,
            memory: view.facts.memory_state,
            active: view.activity.active_requests,
            waiting: view.activity.waiting_requests,
            parked: view.activity.parked_requests,
            idle_since: Some(view.idle_seconds).filter(|idle| *idle > 0.0).map(ago),
            loaded_since: view.loaded_seconds.map(ago),
            keep_alive: view.keep_alive,
            load_seconds: view.facts.load_seconds.map(millis),
            memory_bytes: view.activity.memory_bytes,
            peak_bytes: view.activity.peak_bytes,
        }
    }

    /// True if the difference to `other` cannot matter to a policy: clocks that are read one after the other,
    /// and small changes of memory.
    pub(super) fn is_about(&self, other: &Self) -> bool {
        let same = |one: Option<f64>, other: Option<f64>| match (one, other) {
            (Some(one), Some(other)) => (one - other).abs() < 0.05,
            (one, other) => one == other,
        };
        let near = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => one.abs_diff(other) <= one.max(other) / 64,
            (one, other) => one == other,
        };
        same(self.idle_since, other.idle_since)
            && same(self.loaded_since, other.loaded_since)
            && near(self.memory_bytes, other.memory_bytes)
            && near(self.peak_bytes, other.peak_bytes)
            && self.process == other.process
            && self.memory == other.memory
            && (self.active, self.waiting, self.parked)
                == (other.active, other.waiting, other.parked)
            && self.load_seconds == other.load_seconds
            && self.keep_alive == other.keep_alive
    }
}

/// Rounds to the millisecond, the precision of a recording.
pub(super) fn millis(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}
