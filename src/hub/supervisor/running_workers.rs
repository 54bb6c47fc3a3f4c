//! The running launches: their workers, and the channels to them.
//!
//! It also keeps the list of workers that a later hub would find in `hub_runtime.json`, and hands
//! the workers that an earlier hub left to the launches that adopt them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::launcher::Launcher;
use super::messages::{Mailbox, Message};
use crate::api::ModelFacts;
use crate::config::{Config, ModelConfig};
use crate::core::machine::{Goal, Launch};
use crate::hub::published::registry::Registry;
use crate::model_files::{Repository, repository_of};
use crate::runtime_file::{RuntimeModels, RuntimeWorker};
use crate::upstream::{Accepts, Upstream};
use crate::worker::dialect::Dialects;
use crate::worker::identity::Identity;
use crate::worker::launch::{EarlierWorker, Instruction, Order, Pulse, Spawned, Starts};
use crate::worker::mark::Owner;
use crate::worker::ranks::{Ranks, Unended};

pub(super) struct RunningWorkers {
    launcher: Box<dyn Launcher>,
    pub(super) dialects: Arc<Dialects>,
    starts: Starts,
    unended: Unended,
    running: HashMap<Launch, Launched>,
    /// Workers that an earlier hub left, until the launch that adopts them begins.
    found: HashMap<String, RuntimeWorker>,
    models_up: watch::Sender<RuntimeModels>,
}

/// A running launch.
struct Launched {
    model: String,
    settings: serde_json::Value,
    instructions: mpsc::UnboundedSender<Instruction>,
    spawned: Option<Spawned>,
    /// The worker of an earlier hub that does not fit and is ended first.
    unfit: Option<RuntimeWorker>,
}

impl RunningWorkers {
    pub(super) fn new(launcher: impl Launcher, models_up: watch::Sender<RuntimeModels>) -> Self {
        Self {
            launcher: Box::new(launcher),
            dialects: Arc::default(),
            starts: Starts::default(),
            unended: Unended::default(),
            running: HashMap::new(),
            found: HashMap::new(),
            models_up,
        }
    }

    /// The next launch of that model adopts this worker, or ends it if it no longer fits.
    pub(super) fn leave_to_next(&mut self, worker: RuntimeWorker) {
        self.found.insert(worker.model.clone(), worker);
    }

    /// Forgets an earlier hub's worker of that model, which is gone.
    pub(super) fn forget_found(&mut self, model: &str) {
        self.found.remove(model);
    }

    /// Begins a launch; its reports come as messages.
    pub(super) fn begin(
        &mut self,
        registry: &Arc<Registry>,
        mailbox: &Mailbox,
        name: &str,
        launch: Launch,
        goal: Goal,
    ) {
        let config = Arc::clone(&registry.table.load().config);
        let Some(model) = config.model(name) else {
            return;
        };
        if goal == Goal::Loaded {
            registry.make_room_for(model);
        }
        let settings = model.launch_settings();
        let left = self.found.remove(name);
        let unfit = left.clone().filter(|worker| worker.settings != settings);
        let found = left.map(|worker| found(worker, model, &settings));
        let spawned = found
            .as_ref()
            .filter(|found| found.keep)
            .map(|found| found.spawned.clone());
        let (instructions, receiver) = mpsc::unbounded_channel();
        self.running.insert(
            launch,
            Launched {
                model: name.to_owned(),
                settings,
                instructions,
                spawned,
                unfit,
            },
        );
        let order = self.order(registry, &config, model, goal, found);
        let mailbox = mailbox.clone();
        let report = move |report| mailbox.send(Message::Worker { launch, report });
        self.launcher.launch(order, receiver, Arc::new(report));
    }

    fn order(
        &self,
        registry: &Arc<Registry>,
        config: &Config,
        model: &ModelConfig,
        goal: Goal,
        found: Option<EarlierWorker>,
    ) -> Order {
        let ports = Arc::clone(registry);
        let owner = model.clone();
        let port = registry.ports.lock().port_of(&model.name);
        let gate = registry.gate(&model.name);
        let pulse = Arc::clone(&gate);
        let repository = repository_of(model);
        Order {
            load: goal == Goal::Loaded,
            port: port.unwrap_or(config.model_starting_port),
            next_port: Box::new(move || ports.ports.lock().next(&owner).ok()),
            owner: Owner::new(&config.path, &config.log_path),
            log_file: model.log_file(&config.log_path),
            work_folder: config.log_path.join("workers").join(&model.name),
            downloaded: Arc::new(move || repository.as_ref().map_or(0, Repository::bytes)),
            load_timeout: config.load_timeout,
            is_used: Box::new(move || gate.active() > 0),
            pulse: Box::new(move || Pulse {
                signs: pulse.signs.vitals().signs,
                active: pulse.active(),
                ended: pulse.given_back(),
            }),
            drain_timeout: config.drain_timeout,
            stop_timeout: config.stop_timeout,
            dialects: Arc::clone(&self.dialects),
            starts: self.starts.clone(),
            unended: self.unended.clone(),
            spares: registry.spares.clone(),
            found,
            model: model.clone(),
        }
    }

    /// Tells one launch; one that has ended needs no telling.
    pub(super) fn instruct(&self, launch: Launch, instruction: Instruction) {
        if let Some(launched) = self.running.get(&launch) {
            let _ = launched.instructions.send(instruction);
        }
    }

    /// No process is started from now on; each that was has been reported.
    pub(super) fn hold_back(&self) {
        self.starts.hold_back();
    }

    /// They may be started again.
    pub(super) fn go_on(&self) {
        self.starts.allow();
    }

    /// The started models, as last published.
    pub(super) fn for_next_hub(&self) -> RuntimeModels {
        self.models_up.borrow().clone()
    }

    /// Tells every launch to leave its process to the next hub.
    pub(super) fn leave_all(&self) {
        self.starts.hold_back();
        for launch in self.running.keys() {
            self.instruct(*launch, Instruction::Leave);
        }
    }

    pub(super) fn spawned(&mut self, launch: Launch, spawned: Spawned) {
        if let Some(launched) = self.running.get_mut(&launch) {
            launched.spawned = Some(spawned);
            launched.unfit = None;
        }
    }

    /// Forgets a launch that has ended; says which model it was for.
    pub(super) fn ended(&mut self, launch: Launch) -> Option<String> {
        self.running.remove(&launch).map(|launched| launched.model)
    }

    pub(super) fn model(&self, launch: Launch) -> Option<&str> {
        self.running
            .get(&launch)
            .map(|launched| launched.model.as_str())
    }

    pub(super) fn upstream(&self, launch: Launch) -> Option<Arc<Upstream>> {
        let spawned = self.running.get(&launch)?.spawned.as_ref()?;
        Some(Arc::clone(&spawned.upstream))
    }

    /// Names of the models whose workers hold their ports themselves.
    pub(super) fn models_up(&self) -> HashSet<String> {
        self.running
            .values()
            .map(|launched| launched.model.clone())
            .collect()
    }

    /// Keeps the list of started models for a later hub.
    pub(super) fn publish(&self, registry: &Registry) {
        let table = registry.table.load();
        let facts = |model: &str| table.find(model).map(|model| model.facts.load_full());
        let launched = self
            .running
            .values()
            .filter_map(|launched| launched.for_next_hub(&facts));
        let mut workers: Vec<RuntimeWorker> =
            launched.chain(self.found.values().cloned()).collect();
        workers.sort_by(|one, other| one.model.cmp(&other.model));
        let is_worker = |name: &str| workers.iter().any(|worker| worker.model == name);
        let standby = table
            .models
            .iter()
            .filter(|model| model.facts.load().is_started() && !is_worker(&model.name));
        let now = RuntimeModels {
            standby: standby.map(|model| model.name.to_string()).collect(),
            workers,
        };
        self.models_up.send_if_modified(|last| {
            let changed = *last != now;
            if changed {
                *last = now;
            }
            changed
        });
    }
}

impl Launched {
    fn for_next_hub(
        &self,
        facts: &dyn Fn(&str) -> Option<Arc<ModelFacts>>,
    ) -> Option<RuntimeWorker> {
        let Some(spawned) = &self.spawned else {
            return self.unfit.clone();
        };
        let answers_to = match &spawned.upstream.accepts {
            Accepts::Any => None,
            Accepts::Only(name) => Some(name.to_string()),
        };
        Some(RuntimeWorker {
            model: self.model.clone(),
            pid: spawned.identity.pid,
            start_time: spawned.identity.start_time,
            port: spawned.port,
            command: spawned.identity.command.clone(),
            launch: spawned.identity.launch.clone(),
            settings: self.settings.clone(),
            resident: spawned.resident,
            answers_to,
            log_file: spawned.log_file.clone(),
            log_begin: spawned.log_begin,
            hosts: spawned.ranks.hosts.clone(),
            addresses: spawned.ranks.addresses.clone(),
            mark: spawned.ranks.mark.clone(),
            loaded: facts(&self.model).is_some_and(|facts| facts.memory_state.holds_memory()),
        })
    }
}

fn found(
    worker: RuntimeWorker,
    model: &ModelConfig,
    settings: &serde_json::Value,
) -> EarlierWorker {
    let accepts = worker
        .answers_to
        .as_deref()
        .map_or(Accepts::Any, |name| Accepts::Only(name.into()));
    let spawned = Spawned::new(
        Identity::from(&worker),
        &model.host,
        worker.port,
        worker.resident,
        accepts,
        worker.log_begin,
    );
    EarlierWorker {
        spawned: Spawned {
            ranks: Ranks::from(&worker),
            log_file: worker.log_file,
            ..spawned
        },
        keep: worker.settings == *settings,
    }
}
