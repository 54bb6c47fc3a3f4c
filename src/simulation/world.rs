//! What the policies see of a simulated hub: its models, its memory and its clock.
//!
//! The [`Simulation`](super::Simulation) writes, policies and tests read. It is the only place that knows
//! what a simulated worker weighs and when a model was last used.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::trouble::Health;
use crate::config::{Config, Settings};
use crate::core::machine::Launch;
use crate::memory::{Pressure, SystemMemory};
use crate::policy::{GroupView, LocalTime, ModelView, World};
use crate::status::{Activity, GroupFacts, MemoryState, ModelFacts};

/// How a simulated worker behaves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Worker {
    /// From its launch, or the order to load, until it serves.
    pub(crate) load: Duration,
    /// From the order to end until its process is gone.
    pub(crate) end: Duration,
    /// What it holds once loaded, in bytes; while it loads, the share that fits the time.
    pub(crate) memory_bytes: Option<u64>,
    /// Why its loads fail, while they do.
    pub(crate) fails: Option<String>,
    /// Whether its process stays up without the weights.
    pub(crate) resident: bool,
    /// Whether it hangs: its requests get no byte.
    pub(crate) silent: bool,
    /// The share of a core that it uses meanwhile.
    pub(crate) cpu: f64,
    /// Whether it logs meanwhile, or its memory changes.
    pub(crate) moves: bool,
    /// How long prompts like those that it gets are known to have taken.
    pub(crate) expected: Option<Duration>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            load: Duration::from_secs(5),
            end: Duration::from_secs(1),
            memory_bytes: None,
            fails: None,
            resident: false,
            silent: false,
            cpu: 0.0,
            moves: false,
            expected: None,
        }
    }
}

/// What cannot be read of the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    Nothing,
    /// How much is available.
    Available,
    /// That, and how much there is.
    All,
}

/// The machine's memory without the models.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Memory {
    pub(crate) total: Option<u64>,
    /// What other programs hold.
    pub(crate) other: u64,
    /// What of it cannot be read.
    pub(crate) unread: Unread,
    pub(crate) pressure: Pressure,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            total: Some(64 << 30),
            other: 0,
            unread: Unread::Nothing,
            pressure: Pressure::Normal,
        }
    }
}

/// A worker's process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Process {
    pub(super) launch: Launch,
    pub(super) loading_since: Option<Duration>,
    pub(super) loaded: bool,
}

/// One model.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) facts: Arc<ModelFacts>,
    pub(super) settings: Arc<Settings>,
    pub(super) worker: Worker,
    pub(super) process: Option<Process>,
    /// How often it was stopped.
    pub(super) stops: u64,
    /// Whether requests may enter.
    pub(super) is_open: bool,
    pub(super) active: usize,
    /// Requests that wait for it to be loaded.
    pub(super) waiting: usize,
    /// Requests that a policy told to wait.
    pub(super) parked: usize,
    /// When it was opened or used last.
    pub(super) last_active: Duration,
    pub(super) last_request_at: Option<f64>,
    pub(super) health: Health,
    pub(super) peak_bytes: Option<u64>,
}

impl Model {
    fn memory_bytes(&self, now: Duration) -> Option<u64> {
        let (process, bytes) = (self.process?, self.worker.memory_bytes?);
        if process.loaded {
            return Some(bytes);
        }
        let since = process.loading_since?;
        let share = (now - since).as_secs_f64() / self.worker.load.as_secs_f64().max(1e-9);
        Some((bytes as f64 * share.min(1.0)) as u64)
    }

    fn loaded(&self, now: Duration) -> Option<Duration> {
        let since = self.facts.loaded_since?;
        (self.facts.memory_state == MemoryState::Loaded).then(|| now.saturating_sub(since))
    }

    fn idle(&self, now: Duration) -> Duration {
        match (self.active, self.facts.last_load_at) {
            (0, Some(_)) => now.saturating_sub(self.last_active),
            _ => Duration::ZERO,
        }
    }
}

/// What changes.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Since the simulation began.
    pub(super) now: Duration,
    /// In hub.yaml's order.
    pub(super) models: Vec<Model>,
    pub(super) memory: Memory,
}

/// The simulated hub as its policies see it.
#[derive(Debug)]
pub(crate) struct SimulatedWorld {
    pub(super) config: Config,
    /// When the simulation began, in Unix seconds.
    begun: f64,
    state: Mutex<State>,
}

impl SimulatedWorld {
    pub(super) fn new(config: Config, begun: f64) -> Self {
        let models = config.models.iter().map(|model| Model {
            facts: Arc::new(ModelFacts::configured(model, &config.log_path)),
            settings: Arc::new(model.policy.clone()),
            ..Model::default()
        });
        let state = State {
            models: models.collect(),
            ..State::default()
        };
        Self {
            begun,
            state: Mutex::new(state),
            config,
        }
    }

    /// Reads or changes what is there now. Never while a policy is asked.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock())
    }

    /// Reads or changes a model by name.
    pub(super) fn at<R>(&self, name: &str, look: impl FnOnce(&mut Model) -> R) -> Option<R> {
        let index = self.config.models.iter().position(|m| m.name == name)?;
        Some(look(&mut self.state.lock().models[index]))
    }

    /// Since the simulation began.
    pub(crate) fn now(&self) -> Duration {
        self.state.lock().now
    }

    /// A model's place by name, or else by path.
    fn find(&self, name_or_path: &str) -> Option<usize> {
        let models = &self.config.models;
        let by_name = models.iter().position(|model| model.name == name_or_path);
        let has_path = |path: &str| path == name_or_path;
        by_name.or_else(|| {
            models
                .iter()
                .position(|m| has_path(&m.model_path) || has_path(&m.resolved_path))
        })
    }
}

impl World for SimulatedWorld {
    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let index = self.find(name_or_path)?;
        let state = self.state.lock();
        let model = &state.models[index];
        let memory_bytes = model.memory_bytes(state.now);
        Some(ModelView {
            facts: Arc::clone(&model.facts),
            activity: Activity {
                active_requests: model.active,
                waiting_requests: model.waiting,
                parked_requests: model.parked,
                last_request_at: model.last_request_at,
                ..Activity::default()
            },
            idle_seconds: model.idle(state.now).as_secs_f64(),
            loaded_seconds: model.loaded(state.now).map(|loaded| loaded.as_secs_f64()),
            memory_bytes,
            peak_bytes: model.peak_bytes.max(memory_bytes),
            settings: Arc::clone(&model.settings),
        })
    }

    fn model_names(&self) -> Vec<String> {
        let names = self.config.models.iter().map(|model| model.name.clone());
        names.collect()
    }

    fn group(&self, name: &str) -> Option<GroupView> {
        let facts = GroupFacts::from(self.config.group(name)?);
        let members = self.config.members(name).map(|model| model.name.clone());
        let state = self.state.lock();
        let held = state
            .models
            .iter()
            .map(|model| &model.facts)
            .filter(|m| m.group.as_deref() == Some(name) && m.memory_state.holds_memory());
        Some(GroupView {
            facts,
            members: members.collect(),
            loaded: held.map(|model| model.name.clone()).collect(),
        })
    }

    fn group_names(&self) -> Vec<String> {
        let names = self.config.groups.iter().map(|group| group.name.clone());
        names.collect()
    }

    fn memory(&self) -> SystemMemory {
        let state = self.state.lock();
        let bytes = |model: &Model| model.memory_bytes(state.now);
        let held: u64 = state.models.iter().filter_map(bytes).sum();
        let used = held + state.memory.other;
        SystemMemory {
            total: state
                .memory
                .total
                .filter(|_| state.memory.unread != Unread::All),
            available: state
                .memory
                .total
                .filter(|_| state.memory.unread == Unread::Nothing)
                .map(|total| total.saturating_sub(used)),
            pressure: match state.memory.unread {
                Unread::All => Pressure::Unknown,
                Unread::Nothing | Unread::Available => state.memory.pressure,
            },
            // What an ended process held is available at once.
            returning: 0,
        }
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::new(self.config.policy.clone())
    }

    fn clock(&self) -> f64 {
        self.begun + self.now().as_secs_f64()
    }

    /// Of UTC, so that a test says the same everywhere.
    fn local_time(&self) -> LocalTime {
        LocalTime::at(self.clock(), TimeZone::UTC)
    }
}
