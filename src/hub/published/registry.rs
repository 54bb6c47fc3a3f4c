//! The facts that the supervisor has published: the models, and everything else that the status shows.
//!
//! All parts read it without waiting; only the supervisor writes. It is also the [`World`] that
//! policies see.

use std::collections::HashMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::captures::Captures;
use super::ended::EndedRequests;
use super::fleet::Membership;
use super::flights::Flights;
use super::gate::{Gate, Tokio};
use super::history::History;
use super::learned::Learned;
use super::meters::Meters;
use super::on_disk::OnDisk;
use super::served::OfModel;
use super::usage::Usage;
use crate::api::{
    Activity, Download, GroupFacts, HubFacts, MemoryState, ModelFacts, SpareStatus, Status,
    SystemMemory, unix_now,
};
use crate::config::ports::PortBook;
use crate::config::{Config, ModelConfig, Settings};
use crate::core::{model, table};
use crate::policy::{ModelView, World};
use crate::telemetry::Troubles;
use crate::upstream::Upstream;
use crate::worker::spare::{Seen, Spares};

/// A worker's memory when it was last measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) struct Measured {
    /// Its process id: a later worker of the model has another.
    pub(in crate::hub) pid: u32,
    /// The memory of its whole process group.
    pub(in crate::hub) bytes: u64,
    /// The machine's available memory at that moment.
    pub(in crate::hub) available: Option<u64>,
}

/// Files of a loading model that are not whole. They may be the rest of an earlier download, until they grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub) struct Downloading {
    /// The process id of the worker that loads.
    pub(in crate::hub) pid: u32,
    /// Bytes that were on the disk at the first look.
    pub(in crate::hub) at_first: u64,
    /// The bytes that are there now.
    pub(in crate::hub) now: Download,
}

/// One model, as all parts but the supervisor see it: that of both hubs, and the facts about a real worker.
#[derive(Debug)]
pub struct Model {
    base: model::Model<Tokio>,
    /// The totals of its requests.
    pub usage: CachePadded<Usage>,
    /// Its distributions and counts for `/metrics`.
    pub meters: Meters,
    /// The last measurement.
    pub(in crate::hub) measured: ArcSwapOption<Measured>,
    /// The download that its worker may wait for.
    pub(in crate::hub) downloading: ArcSwapOption<Downloading>,
    /// Its peak memory in bytes; 0 if unknown.
    peak_bytes: AtomicU64,
    /// The known routes of its program.
    pub(in crate::hub) served: ArcSwapOption<OfModel>,
    /// The log of its newest worker: one that was taken over goes on where it began.
    pub(in crate::hub) worker_log: ArcSwapOption<PathBuf>,
    /// The address of its worker; set before the gate opens.
    pub(in crate::hub) upstream: ArcSwapOption<Upstream>,
}

impl Deref for Model {
    type Target = model::Model<Tokio>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl Model {
    /// A model of which nothing is known yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            base: model::Model::new(name, Tokio::default()),
            usage: CachePadded::default(),
            meters: Meters::new(name),
            measured: ArcSwapOption::empty(),
            downloading: ArcSwapOption::empty(),
            peak_bytes: AtomicU64::new(0),
            served: ArcSwapOption::empty(),
            worker_log: ArcSwapOption::empty(),
            upstream: ArcSwapOption::empty(),
        }
    }

    /// The file that its worker writes to, or will; none for a model that hub.yaml does not name.
    pub(in crate::hub) fn log_file(&self, config: &Config) -> Option<PathBuf> {
        let configured = config.model(&self.name)?.log_file(&config.log_path);
        let actual = self.worker_log.load();
        Some((actual.as_deref()).map_or(configured, PathBuf::clone))
    }

    /// The counters of the moment.
    pub fn activity(&self) -> Activity {
        self.activity_of(&self.facts.load())
    }

    fn activity_of(&self, facts: &ModelFacts) -> Activity {
        Activity {
            usage: self.usage.totals(),
            memory_bytes: self.measured_of(facts).map(|measured| measured.bytes),
            peak_bytes: Some(self.peak_bytes.load(Ordering::Relaxed)).filter(|peak| *peak > 0),
            download: self.download_of(facts),
            ..self.counters()
        }
    }

    /// The download that its load waits for.
    pub(in crate::hub) fn download_of(&self, facts: &ModelFacts) -> Option<Download> {
        let seen = self.downloading.load_full()?;
        let is_its = facts.memory_state == MemoryState::Loading && facts.pid == Some(seen.pid);
        (is_its && seen.now.bytes > seen.at_first).then_some(seen.now)
    }

    /// The measured memory of the current worker.
    pub(in crate::hub) fn measured(&self) -> Option<Measured> {
        self.measured_of(&self.facts.load())
    }

    fn measured_of(&self, facts: &ModelFacts) -> Option<Measured> {
        let pid = facts.pid?;
        let measured = self.measured.load();
        measured
            .as_deref()
            .copied()
            .filter(|measured| measured.pid == pid)
    }

    /// Notes a client's wish that it stays in memory so many seconds after its last request; negative for ever.
    pub(in crate::hub) fn is_wished_for(&self, seconds: f64) {
        self.base.is_wished_for(seconds, unix_now());
    }

    /// Takes over what is known of it.
    pub(in crate::hub) fn learn(&self, learned: &Learned) {
        let peak = learned.peak_bytes(&self.name).unwrap_or(0);
        self.peak_bytes.store(peak, Ordering::Relaxed);
    }
}

/// The models of one configuration.
pub(in crate::hub) type Table = table::ModelTable<Model>;

/// A model that hub.yaml has named just now.
pub(in crate::hub) fn new_model(config: &ModelConfig) -> Model {
    Model::new(&config.name)
}

/// The published facts.
#[derive(Debug)]
pub(in crate::hub) struct Registry {
    pub(in crate::hub) table: ArcSwap<Table>,
    /// The machine's memory as last measured.
    pub(in crate::hub) memory: ArcSwap<SystemMemory>,
    /// Asks the sampler to measure that soon.
    pub(in crate::hub) measure_soon: Notify,
    /// The learned facts about the models.
    pub(in crate::hub) learned: Mutex<Learned>,
    /// The port of every model.
    pub(in crate::hub) ports: Mutex<PortBook>,
    /// Warnings of the workers, by model.
    pub(in crate::hub) worker_warnings: Mutex<HashMap<String, Vec<String>>>,
    /// Warnings about what a reload could not change.
    pub(in crate::hub) reload_warnings: Mutex<Vec<String>>,
    /// The files of hub.yaml that were missing at the last check.
    missing_paths: Mutex<Vec<String>>,
    /// From here on the machine counts time; a hub that takes another's place goes on counting.
    pub(in crate::hub) begun: Instant,
    /// The gates of models that hub.yaml does not name, for requests that the hub before has let in.
    pub(in crate::hub) strangers: Mutex<HashMap<String, Arc<Gate>>>,
    pub(in crate::hub) on_disk: OnDisk,
    /// The requests that ended last.
    pub(in crate::hub) ended: EndedRequests,
    /// The bodies of the last requests, where they are kept.
    pub(in crate::hub) captures: Captures,
    /// The last hour in figures.
    pub(in crate::hub) history: Mutex<History>,
    /// The requests in flight.
    pub(in crate::hub) flights: Flights,
    /// The spare processes.
    pub(in crate::hub) spares: Spares,
    /// The hub's place in a fleet.
    pub(in crate::hub) membership: Arc<Membership>,
    troubles: Troubles,
}

impl Registry {
    pub(in crate::hub) fn new(
        config: Arc<Config>,
        ports: PortBook,
        learned: Learned,
        troubles: Troubles,
        begun: Instant,
    ) -> Self {
        let registry = Self {
            troubles,
            begun,
            strangers: Mutex::default(),
            memory: ArcSwap::default(),
            measure_soon: Notify::new(),
            learned: Mutex::new(learned),
            ports: Mutex::new(ports),
            on_disk: OnDisk::new(&config),
            ended: EndedRequests::default(),
            captures: Captures::default(),
            history: Mutex::new(History::recall(&config.log_path)),
            flights: Flights::default(),
            spares: Spares::recall(&config.log_path),
            membership: Arc::default(),
            table: ArcSwap::from_pointee(Table::after(None, config, new_model)),
            worker_warnings: Mutex::default(),
            reload_warnings: Mutex::default(),
            missing_paths: Mutex::default(),
        };
        registry.relearn();
        registry.look_for_paths();
        registry
    }

    /// The gate of a model, also of one that hub.yaml does not name.
    pub(in crate::hub) fn gate(&self, model: &str) -> Arc<Gate> {
        match self.table.load().present_or_leaving(model) {
            Some(model) => Arc::clone(&model.gate),
            None => Arc::clone(self.strangers.lock().entry(model.to_owned()).or_default()),
        }
    }

    /// Takes over what was learned about models that are launched as before.
    pub(in crate::hub) fn relearn(&self) {
        let table = self.table.load();
        let mut learned = self.learned.lock();
        learned.forget_changed(&table.config.models);
        for model in &table.models {
            model.learn(&learned);
        }
        drop(learned);
        self.publish_served();
    }

    /// Shows what is known of the models' programs.
    pub(in crate::hub) fn publish_served(&self) {
        let table = self.table.load();
        let known = self.learned.lock().served.known();
        for (model, config) in table.models.iter().zip(&table.config.models) {
            model.served.store(known.of_model(config).map(Arc::new));
        }
    }

    /// Looks for the files of the models. A disk that does not answer holds up the caller.
    pub(in crate::hub) fn look_for_paths(&self) {
        let config = Arc::clone(&self.table.load().config);
        let missing = config.missing_paths();
        *self.missing_paths.lock() = missing;
    }

    /// A load of that model begins: spare processes make room for it.
    pub(in crate::hub) fn make_room_for(&self, model: &ModelConfig) {
        let needed = self.learned.lock().peak_bytes(&model.name);
        self.spares
            .load_begins(model, needed, self.memory.load().available);
    }

    /// True if memory may be on the move: a model on its way, or a load that waits for its turn.
    pub(in crate::hub) fn is_busy(&self) -> bool {
        let models = &self.table.load().models;
        models.iter().any(|model| {
            model.facts.load().is_on_its_way() || model.waiting.load(Ordering::Relaxed) > 0
        })
    }

    /// A sentence for each group that holds more than it may: its cap is looked at when a model is loaded,
    /// and may be newer than what is loaded.
    fn over_caps(&self, table: &Table) -> Vec<String> {
        let groups = table.config.groups.iter();
        let groups = groups.filter_map(|group| self.group(&group.name));
        let over = groups.filter_map(|group| {
            let most = group.facts.max_loaded?;
            let is_over = group.loaded.len() > usize::try_from(most).unwrap_or(usize::MAX);
            is_over.then(|| {
                format!(
                    "group `{}` may have {most} loaded and has {}: {}. Unload what is too much.",
                    group.facts.name,
                    group.loaded.len(),
                    group.loaded.join(", ")
                )
            })
        });
        over.collect()
    }

    /// A sentence when the last measure of the machine's memory failed.
    fn unknown_memory(&self) -> Option<String> {
        let memory = self.memory.load();
        let unknown = match (memory.total, memory.available) {
            (Some(_), Some(_)) => return None,
            (Some(_), None) => "How much memory is available cannot be read",
            (None, _) => "The machine's memory cannot be read",
        };
        let then = "policies see nil, and `memory_fit` goes by what the models hold and ever held";
        Some(format!("{unknown}: {then}."))
    }

    /// The one place where a status is made.
    pub(in crate::hub) fn status(&self, policy_warnings: Vec<String>) -> Status {
        let table = self.table.load();
        let mut warnings = table.config.warnings.clone();
        warnings.extend(self.missing_paths.lock().iter().cloned());
        let invalid = self.on_disk.error(&table.config);
        warnings.extend(invalid.iter().cloned());
        let told = !self.reload_warnings.lock().is_empty();
        warnings.extend(self.on_disk.edits(&table.config, told));
        warnings.extend(self.troubles.warnings());
        warnings.extend(self.reload_warnings.lock().iter().cloned());
        let worker_warnings = self.worker_warnings.lock();
        let of_models = table
            .models
            .iter()
            .filter_map(|model| worker_warnings.get(&*model.name));
        warnings.extend(of_models.flatten().cloned());
        warnings.extend(self.over_caps(&table));
        warnings.extend(self.unknown_memory());
        warnings.extend(policy_warnings);
        let hub = HubFacts {
            host: table.config.host.clone(),
            port: table.config.port,
            pid: Some(std::process::id()),
            config_path: table.config.path.display().to_string(),
            log_path: table.config.log_path.display().to_string(),
            enable_status_page: table.config.enable_status_page,
            has_keys: !table.config.api_keys.is_empty(),
            edits_config: table.config.edit_config,
            capture: table.config.capture.is_some(),
            config_modified_at: table.config.modified_at,
            degraded: invalid.is_some(),
            warnings,
            groups: table.config.groups.iter().map(GroupFacts::from).collect(),
            memory: **self.memory.load(),
            spares: self.spares.seen().into_iter().map(spare_status).collect(),
        };
        let models: Vec<_> = table
            .models
            .iter()
            .map(|model| (model.facts.load_full(), model.activity()))
            .collect();
        Status::build(&hub, &models, unix_now() as u64)
    }
}

fn spare_status(spare: Seen) -> SpareStatus {
    SpareStatus {
        pid: spare.pid,
        ready: spare.is_ready,
        memory_bytes: spare.bytes,
    }
}

impl World for Registry {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.table.load().config)
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let table = self.table.load();
        let model = table.find(name_or_path)?;
        let facts = model.facts.load_full();
        let activity = model.activity_of(&facts);
        let now = Instant::now();
        let at_gate = model.gate.runtime.at(now);
        Some(model.view(facts, activity, now - self.begun, at_gate))
    }

    fn facts(&self, name_or_path: &str) -> Option<Arc<ModelFacts>> {
        let table = self.table.load();
        Some(table.find(name_or_path)?.facts.load_full())
    }

    fn memory(&self) -> SystemMemory {
        **self.memory.load()
    }

    /// Policies read it at every request: it is not copied.
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.table.load().settings)
    }

    fn clock(&self) -> f64 {
        unix_now()
    }
}
