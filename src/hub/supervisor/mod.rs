//! The one task that owns all models.
//!
//! It takes messages in order, hands them to the pure [`Machine`], publishes what changed and carries
//! out the effects. Slow work (processes, draining) runs in tracked tasks that report back as
//! messages; the supervisor awaits nothing but its `select!`.

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tokio_util::task::TaskTracker;

use crate::api::{ApiError, PolicyChanges, ProcessState, unix_now};
use crate::config::Config;
use crate::core::hands::{Hands as _, TICK, handle};
use crate::core::machine::{Answer, Event, Launch, Machine, Waiter, specs};
use crate::core::reload::{changed_launches, changed_settings, keep_fixed};
use crate::hub::published::legacy::Legacy;
use crate::hub::published::registry::{Registry, Table, new_model};
use crate::hub::published::served;
use crate::memory::Probe;
use crate::policy::{Event as PolicyEvent, Policies, apart};
use crate::runtime_file::RuntimeModels;
use crate::worker::launch::Report;

mod hands;
pub(in crate::hub) mod launcher;
pub(in crate::hub) mod messages;
mod publish;
mod running_workers;
mod sampler;
mod spares;
mod succession;
mod trace;
mod watchdog;

use hands::Hands;
use launcher::Launcher;
use messages::{Answering, Command, Mailbox, Message, Messages, Waiting};
use publish::publish_memory;
use running_workers::RunningWorkers;
use sampler::Sampler;
use watchdog::Watchdog;

/// The supervisor before it is spawned.
#[derive(Debug)]
pub struct Running {
    registry: Arc<Registry>,
    policies: Policies,
    mailbox: Mailbox,
    messages: Messages,
}

impl Running {
    pub(in crate::hub) fn new(
        registry: &Arc<Registry>,
        policies: &Policies,
        mailbox: &Mailbox,
        messages: Messages,
    ) -> Self {
        Self {
            registry: Arc::clone(registry),
            policies: policies.clone(),
            mailbox: mailbox.clone(),
            messages,
        }
    }

    /// Runs the supervisor until `Lifecycle::stop_all` has ended every process, or
    /// `Lifecycle::hand_over` or `Lifecycle::freeze` has left them to the next hub. It first takes over
    /// the `legacy` of an earlier hub, and keeps the list of workers that are up in `models_up`. Memory is
    /// measured with `probe`. Tasks are spawned on `tracker`.
    pub async fn run(
        self,
        launcher: impl Launcher,
        probe: impl Probe,
        models_up: watch::Sender<RuntimeModels>,
        legacy: Legacy,
        tracker: TaskTracker,
    ) {
        let Self {
            registry,
            policies,
            mailbox,
            mut messages,
        } = self;
        let config = Arc::clone(&registry.table.load().config);
        let sampler = Sampler {
            probe: Arc::new(probe),
            registry: Arc::clone(&registry),
            mailbox: mailbox.clone(),
            models_up: models_up.subscribe(),
            upkeep: None,
        };
        // The first policy that is asked finds it measured.
        registry.memory.store(Arc::new(sampler.system().await));
        tracker.spawn(sampler.run());
        let watchdog = Watchdog::new(&registry, &mailbox, models_up.subscribe());
        tracker.spawn(watchdog.run());
        registry.spares.want(config.spares);
        tracker.spawn(spares::keep(Arc::clone(&registry), models_up.subscribe()));
        let hands = Hands {
            registry,
            policies,
            mailbox,
            waiting: Waiting::default(),
            workers: RunningWorkers::new(launcher, models_up),
            tracker,
            idle: Arc::default(),
            listens: false,
            finished: false,
        };
        let idle = Arc::clone(&hands.idle);
        let mut supervisor = Supervisor {
            machine: Machine::new(specs(&config)),
            hands,
            endings: TaskTracker::new(),
            is_left: false,
            started: None,
        };
        supervisor.hands.publish(&supervisor.machine);
        supervisor.take_over(legacy);
        supervisor.learn_dialects();
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !supervisor.hands.finished {
            tokio::select! {
                Some(message) = messages.recv() => match message {
                    Message::Freeze { told, taken } => {
                        supervisor.stand_still(told, taken, &mut messages).await;
                    }
                    message => supervisor.receive(message),
                },
                _ = tick.tick() => {
                    supervisor.forget_old_bodies();
                    supervisor.handle(Event::Tick);
                }
                () = supervisor.next_asking() => supervisor.handle(Event::Tick),
                () = idle.notified() => supervisor.handle(Event::Idle),
            }
        }
        // Callers that still wait for an answer wait in vain.
        drop(messages);
        supervisor.hands.registry.spares.close();
        let endings = supervisor.end();
        endings.close();
        endings.wait().await;
    }
}

/// The pure machine, and the hands that carry out its effects.
struct Supervisor {
    machine: Machine,
    hands: Hands,
    /// Workers of an earlier hub that no model needs, until they have ended.
    endings: TaskTracker,
    /// True if another hub has what was not over yet.
    is_left: bool,
    /// Waits until the default models are being started.
    started: Option<oneshot::Sender<()>>,
}

impl Supervisor {
    fn receive(&mut self, message: Message) {
        match message {
            Message::Ask {
                command,
                waiter,
                answer,
            } => self.ask(command, waiter, answer),
            Message::StartDefaults { except, done } => {
                self.handle(Event::StartDefaults { except });
                self.started = Some(done);
                self.tell_started();
            }
            Message::Shutdown { now } => {
                let policies = &self.hands.policies;
                policies.note_change(None, "shutdown", "shutdown", None);
                self.close_parking();
                self.handle(Event::Shutdown { now });
            }
            Message::Measured { system, peaks } => {
                self.spare_memory(&system);
                publish_memory(&self.machine, &self.hands.registry, system);
                self.handle(Event::Measured { system, peaks });
            }
            Message::Trouble {
                model,
                pid,
                trouble,
                spell,
            } => self.handle(Event::Trouble {
                model,
                pid,
                trouble,
                spell,
            }),
            Message::Wake => self.handle(Event::Tick),
            Message::NewPolicies => {
                self.hands.registry.table.load().ask_parked_again();
                self.handle(Event::Idle);
            }
            Message::HandOver => self.leave(),
            // Needs more than one message.
            Message::Freeze { .. } => {}
            Message::Abandon(waiter) => {
                self.hands.waiting.remove(waiter);
                self.handle(Event::Abandon { waiter });
            }
            Message::Worker { launch, report } => self.worker(launch, report),
            Message::Judged { id, verdict } => {
                self.handle(Event::Judged { id, verdict });
                self.tell_started();
            }
            Message::Drained { launch } => self.handle(Event::Drained { launch }),
            Message::UnnamedEnded { model } => {
                self.hands.workers.forget_found(&model);
                self.hands.workers.publish(&self.hands.registry);
            }
        }
    }

    fn ask(&mut self, command: Command, waiter: Waiter, answer: Answering) {
        let mut arrived = None;
        let event = match command {
            Command::Acquire(arrival) => {
                let event = arrival.event(waiter);
                arrived = Some(arrival);
                event
            }
            Command::Verb(verb, model) => Event::Verb {
                verb,
                model,
                waiter,
            },
            Command::Reload { config, start } => {
                self.hands.waiting.add(waiter, answer, None);
                return self.reload(*config, start, waiter);
            }
        };
        self.hands.waiting.add(waiter, answer, arrived);
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        handle(&mut self.machine, &mut self.hands, event);
        self.hands.workers.publish(&self.hands.registry);
        self.hands.listen(self.machine.is_parking());
    }

    /// Forgets bodies of requests whose time is over, or that hub.yaml does not want kept any more.
    fn forget_old_bodies(&self) {
        let registry = &self.hands.registry;
        registry.captures.trim(registry.table.load().config.capture);
    }

    /// Says that the default models are being started, once the policies have been asked about them.
    fn tell_started(&mut self) {
        if !self.machine.is_asking()
            && let Some(done) = self.started.take()
        {
            let _ = done.send(());
        }
    }

    /// Completes when it is time to ask again about a load that the policies put off.
    async fn next_asking(&self) {
        match self.machine.next_asking() {
            Some(at) => sleep_until(self.hands.registry.begun + at).await,
            None => std::future::pending().await,
        }
    }

    /// Refuses all requests that wait for a verdict, and later ones.
    fn close_parking(&self) {
        for model in self.hands.registry.table.load().all() {
            model.gate.parking.close(&ApiError::shutting_down());
        }
    }

    /// A launch reports.
    fn worker(&mut self, launch: Launch, report: Report) {
        let event = match report {
            Report::Warnings(warnings) => {
                if let Some(model) = self.hands.workers.model(launch) {
                    self.hands
                        .registry
                        .worker_warnings
                        .lock()
                        .insert(model.to_owned(), warnings);
                }
                return;
            }
            Report::Spawned(spawned) => {
                let pid = spawned.identity.pid;
                let model = self.hands.workers.model(launch);
                if let Some(model) = model.and_then(|model| self.hands.model(model)) {
                    let log_file = spawned.log_file.clone();
                    model.worker_log.store(log_file.map(Arc::new));
                }
                self.hands.workers.spawned(launch, spawned);
                Event::Spawned { launch, pid }
            }
            Report::Standby { process } => {
                if process {
                    self.load_ended(launch);
                    self.learn_served(launch);
                } else {
                    self.hands.workers.ended(launch);
                }
                Event::Standby { launch, process }
            }
            Report::Loaded => {
                self.load_ended(launch);
                self.learn_served(launch);
                Event::Loaded { launch }
            }
            Report::LoadRefused(reason) => Event::LoadRefused { launch, reason },
            Report::Released => {
                let model = self.hands.workers.model(launch).map(ToOwned::to_owned);
                if let Some(model) = model {
                    self.freed(&model);
                }
                Event::Released { launch }
            }
            Report::Gone { exit_code, reason } => {
                if let Some(model) = self.hands.workers.ended(launch) {
                    self.release_port(&model);
                    self.freed(&model);
                }
                Event::Gone {
                    launch,
                    exit_code,
                    reason,
                }
            }
        };
        if matches!(event, Event::LoadRefused { .. } | Event::Gone { .. }) {
            // The load may have ended spares, and makes none.
            self.hands.registry.spares.look_again();
        }
        self.handle(event);
    }

    /// Learns what the program of a worker that is there now serves.
    fn learn_served(&self, launch: Launch) {
        let config = Arc::clone(&self.hands.registry.table.load().config);
        let model = self
            .hands
            .workers
            .model(launch)
            .and_then(|name| config.model(name));
        if let (Some(model), Some(upstream)) = (model, self.hands.workers.upstream(launch)) {
            let registry = Arc::clone(&self.hands.registry);
            self.hands
                .tracker
                .spawn(served::learn(registry, model.clone(), upstream));
        }
    }

    /// Counts the last measured memory of that model's worker as returning.
    fn freed(&mut self, model: &str) {
        let model = self.hands.model(model);
        let measured = model.as_ref().and_then(|model| model.measured());
        if let Some(model) = model {
            // It is counted once.
            model.measured.store(None);
        }
        if let Some(measured) = measured
            && let Some(available) = measured.available
        {
            let held = measured.bytes;
            self.handle(Event::Freed { held, available });
        }
    }

    /// A model that hub.yaml no longer names kept its port only while its worker held it.
    fn release_port(&self, model: &str) {
        let registry = &self.hands.registry;
        if registry.table.load().config.model(model).is_none() {
            registry.ports.lock().release(model);
        }
    }

    fn reload(&mut self, mut config: Config, start: bool, waiter: Waiter) {
        let registry = Arc::clone(&self.hands.registry);
        let old = registry.table.load_full();
        let up = self.hands.workers.models_up();
        let assigned = {
            let mut ports = registry.ports.lock();
            ports.set_starting_port(config.model_starting_port);
            ports.assign(&config.models, &|name| up.contains(name))
        };
        if let Err(error) = assigned {
            let error = ApiError::new(StatusCode::BAD_REQUEST, error.to_string());
            return self.hands.answer(waiter, Answer::Refused(error));
        }
        *registry.reload_warnings.lock() = keep_fixed(&mut config, &old.config);
        let changed = changed_launches(&config, &old.config);
        self.note_reload(&config, &changed);
        let models = specs(&config);
        let table = Arc::new(Table::after(Some(&old), Arc::new(config), new_model));
        registry.table.store(Arc::clone(&table));
        self.forget_old_bodies();
        registry.on_disk.note_read();
        // A file reads its settings while it loads: they have to be the new ones.
        let config = &table.config;
        let policies = &self.hands.policies;
        apart(|| policies.reload(config.folder(), &config.policies));
        let (changed_policies, refused) = policies.changes();
        let changes = PolicyChanges {
            changed: changed_policies,
            settings: changed_settings(config, &old.config),
            refused,
        };
        self.hands.waiting.note_policies(waiter, changes);
        registry.relearn();
        registry.look_for_paths();
        registry.spares.want(config.spares);
        table.ask_parked_again();
        tracing::info!(
            models = models.len(),
            changed = changed.len(),
            "hub.yaml read again"
        );
        self.hands
            .policies
            .observe(PolicyEvent::config_reloaded(unix_now()));
        self.learn_dialects();
        self.handle(Event::Reconcile {
            waiter,
            models,
            changed,
            start,
        });
    }

    /// Takes down what a reload does to models, before it does.
    fn note_reload(&self, config: &Config, changed: &HashSet<String>) {
        let policies = &self.hands.policies;
        for model in &self.hands.registry.table.load().models {
            let state = model.facts.load().process_state;
            let is_up = matches!(state, ProcessState::Running | ProcessState::Starting);
            let (what, why) = if config.model(&model.name).is_none() {
                ("stop", "hub.yaml no longer names it")
            } else if changed.contains(&*model.name) {
                ("restart", "its launch settings changed")
            } else {
                continue;
            };
            if is_up {
                policies.note_change(Some(&model.name), what, "reload", Some(why));
            }
        }
    }

    /// Asks every worker program what it understands, before it is needed, and shows what does not
    /// fit as warnings.
    fn learn_dialects(&self) {
        let config = Arc::clone(&self.hands.registry.table.load().config);
        let (registry, dialects) = (
            Arc::clone(&self.hands.registry),
            Arc::clone(&self.hands.workers.dialects),
        );
        self.hands.tracker.spawn(async move {
            for model in &config.models {
                let dialect = dialects.of_model(model).await;
                let warnings = match dialect.and_then(|dialect| dialect.command_line(model, 0)) {
                    Ok(line) => line.warnings,
                    Err(reason) => vec![format!("model `{}`: {reason}", model.name)],
                };
                registry
                    .worker_warnings
                    .lock()
                    .insert(model.name.clone(), warnings);
            }
        });
    }
}
