//! The world of a simulated hub's policies: its models, its memory and its clock.
//!
//! The [`Simulation`](super::Simulation) writes, policies and tests read. It is the only place that knows
//! what a simulated worker weighs and when a model was last used.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::Number;
use super::trouble::Health;
use crate::api::{Activity, ApiError, MemoryState, ModelFacts, Pressure, SystemMemory};
use crate::config::{Config, ModelConfig, Settings};
use crate::core::machine::Launch;
use crate::core::queue::Queue;
use crate::policy::{KeepAlive, LocalTime, ModelView, World};

/// The behaviour of a simulated worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Worker {
    /// From its launch, or the order to load, until it serves.
    pub(crate) load: Duration,
    /// From the order to end until its process is gone.
    pub(crate) end: Duration,
    /// Its memory once loaded, in bytes; while it loads, the share that fits the time.
    pub(crate) memory_bytes: Option<u64>,
    /// From the end of its process until the system has its memory back.
    pub(crate) free: Duration,
    /// Reason why its loads fail, while they do.
    pub(crate) fails: Option<String>,
    /// True if its process stays up without the weights.
    pub(crate) resident: bool,
    /// True if it hangs: its requests get no byte.
    pub(crate) silent: bool,
    /// The share of a core that it uses meanwhile.
    pub(crate) cpu: f64,
    /// True if it logs meanwhile, or its memory changes.
    pub(crate) moves: bool,
    /// Known time of prompts like those that it gets.
    pub(crate) expected: Option<Duration>,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            load: Duration::from_secs(5),
            end: Duration::from_secs(1),
            memory_bytes: None,
            free: Duration::ZERO,
            fails: None,
            resident: false,
            silent: false,
            cpu: 0.0,
            moves: false,
            expected: None,
        }
    }
}

/// The unreadable part of the machine's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    Nothing,
    /// The available memory.
    Available,
    /// The available memory, and the total.
    All,
}

/// The machine's memory without the models.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Memory {
    pub(crate) total: Option<u64>,
    /// The memory of other programs.
    pub(crate) other: u64,
    /// The memory of spare processes.
    pub(crate) spares: u64,
    /// Its unreadable part.
    pub(crate) unread: Unread,
    pub(crate) pressure: Pressure,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            total: Some(64 << 30),
            other: 0,
            spares: 0,
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

impl Process {
    pub(super) fn new(launch: Launch) -> Self {
        Self {
            launch,
            loading_since: None,
            loaded: false,
        }
    }
}

/// One model.
#[derive(Debug, Default)]
pub(super) struct Model {
    name: String,
    pub(super) facts: Arc<ModelFacts>,
    settings: Arc<Settings>,
    pub(super) worker: Worker,
    pub(super) process: Option<Process>,
    /// Number of its stops.
    pub(super) stops: u64,
    /// True if requests may enter.
    pub(super) is_open: bool,
    pub(super) active: usize,
    /// Leases that came back.
    pub(super) given_back: u64,
    /// Requests that wait for it to be loaded.
    pub(super) waiting: usize,
    /// Requests that a policy told to wait.
    pub(super) queue: Queue<Number>,
    /// Counts what may have changed a verdict, but for leases that come back.
    pub(super) changes: u64,
    /// Time at which it was opened or used last.
    pub(super) last_active: Duration,
    pub(super) last_request_at: Option<f64>,
    /// The last client's wish how long it stays.
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) health: Health,
    pub(super) peak_bytes: Option<u64>,
}

impl Model {
    /// As hub.yaml has it; what it was before, it stays.
    fn configured(old: Option<Self>, model: &ModelConfig, config: &Config) -> Self {
        let old = old.unwrap_or_else(|| Self {
            name: model.name.clone(),
            facts: Arc::new(ModelFacts::configured(model, &config.log_path)),
            ..Self::default()
        });
        Self {
            settings: Arc::new(model.policy.clone()),
            ..old
        }
    }

    pub(super) fn memory_bytes(&self, now: Duration) -> Option<u64> {
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

/// The changing state.
#[derive(Debug)]
pub(super) struct WorldState {
    /// Since the simulation began.
    pub(super) now: Duration,
    config: Arc<Config>,
    /// In hub.yaml's order; those that it no longer names come last.
    models: Vec<Model>,
    pub(super) memory: Memory,
    /// Memory of ended processes, and the time at which the system has it back.
    freed: Vec<(u64, Duration)>,
    /// The part of that which the machine waits for.
    pub(super) returning: u64,
    /// Parked requests that are to look what is to become of them.
    pub(super) told: VecDeque<Number>,
}

/// The simulated hub as its policies see it.
#[derive(Debug)]
pub(crate) struct SimulatedWorld {
    /// Begin of the simulation, Unix seconds.
    begun: f64,
    state: Mutex<WorldState>,
}

impl SimulatedWorld {
    pub(super) fn new(config: Config, begun: f64) -> Self {
        let state = WorldState {
            now: Duration::ZERO,
            config: Arc::new(config.clone()),
            models: Vec::new(),
            memory: Memory::default(),
            freed: Vec::new(),
            returning: 0,
            told: VecDeque::new(),
        };
        let world = Self {
            begun,
            state: Mutex::new(state),
        };
        world.reconfigure(config);
        world
    }

    /// Another hub.yaml is in force. Models that it no longer names may still be ending.
    pub(super) fn reconfigure(&self, config: Config) {
        let mut state = self.state.lock();
        let mut old = std::mem::take(&mut state.models);
        for model in &config.models {
            let known = old.iter().position(|known| known.name == model.name);
            let known = known.map(|place| old.remove(place));
            let model = Model::configured(known, model, &config);
            state.models.push(model);
        }
        state.models.append(&mut old);
        state.config = Arc::new(config);
    }

    /// Reads or changes what is there now. Never while a policy is asked.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut WorldState) -> R) -> R {
        look(&mut self.state.lock())
    }

    /// Reads or changes a model by name, also one that is still ending.
    pub(super) fn at<R>(&self, name: &str, look: impl FnOnce(&mut Model) -> R) -> Option<R> {
        let mut state = self.state.lock();
        let model = state.models.iter_mut().find(|model| model.name == name)?;
        Some(look(model))
    }

    /// Changes the queue of a model: whom that calls, is going to look.
    pub(super) fn queue<T: IntoIterator<Item = Number>>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Queue<Number>, Duration) -> T,
    ) {
        let mut state = self.state.lock();
        let WorldState {
            models, told, now, ..
        } = &mut *state;
        let model = models.iter_mut().find(|model| model.name == name);
        told.extend(
            model
                .map(|model| change(&mut model.queue, *now))
                .into_iter()
                .flatten(),
        );
    }

    /// Something has changed at a model that may change a verdict.
    pub(super) fn changed(&self, name: &str) {
        self.at(name, |model| model.changes += 1);
        self.queue(name, |queue, _| queue.change());
    }

    /// Notes the number of a model's stops: requests that waited for a verdict about it wait in vain.
    pub(super) fn note_stops(&self, name: &str, stops: u64) {
        let before = self.at(name, |model| std::mem::replace(&mut model.stops, stops));
        if before != Some(stops) {
            let why = ApiError::being_stopped(name);
            self.queue(name, |queue, _| queue.dismiss(&why));
        }
    }

    /// The models that hub.yaml no longer names.
    pub(super) fn leaving(&self) -> Vec<Arc<ModelFacts>> {
        let state = self.state.lock();
        let leaving = state.models.iter().skip(state.config.models.len());
        leaving.map(|model| Arc::clone(&model.facts)).collect()
    }

    /// The most that each model ever held, as far as that is known.
    pub(super) fn peaks(&self) -> HashMap<String, u64> {
        let state = self.state.lock();
        let models = state.models.iter();
        let peaks = models.filter_map(|model| Some((model.name.clone(), model.peak_bytes?)));
        peaks.collect()
    }

    /// A worker's process has ended: the system has its memory back later. Says what it held, and what was
    /// available then.
    pub(super) fn free(&self, name: &str) -> Option<(u64, u64)> {
        let available = self.memory().available;
        let mut state = self.state.lock();
        let now = state.now;
        let model = state.models.iter_mut().find(|model| model.name == name)?;
        let held = model.memory_bytes(now);
        let (process, after) = (model.process.take()?, model.worker.free);
        if process.loaded {
            // What it held most is known when it is gone.
            model.peak_bytes = model.peak_bytes.max(held);
        }
        // What is back at once need not be waited for.
        let held = held.filter(|_| !after.is_zero())?;
        state.freed.push((held, now + after));
        Some((held, available?))
    }

    /// Since the simulation began.
    pub(crate) fn now(&self) -> Duration {
        self.state.lock().now
    }
}

impl WorldState {
    /// A model by name, or else by path.
    fn find(&self, name_or_path: &str) -> Option<&Model> {
        let found = self.config.find(name_or_path)?;
        self.models.iter().find(|model| model.name == found.name)
    }

    fn system(&self) -> SystemMemory {
        let held = self
            .models
            .iter()
            .filter_map(|model| model.memory_bytes(self.now));
        let freed = self.freed.iter().filter(|(_, back_at)| *back_at > self.now);
        let used = held.chain(freed.map(|(bytes, _)| *bytes)).sum::<u64>();
        let Memory {
            total,
            other,
            spares,
            unread,
            ..
        } = self.memory;
        let used = used + other + spares;
        let is_known = unread == Unread::Nothing;
        SystemMemory {
            total: total.filter(|_| unread != Unread::All),
            available: total
                .filter(|_| is_known)
                .map(|total| total.saturating_sub(used)),
            pressure: match unread {
                Unread::All => Pressure::Unknown,
                Unread::Nothing | Unread::Available => self.memory.pressure,
            },
            returning: self.returning,
            spares,
        }
    }
}

impl World for SimulatedWorld {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.state.lock().config)
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let state = self.state.lock();
        let model = state.find(name_or_path)?;
        let memory_bytes = model.memory_bytes(state.now);
        Some(ModelView {
            facts: Arc::clone(&model.facts),
            activity: Activity {
                active_requests: model.active,
                waiting_requests: model.waiting,
                parked_requests: model.queue.len(),
                last_request_at: model.last_request_at,
                memory_bytes,
                peak_bytes: model.peak_bytes.max(memory_bytes),
                ..Activity::default()
            },
            idle_seconds: model.idle(state.now).as_secs_f64(),
            loaded_seconds: model.loaded(state.now).map(|loaded| loaded.as_secs_f64()),
            keep_alive: (model.keep_alive.as_ref()).and_then(|wish| wish.about(&model.facts)),
            settings: Arc::clone(&model.settings),
        })
    }

    fn memory(&self) -> SystemMemory {
        self.state.lock().system()
    }

    fn clock(&self) -> f64 {
        self.begun + self.now().as_secs_f64()
    }

    /// Of UTC, so that a test says the same everywhere.
    fn local_time(&self) -> LocalTime {
        LocalTime::at(self.clock(), TimeZone::UTC)
    }
}
