//! The one snapshot of the hub and its one builder.
//!
//! The supervisor publishes a [`ModelFacts`] per model whenever one changes; [`Status::build`] joins
//! them with the counters of the moment into what `GET /hub/status`, the dashboard, the command line
//! and Lua show. Nothing else formats a state. It knows nothing of how models are run.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Download, SystemMemory, UsageTotals};

/// Begin of the warning that hub.yaml differs from the configuration in force.
pub const EDITED: &str = "hub.yaml has changed since ";

/// The clock of all times here: Unix seconds.
pub fn unix_now() -> f64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_secs_f64()
}

/// State of a model's process, in the words of the contract, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// Never started since the hub came up.
    #[default]
    Inactive,
    /// On its way to `Running`.
    Starting,
    /// Takes requests. A model that is not in memory may have no process while it is `Running`.
    Running,
    /// On its way to `Stopped`.
    Stopping,
    /// Ended because it was asked to.
    Stopped,
    /// Ended unasked, or before it was ready.
    Failed,
}

impl ProcessState {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }
}

/// State of a model's weights, in the words of the contract, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryState {
    /// Not in memory.
    #[default]
    Unloaded,
    /// On the way into memory; counts against a group's cap.
    Loading,
    /// In memory.
    Loaded,
    /// On the way out; the memory is still held.
    Unloading,
    /// The last load failed, or the process died.
    Failed,
}

impl MemoryState {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Loaded => "loaded",
            Self::Unloading => "unloading",
            Self::Failed => "failed",
        }
    }

    /// True if memory is held or about to be.
    pub fn holds_memory(self) -> bool {
        matches!(self, Self::Loading | Self::Loaded | Self::Unloading)
    }
}

/// A machine of a model that spans several.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct HostFacts {
    /// As hub.yaml or its hostfile names it to `ssh`.
    pub name: String,
    /// Its share of the weights and of the cache, from 0 to 1: MLX gives each of them as much.
    pub share: f64,
}

/// The supervisor's facts about one model, published whole at every change. Times are Unix seconds. The status
/// shows all but the skipped fields.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The model's name; the status has it as `id`.
    #[serde(skip)]
    pub name: String,
    /// Its path as hub.yaml gives it.
    pub model_path: String,
    /// `lm`, `multimodal`, … as in hub.yaml.
    pub model_type: Cow<'static, str>,
    /// The name of its engine.
    #[serde(skip)]
    pub engine: String,
    /// The machines that it spans, this one first; none for a model of this machine alone.
    #[serde(skip)]
    pub hosts: Vec<HostFacts>,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// True if it starts with the hub.
    pub default: bool,
    /// True if it is loaded by its first request rather than at its start.
    pub jit_enabled: bool,
    /// The idle limit of hub.yaml, in minutes.
    pub auto_unload_minutes: Option<u32>,
    /// The context length in tokens (hub.yaml's, or the contract's default).
    #[serde(skip)]
    pub context_length: u32,
    /// The log file to show; `None` with `no_log_file`.
    pub log_path: Option<String>,
    /// See [`ProcessState`].
    pub process_state: ProcessState,
    /// See [`MemoryState`].
    pub memory_state: MemoryState,
    /// Time of the last change of `memory_state`.
    pub memory_last_transition_at: Option<f64>,
    /// Reason why the last load failed or the process died; cleared by the next load.
    pub memory_last_error: Option<String>,
    /// Time of its last load.
    pub last_load_at: Option<f64>,
    /// Time of its last unload.
    pub last_unload_at: Option<f64>,
    /// Seconds that the last load took; null before the first that this hub or an earlier one has seen.
    #[serde(default)]
    pub load_seconds: Option<f64>,
    /// The worker's process id, while there is a process.
    pub pid: Option<u32>,
    /// The worker's port, once assigned.
    pub port: Option<u16>,
    /// Time of its last start.
    pub started_at: Option<f64>,
    /// Time of its last stop or failure.
    pub stopped_at: Option<f64>,
    /// Exit code of a process that ended unasked; −N for signal N.
    pub exit_code: Option<i32>,
    /// Time of its load on a monotonic clock: since the hub came up.
    #[serde(skip)]
    pub loaded_since: Option<Duration>,
}

impl ModelFacts {
    /// True if the model counts as started: it takes requests now or soon will.
    pub fn is_started(&self) -> bool {
        matches!(
            self.process_state,
            ProcessState::Starting | ProcessState::Running
        )
    }

    /// True if it is between two states.
    pub fn is_on_its_way(&self) -> bool {
        let process = matches!(
            self.process_state,
            ProcessState::Starting | ProcessState::Stopping
        );
        let memory = matches!(
            self.memory_state,
            MemoryState::Loading | MemoryState::Unloading
        );
        process || memory
    }
}

/// Counters of a model that change without the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Activity {
    /// Requests in flight.
    pub active_requests: usize,
    /// Requests that wait for the model to be loaded.
    pub waiting_requests: usize,
    /// Requests that a policy told to wait.
    #[serde(default)]
    pub parked_requests: usize,
    /// Time at which a request last began or ended, Unix seconds.
    pub last_request_at: Option<f64>,
    /// Totals of its requests.
    #[serde(default)]
    pub usage: UsageTotals,
    /// Bytes its process group holds, as last measured; `None` without a process or a measure.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// The most it ever held under these launch settings, in bytes; `None` if it was never measured.
    #[serde(default)]
    pub peak_bytes: Option<u64>,
    /// The download that its load waits for; `None` if there is none.
    #[serde(default)]
    pub download: Option<Download>,
}

/// A group as configured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupFacts {
    /// The group's name.
    pub name: String,
    /// Largest number of members that hold memory at once.
    pub max_loaded: Option<u32>,
    /// Idle limit of its members, in minutes.
    pub idle_unload_trigger_min: Option<u32>,
}

/// Facts for a status, besides the models.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HubFacts {
    /// Bind address of the hub's port.
    pub host: String,
    /// The hub's port.
    pub port: u16,
    /// Its process id; none for a hub that does not run.
    pub pid: Option<u32>,
    /// hub.yaml.
    pub config_path: String,
    /// The log folder in use.
    pub log_path: String,
    /// True if `GET /hub` serves the dashboard.
    pub enable_status_page: bool,
    /// True if requests need keys.
    pub has_keys: bool,
    /// True if the status page may change hub.yaml.
    pub edits_config: bool,
    /// True if bodies of requests and answers are kept for a while.
    pub capture: bool,
    /// Modification time of hub.yaml, Unix seconds: `created` of every model.
    pub config_modified_at: u64,
    /// True if hub.yaml on disk is invalid or unreadable.
    pub degraded: bool,
    /// Everything a user should know about, one sentence each.
    pub warnings: Vec<String>,
    /// Groups in hub.yaml's order.
    pub groups: Vec<GroupFacts>,
    /// The machine's memory as last measured.
    pub memory: SystemMemory,
    /// The processes that are kept for the next loads.
    pub spares: Vec<SpareStatus>,
}

/// A process that is kept for the next load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpareStatus {
    /// Its process id; it leads a process group.
    pub pid: u32,
    /// True if a load may use it; false while it is being made.
    pub ready: bool,
    /// Bytes that its group holds, as last measured.
    pub memory_bytes: Option<u64>,
}

/// `GET /hub/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `ok`, or `degraded` when hub.yaml on disk is not valid.
    pub status: String,
    /// Time at which this was built, Unix seconds.
    pub timestamp: u64,
    /// Bind address of the hub's port.
    pub host: String,
    /// The hub's port.
    pub port: u16,
    /// The hub's process id; null for a hub that does not run.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Its hub.yaml; older hubs do not tell.
    #[serde(default)]
    pub config_path: Option<String>,
    /// The log folder in use; older hubs do not tell.
    #[serde(default)]
    pub log_path: Option<String>,
    /// True if `GET /hub` serves the dashboard; none from older hubs.
    #[serde(default)]
    pub enable_status_page: Option<bool>,
    /// True if requests need keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_keys: bool,
    /// True if the status page may change hub.yaml.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edits_config: bool,
    /// True if bodies of requests and answers are kept for a while.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub capture: bool,
    /// Totals.
    pub counts: Counts,
    /// Everything a user should know about, one sentence each.
    pub warnings: Vec<String>,
    /// Always true: the answer comes from the hub itself.
    pub controller_available: bool,
    /// The machine's memory as last measured.
    #[serde(default)]
    pub memory: SystemMemory,
    /// The processes that are kept for the next loads; older hubs have none.
    #[serde(default)]
    pub spares: Vec<SpareStatus>,
    /// Groups in hub.yaml's order.
    pub groups: Vec<GroupStatus>,
    /// Models in hub.yaml's order.
    pub models: Vec<ModelStatus>,
}

impl Status {
    /// The model for a client that names none: of those in memory that was used last, else the first that starts
    /// with the hub. Only models for chats count.
    pub fn chat_model(&self) -> Option<&ModelStatus> {
        let models = || self.models.iter().filter(|model| model.chats());
        let used_at = |model: &ModelStatus| model.metadata.activity.last_request_at;
        let is_loaded =
            |model: &&ModelStatus| model.metadata.facts.memory_state == MemoryState::Loaded;
        models()
            .filter(is_loaded)
            .reduce(|one, other| {
                if used_at(other) > used_at(one) {
                    other
                } else {
                    one
                }
            })
            .or_else(|| models().find(|model| model.metadata.facts.default))
    }

    /// The warning that hub.yaml says something else than what is in force.
    pub fn edited(&self) -> Option<&str> {
        let mut warnings = self.warnings.iter();
        let edited = warnings.find(|warning| warning.starts_with(EDITED));
        edited.map(String::as_str)
    }
}

/// Totals over all models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Models in hub.yaml.
    pub registered: usize,
    /// Models whose `process_state` is `running`.
    pub started: usize,
    /// Models whose `memory_state` is `loaded`.
    pub loaded: usize,
}

/// One group in [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group's name.
    pub name: String,
    /// Largest number of members that hold memory at once.
    pub max_loaded: Option<u32>,
    /// Idle limit of its members, in minutes.
    pub idle_unload_trigger_min: Option<u32>,
    /// Names of its models, in hub.yaml's order.
    pub members: Vec<String>,
    /// Names of the members that hold memory.
    pub loaded: Vec<String>,
}

/// One model in [`Status`], in the form of OpenAI's model object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// The model's name.
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Modification time of hub.yaml, Unix seconds.
    pub created: u64,
    /// Always `hub`.
    pub owned_by: String,
    /// Everything else.
    pub metadata: ModelMetadata,
}

/// State and settings of one model, side by side in one object. Times are Unix seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// The same as `process_state`.
    pub status: ProcessState,
    /// The facts published last.
    #[serde(flatten)]
    pub facts: ModelFacts,
    /// The counters of the moment.
    #[serde(flatten)]
    pub activity: Activity,
}

impl Status {
    /// Joins what the supervisor published with the counters of the moment.
    /// `now` is Unix seconds; models come in hub.yaml's order.
    pub fn build(hub: &HubFacts, models: &[(Arc<ModelFacts>, Activity)], now: u64) -> Self {
        let counts = Counts {
            registered: models.len(),
            started: models
                .iter()
                .filter(|(m, _)| m.process_state == ProcessState::Running)
                .count(),
            loaded: models
                .iter()
                .filter(|(m, _)| m.memory_state == MemoryState::Loaded)
                .count(),
        };
        let groups = hub
            .groups
            .iter()
            .map(|group| {
                let members = || {
                    models
                        .iter()
                        .filter(|(m, _)| m.group.as_deref() == Some(group.name.as_str()))
                };
                GroupStatus {
                    name: group.name.clone(),
                    max_loaded: group.max_loaded,
                    idle_unload_trigger_min: group.idle_unload_trigger_min,
                    members: members().map(|(m, _)| m.name.clone()).collect(),
                    loaded: members()
                        .filter(|(m, _)| m.memory_state.holds_memory())
                        .map(|(m, _)| m.name.clone())
                        .collect(),
                }
            })
            .collect();
        Self {
            status: if hub.degraded { "degraded" } else { "ok" }.to_owned(),
            timestamp: now,
            host: hub.host.clone(),
            port: hub.port,
            pid: hub.pid,
            config_path: Some(hub.config_path.clone()),
            log_path: Some(hub.log_path.clone()),
            enable_status_page: Some(hub.enable_status_page),
            has_keys: hub.has_keys,
            edits_config: hub.edits_config,
            capture: hub.capture,
            counts,
            warnings: hub.warnings.clone(),
            controller_available: true,
            memory: hub.memory,
            spares: hub.spares.clone(),
            groups,
            models: models
                .iter()
                .map(|(facts, activity)| {
                    ModelStatus::build(facts, *activity, hub.config_modified_at)
                })
                .collect(),
        }
    }
}

impl ModelStatus {
    /// True if it answers in a chat.
    pub fn chats(&self) -> bool {
        matches!(&*self.metadata.facts.model_type, "lm" | "multimodal")
    }

    fn build(facts: &ModelFacts, activity: Activity, created: u64) -> Self {
        Self {
            id: facts.name.clone(),
            object: "model".to_owned(),
            created,
            owned_by: "hub".to_owned(),
            metadata: ModelMetadata {
                status: facts.process_state,
                facts: facts.clone(),
                activity,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model of a type; whether it starts with the hub, whether it is loaded, and when it was used.
    type Row = (&'static str, &'static str, bool, bool, Option<f64>);

    fn status(models: &[Row]) -> Status {
        let build = |(name, model_type, default, is_loaded, last_request_at): &Row| {
            let memory_state = match is_loaded {
                true => MemoryState::Loaded,
                false => MemoryState::Unloaded,
            };
            let facts = ModelFacts {
                name: (*name).to_owned(),
                model_type: (*model_type).into(),
                default: *default,
                memory_state,
                ..ModelFacts::default()
            };
            let activity = Activity {
                last_request_at: *last_request_at,
                ..Activity::default()
            };
            (Arc::new(facts), activity)
        };
        let models: Vec<_> = models.iter().map(build).collect();
        Status::build(&HubFacts::default(), &models, 0)
    }

    #[test]
    fn a_client_gets_the_loaded_model_that_was_used_last_then_the_first_default() {
        let of = |models: &[Row]| status(models).chat_model().map(|model| model.id.clone());
        let all: [Row; 5] = [
            ("embed", "embeddings", true, true, Some(9.0)),
            ("a", "lm", false, true, None),
            ("b", "lm", false, true, Some(1.0)),
            ("c", "multimodal", true, true, Some(2.0)),
            ("d", "lm", true, false, Some(3.0)),
        ];
        assert_eq!(of(&all).as_deref(), Some("c"));
        assert_eq!(of(&all[..3]).as_deref(), Some("b"));
        let never_used = [all[1], ("e", "lm", true, true, None)];
        assert_eq!(of(&never_used).as_deref(), Some("a"));
        let none_loaded = [("x", "lm", false, false, None), all[4]];
        assert_eq!(of(&none_loaded).as_deref(), Some("d"));
        assert_eq!(of(&all[..1]), None);
    }
}
