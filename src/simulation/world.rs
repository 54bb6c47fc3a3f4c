//! The world of a simulated hub's policies: its models, its memory and its clock.
//!
//! The [`Simulation`](super::Simulation) writes, policies and tests read. It is the only place that knows
//! what a simulated worker weighs.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use parking_lot::Mutex;

use super::clock::Clock;
use super::trouble::Pretence;
use crate::api::{Activity, ModelFacts, Pressure, SystemMemory};
use crate::config::{Config, ModelConfig};
use crate::core::gate::Runtime;
use crate::core::machine::Launch;
use crate::core::watchdog::WorkerWatch;
use crate::core::{model, table};
use crate::policy::{LocalTime, ModelView, World};

/// The behaviour of a simulated worker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SimulatedWorker {
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

impl Default for SimulatedWorker {
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

/// A worker's process, by its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum SimulatedProcess {
    Unloaded,
    Loading { since: Duration },
    Loaded,
}

/// One model: that of both hubs, and its pretended worker.
#[derive(Debug)]
pub(super) struct SimulatedModel {
    base: model::Model<Clock>,
    pub(super) pretended: Mutex<Pretended>,
}

/// A worker, as the test wants it, and its process.
#[derive(Debug, Default)]
pub(super) struct Pretended {
    pub(super) worker: SimulatedWorker,
    pub(super) launch: Option<Launch>,
    pub(super) process: Option<SimulatedProcess>,
    pub(super) watch: WorkerWatch<Pretence>,
    pub(super) peak_bytes: Option<u64>,
}

impl Deref for SimulatedModel {
    type Target = model::Model<Clock>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl Pretended {
    fn memory_bytes(&self, now: Duration) -> Option<u64> {
        let bytes = self.worker.memory_bytes?;
        let since = match self.process? {
            SimulatedProcess::Unloaded => return None,
            SimulatedProcess::Loading { since } => since,
            SimulatedProcess::Loaded => return Some(bytes),
        };
        let share = (now - since).as_secs_f64() / self.worker.load.as_secs_f64().max(1e-9);
        Some((bytes as f64 * share.min(1.0)) as u64)
    }
}

/// The models of one configuration.
pub(super) type Table = table::ModelTable<SimulatedModel>;

/// The machine.
#[derive(Debug, Default)]
pub(super) struct MachineMemory {
    pub(super) memory: Memory,
    /// Memory of ended processes, and the time at which the system has it back.
    freed: Vec<(u64, Duration)>,
    /// The part of that which the hub waits for.
    pub(super) returning: u64,
}

/// The simulated hub as its policies see it.
#[derive(Debug)]
pub(crate) struct SimulatedWorld {
    pub(super) clock: Clock,
    table: ArcSwap<Table>,
    machine: Mutex<MachineMemory>,
}

impl SimulatedWorld {
    pub(super) fn new(config: Config, begun: f64) -> Self {
        let clock = Clock::new(begun);
        Self {
            table: ArcSwap::from_pointee(table(&clock, None, config)),
            clock,
            machine: Mutex::default(),
        }
    }

    /// Another hub.yaml is in force. Models that it no longer names may still be ending.
    pub(super) fn reconfigure(&self, config: Config) -> Arc<Table> {
        let new = Arc::new(table(&self.clock, Some(&self.table()), config));
        self.table.store(Arc::clone(&new));
        new
    }

    pub(super) fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Reads or changes the machine. Never while a policy is asked.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut MachineMemory) -> R) -> R {
        look(&mut self.machine.lock())
    }

    /// Reads or changes the worker of a model, also of one that is still ending.
    pub(super) fn at<R>(&self, name: &str, look: impl FnOnce(&mut Pretended) -> R) -> Option<R> {
        let table = self.table();
        let model = table.present_or_leaving(name)?;
        Some(look(&mut model.pretended.lock()))
    }

    /// The model that a launch is for, until it has ended.
    pub(super) fn of_launch(&self, launch: Launch) -> Option<Arc<SimulatedModel>> {
        let table = self.table();
        let is_its = |model: &&Arc<SimulatedModel>| model.pretended.lock().launch == Some(launch);
        table.all().find(is_its).cloned()
    }

    /// The most that each model ever held, as far as that is known.
    pub(super) fn peaks(&self) -> HashMap<String, u64> {
        let table = self.table();
        let peak = |model: &SimulatedModel| model.pretended.lock().peak_bytes;
        let peaks = table.all().map(|model| (&model.name, peak(model)));
        let peaks = peaks.filter_map(|(name, peak)| Some((name.to_string(), peak?)));
        peaks.collect()
    }

    /// The worker's process has ended: the system has its memory back later. Says what it held, and what was
    /// available then.
    pub(super) fn free(&self, model: &SimulatedModel) -> Option<(u64, u64)> {
        let (now, available) = (self.now(), self.memory().available);
        let mut pretended = model.pretended.lock();
        let held = pretended.memory_bytes(now);
        if pretended.process.take()? == SimulatedProcess::Loaded {
            // What it held most is known when it is gone.
            pretended.peak_bytes = pretended.peak_bytes.max(held);
        }
        let (held, after) = (held?, pretended.worker.free);
        // What is back at once need not be waited for.
        if after.is_zero() {
            return None;
        }
        self.with(|machine| machine.freed.push((held, now + after)));
        Some((held, available?))
    }

    /// Since the simulation began.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }
}

/// The table of `config`: models keep what they were in `old`.
fn table(clock: &Clock, old: Option<&Table>, config: Config) -> Table {
    let log_path = config.log_path.clone();
    let new = |config: &ModelConfig| {
        let base = model::Model::new(&config.name, clock.clone());
        let facts = ModelFacts::configured(config, &log_path);
        base.facts.store(Arc::new(facts));
        let pretended = Mutex::default();
        SimulatedModel { base, pretended }
    };
    Table::after(old, Arc::new(config), new)
}

impl MachineMemory {
    /// Its memory, of which the models hold so much.
    fn system(&self, held: u64, now: Duration) -> SystemMemory {
        let freed = self.freed.iter().filter(|(_, back_at)| *back_at > now);
        let freed: u64 = freed.map(|(bytes, _)| *bytes).sum();
        let Memory {
            total,
            other,
            spares,
            unread,
            pressure,
        } = self.memory;
        let used = held + freed + other + spares;
        let available = total.map(|total| total.saturating_sub(used));
        SystemMemory {
            total: total.filter(|_| unread != Unread::All),
            available: available.filter(|_| unread == Unread::Nothing),
            pressure: match unread {
                Unread::All => Pressure::Unknown,
                Unread::Nothing | Unread::Available => pressure,
            },
            returning: self.returning,
            spares,
        }
    }
}

impl World for SimulatedWorld {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.table().config)
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let (table, now) = (self.table(), self.now());
        let model = table.find(name_or_path)?;
        let (memory_bytes, peak_bytes) = {
            let pretended = model.pretended.lock();
            (pretended.memory_bytes(now), pretended.peak_bytes)
        };
        let activity = Activity {
            memory_bytes,
            peak_bytes: peak_bytes.max(memory_bytes),
            ..model.counters()
        };
        Some(model.view(model.facts.load_full(), activity, now, now))
    }

    fn memory(&self) -> SystemMemory {
        let (table, now) = (self.table(), self.now());
        let held = table.all();
        let held = held.filter_map(|model| model.pretended.lock().memory_bytes(now));
        let held = held.sum();
        self.with(|machine| machine.system(held, now))
    }

    fn clock(&self) -> f64 {
        self.clock.unix()
    }

    /// The time in UTC, so that a test gives the same result everywhere.
    fn local_time(&self) -> LocalTime {
        LocalTime::at(self.clock(), TimeZone::UTC)
    }
}
