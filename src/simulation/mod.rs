//! A hub without processes, threads and waiting, on a clock that its user sets: what `policy test` and
//! `policy replay` run policies in.
//!
//! The machine is the real one, and so are the policies and their Lua host. Simulated are the workers,
//! which load and end as they are told ([`Worker`]), and the requests, which end when somebody says so. Two
//! runs of one story are the same to the last event. It knows nothing of sockets and files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::core::machine::{
    Answer, Decide, Effect, Entry, Event, Goal, Launch, Machine, Now, Spec, Waiter,
};
use crate::policy::{
    self, Exit, ExitVerdict, IdleVerdict, LoadVerdict, PendingLoad, Policies, Trouble,
    TroubleVerdict, World as _,
};
use crate::status::{MemoryState, ProcessState};

mod gateway;
mod parking;
mod request;
mod testing;
mod trouble;
mod world;

use parking::Parking;
pub(crate) use request::{Asked, Finish, NewRequest, Number, State};
pub use testing::{Case, bound_names, run};
use world::Process;
pub(crate) use world::{Memory, SimulatedWorld, Unread, Worker};

/// How often idle models and parked loads are looked at, as in a real hub.
const TICK: Duration = Duration::from_secs(1);

/// [`Simulation::settle`] gives up after so long.
const LONGEST_SETTLING: Duration = Duration::from_secs(3600);

/// Something that is going to happen.
#[derive(Debug, Clone)]
enum Happening {
    /// A launch reports.
    Report(Launch, Event),
    /// The requests of a model that is being drained are cut.
    DrainLimit(Launch),
    /// No request is left in a model that is being drained.
    Drained(Launch),
    /// A request is done.
    Finish(Number),
    /// A parked request is to be looked at.
    Inspect(Number),
    /// A model has no request in flight any more, while a load is parked.
    Idle,
    /// The machine wants to be looked at.
    Wake,
}

/// A simulated hub.
#[derive(Debug)]
pub(crate) struct Simulation {
    machine: Machine,
    deciding: Deciding,
    /// By time, and then in the order in which they were planned.
    plan: BTreeMap<(Duration, u64), Happening>,
    planned: u64,
    next_tick: Duration,
    asked: Vec<Asked>,
    /// Who waits for the machine's answer, by the waiter's number.
    waiting: HashMap<u64, Number>,
    waiters: u64,
    /// The requests that workers answer, by model.
    running: HashMap<String, BTreeSet<Number>>,
    parking: Parking,
    /// Models that are being drained.
    draining: HashMap<String, Launch>,
    launches: HashMap<Launch, String>,
}

/// The world and the policies: what the machine asks.
#[derive(Debug)]
struct Deciding {
    world: Arc<SimulatedWorld>,
    policies: Policies,
    /// Models at which something changed since parked requests were asked about.
    changed: BTreeSet<String>,
    /// Models that were stopped since then.
    stopped: BTreeSet<String>,
}

impl Deciding {
    /// Policies and tests see what the machine says.
    fn publish(&mut self, machine: &Machine) {
        for entry in machine.entries() {
            let Some(config) = self.world.config.model(&entry.spec.name) else {
                continue;
            };
            let facts = crate::lifecycle::facts(entry, config, &self.world.config, None);
            let before = self.world.at(&entry.spec.name, |model| {
                let stops = std::mem::replace(&mut model.stops, entry.stops);
                let before = std::mem::replace(&mut model.facts, Arc::new(facts.clone()));
                (before, stops != entry.stops)
            });
            let Some((before, is_stopped)) = before else {
                continue;
            };
            let name = &entry.spec.name;
            if is_stopped {
                self.stopped.insert(name.clone());
            }
            if *before != facts {
                self.changed.insert(name.clone());
                // Only now: an observer that looks at the model finds it in its new state.
                let took = entry.times.load_took;
                crate::lifecycle::events(&before, &facts, took)
                    .for_each(|event| self.observe(event));
            }
        }
    }

    /// Observers hear of it at once.
    fn observe(&self, event: policy::Event) {
        let time = self.world.clock();
        self.policies.observe_now(&policy::Event { time, ..event });
    }
}

impl Decide for Deciding {
    fn on_load(&mut self, machine: &Machine, model: &str, pending: PendingLoad) -> LoadVerdict {
        self.publish(machine);
        self.policies.on_load(model, pending)
    }

    fn on_idle(&mut self, machine: &Machine, model: &str) -> IdleVerdict {
        self.publish(machine);
        let is_busy = self.world.at(model, |model| model.active > 0);
        if is_busy != Some(false) {
            return IdleVerdict::Keep(0.0);
        }
        let verdict = self.policies.on_idle(model);
        if !matches!(verdict, IdleVerdict::Keep(_)) {
            self.world.at(model, |model| model.is_open = false);
        }
        verdict
    }

    fn on_exit(&mut self, machine: &Machine, model: &str, exit: Exit) -> ExitVerdict {
        self.publish(machine);
        self.policies.on_exit(model, exit)
    }

    fn on_trouble(
        &mut self,
        machine: &Machine,
        model: &str,
        trouble: Trouble,
        _: u64,
    ) -> TroubleVerdict {
        self.publish(machine);
        self.policies.on_trouble(model, trouble)
    }
}

/// What may be asked about a model besides requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Start,
    Stop,
    Load,
    Unload,
}

impl Simulation {
    /// A hub of that configuration that begins at `begun`, in Unix seconds, and has started nothing yet.
    /// `policies` loads those that are to decide in the world it is given.
    pub(crate) fn new(
        config: Config,
        begun: f64,
        policies: impl FnOnce(Arc<SimulatedWorld>) -> Policies,
    ) -> Self {
        let specs = config.models.iter().map(Spec::from).collect();
        let world = Arc::new(SimulatedWorld::new(config, begun));
        let policies = policies(Arc::clone(&world));
        Self {
            machine: Machine::new(specs),
            deciding: Deciding {
                world,
                policies,
                changed: BTreeSet::new(),
                stopped: BTreeSet::new(),
            },
            plan: BTreeMap::new(),
            planned: 0,
            next_tick: TICK,
            asked: Vec::new(),
            waiting: HashMap::new(),
            waiters: 0,
            running: HashMap::new(),
            parking: Parking::default(),
            draining: HashMap::new(),
            launches: HashMap::new(),
        }
    }

    /// What the policies see.
    pub(crate) fn world(&self) -> &Arc<SimulatedWorld> {
        &self.deciding.world
    }

    /// The policies.
    pub(crate) fn policies(&self) -> &Policies {
        &self.deciding.policies
    }

    /// Something asked earlier.
    pub(crate) fn asked(&self, number: Number) -> &Asked {
        &self.asked[number]
    }

    /// Changes how a model's worker behaves from now on; false when there is no such model.
    pub(crate) fn change_worker(&mut self, model: &str, change: impl FnOnce(&mut Worker)) -> bool {
        let changed = self.world().at(model, |model| {
            change(&mut model.worker);
            if !model.worker.silent {
                model.health.be_heard();
            }
        });
        changed.is_some()
    }

    /// Says what the model is known to hold at most, as if it had been measured earlier.
    pub(crate) fn know_peak(&mut self, model: &str, bytes: Option<u64>) {
        self.world().at(model, |model| model.peak_bytes = bytes);
    }

    /// Changes the machine's memory.
    pub(crate) fn change_memory(&mut self, change: impl FnOnce(&mut Memory)) {
        self.world().with(|state| change(&mut state.memory));
    }

    /// Starts what hub.yaml marks `default`, as a hub does that comes up.
    pub(crate) fn start_defaults(&mut self) {
        self.handle(Event::StartDefaults {
            except: std::collections::HashSet::new(),
        });
        self.catch_up();
    }

    /// Lets time pass, and happen what is due meanwhile.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.world().now() + by;
        self.skip_ticks(until);
        while self.step(until) {
            self.skip_ticks(until);
        }
        self.world().with(|state| state.now = until);
    }

    /// With no model in memory a tick finds nothing to do: the next one is the last before something
    /// happens, so that days pass at once.
    fn skip_ticks(&mut self, until: Duration) {
        let holds_memory = |entry: &Entry| entry.memory_state().holds_memory();
        if self.machine.next_asking().is_some() || self.machine.entries().any(holds_memory) {
            return;
        }
        let planned = self.plan.first_key_value().map(|((at, _), _)| *at);
        let next = planned.unwrap_or(until).min(until);
        let last = Duration::from_secs(next.as_secs() / TICK.as_secs() * TICK.as_secs());
        self.next_tick = self.next_tick.max(last);
    }

    /// Lets time pass until no model is on its way from one state to another; false when that takes more
    /// than an hour.
    pub(crate) fn settle(&mut self) -> bool {
        let limit = self.world().now() + LONGEST_SETTLING;
        while self.is_moving() {
            if !self.step(limit) {
                return false;
            }
        }
        true
    }

    fn is_moving(&self) -> bool {
        self.machine.entries().any(|entry| {
            let (process, memory) = (entry.process_state(), entry.memory_state());
            matches!(process, ProcessState::Starting | ProcessState::Stopping)
                || matches!(memory, MemoryState::Loading | MemoryState::Unloading)
        })
    }

    /// Starts, stops, loads or unloads a model.
    pub(crate) fn verb(&mut self, verb: Verb, model: &str) -> Number {
        let number = self.ask(None, Some(model.to_owned()));
        let waiter = self.waiter(number, false);
        let model = model.to_owned();
        self.handle(match verb {
            Verb::Start => Event::Start { model, waiter },
            Verb::Stop => Event::Stop { model, waiter },
            Verb::Load => Event::Load { model, waiter },
            Verb::Unload => Event::Unload { model, waiter },
        });
        self.catch_up();
        number
    }

    /// Ends a model's worker as a crash would; false when it has none.
    pub(crate) fn crash(&mut self, model: &str, exit_code: Option<i32>, reason: &str) -> bool {
        let process = self.world().at(model, |model| model.process).flatten();
        let Some(Process { launch, .. }) = process else {
            return false;
        };
        self.forget(launch);
        self.report(
            launch,
            Event::Gone {
                launch,
                exit_code,
                reason: reason.to_owned(),
            },
        );
        self.catch_up();
        true
    }

    fn ask(&mut self, request: Option<NewRequest>, model: Option<String>) -> Number {
        let now = self.world().now();
        self.asked.push(Asked::new(now, request, model));
        self.asked.len() - 1
    }

    fn waiter(&mut self, number: Number, is_request: bool) -> Waiter {
        self.waiters += 1;
        self.waiting.insert(self.waiters, number);
        Waiter {
            id: self.waiters,
            is_request,
        }
    }

    fn plan(&mut self, after: Duration, happening: Happening) {
        self.planned += 1;
        let at = self.world().now() + after;
        self.plan.insert((at, self.planned), happening);
    }

    /// Lets happen what is due now.
    fn catch_up(&mut self) {
        let now = self.world().now();
        self.ask_parked();
        while self
            .plan
            .first_key_value()
            .is_some_and(|((at, _), _)| *at <= now)
        {
            self.step(now);
        }
    }

    /// Lets the next thing happen, if it does until then.
    fn step(&mut self, until: Duration) -> bool {
        let planned = self.plan.first_key_value().map(|((at, _), _)| *at);
        let asking = self.machine.next_asking().unwrap_or(self.next_tick);
        let tick = asking.min(self.next_tick);
        let is_planned = planned.is_some_and(|at| at <= tick);
        let at = planned.filter(|_| is_planned).unwrap_or(tick);
        if at > until {
            return false;
        }
        self.world().with(|state| state.now = state.now.max(at));
        if !is_planned {
            if at == self.next_tick {
                self.next_tick = at + TICK;
            }
            self.handle(Event::Tick);
            self.look_for_trouble();
        } else if let Some((_, happening)) = self.plan.pop_first() {
            self.happen(happening);
        }
        self.ask_parked();
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Report(launch, event) => self.report(launch, event),
            Happening::DrainLimit(launch) => self.cut_drained(launch),
            Happening::Drained(launch) => self.handle(Event::Drained { launch }),
            Happening::Finish(number) => {
                self.leave(number, State::Done, &Finish::default());
            }
            Happening::Inspect(number) => self.look_at_parked(number),
            Happening::Idle => self.handle(Event::Idle),
            Happening::Wake => self.handle(Event::Tick),
        }
    }

    /// A launch reports what became of it.
    fn report(&mut self, launch: Launch, event: Event) {
        let Some(name) = self.launches.get(&launch).cloned() else {
            return;
        };
        match &event {
            Event::Loaded { .. } => self.of_process(&name, launch, |process| process.loaded = true),
            Event::Gone { .. } => {
                self.launches.remove(&launch);
                self.world().at(&name, |model| {
                    // What it held most is known when it is gone.
                    let held = model.worker.memory_bytes;
                    if model.process.is_some_and(|process| process.loaded) {
                        model.peak_bytes = model.peak_bytes.max(held);
                    }
                    model.process = None;
                });
                self.cut(&name);
            }
            Event::Standby { process: false, .. } => {
                self.launches.remove(&launch);
            }
            _ => {}
        }
        self.handle(event);
    }

    fn of_process(&self, model: &str, launch: Launch, change: impl FnOnce(&mut Process)) {
        self.world().at(model, |model| {
            if let Some(process) = model.process.as_mut().filter(|p| p.launch == launch) {
                change(process);
            }
        });
    }

    /// Nothing that was planned for a launch happens any more.
    fn forget(&mut self, launch: Launch) {
        self.plan.retain(|_, happening| match happening {
            Happening::Report(of, _) | Happening::DrainLimit(of) | Happening::Drained(of) => {
                *of != launch
            }
            Happening::Finish(_) | Happening::Inspect(_) | Happening::Idle | Happening::Wake => {
                true
            }
        });
    }

    fn now(&self) -> Now {
        Now {
            at: self.world().now(),
            unix: self.world().clock(),
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        let effects = self.machine.handle(event, now, &mut self.deciding);
        self.deciding.publish(&self.machine);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Launch {
                model,
                launch,
                goal,
            } => self.launch(model, launch, goal),
            Effect::Load { launch } => self.load(launch),
            Effect::End { launch } => self.end(launch, String::new()),
            Effect::Recycle { launch, reason } => self.end(launch, reason),
            Effect::OpenGate { model, .. } => {
                let now = self.world().now();
                self.world().at(&model, |model| {
                    model.is_open = true;
                    model.health.begin();
                    model.last_active = now;
                });
            }
            Effect::CloseGate { model } => {
                self.world().at(&model, |model| model.is_open = false);
            }
            Effect::Drain { model, launch } => {
                self.plan(
                    self.world().config.drain_timeout,
                    Happening::DrainLimit(launch),
                );
                self.draining.insert(model.clone(), launch);
                self.look_at_drain(&model);
            }
            Effect::Answer { waiter, answer } => self.answer(waiter, answer),
            Effect::Wake { after } => self.plan(after, Happening::Wake),
            // What an ended process held is available at once: nothing is waited for.
            Effect::Measure | Effect::Finished => {}
        }
    }

    fn launch(&mut self, name: String, launch: Launch, goal: Goal) {
        let Some(worker) = self.world().at(&name, |model| model.worker.clone()) else {
            return;
        };
        self.launches.insert(launch, name.clone());
        let none = Duration::ZERO;
        if goal == Goal::Standby && !worker.resident {
            let event = Event::Standby {
                launch,
                process: false,
            };
            return self.plan(none, Happening::Report(launch, event));
        }
        self.world().at(&name, |model| {
            model.process = Some(Process {
                launch,
                loading_since: None,
                loaded: false,
            });
        });
        let pid = 1000 + u32::try_from(launch).unwrap_or_default();
        self.plan(
            none,
            Happening::Report(launch, Event::Spawned { launch, pid }),
        );
        match goal {
            Goal::Loaded => self.load(launch),
            Goal::Standby => {
                let event = Event::Standby {
                    launch,
                    process: true,
                };
                self.plan(none, Happening::Report(launch, event));
            }
        }
    }

    /// A worker begins to load.
    fn load(&mut self, launch: Launch) {
        let Some(name) = self.launches.get(&launch).cloned() else {
            return;
        };
        let now = self.world().now();
        self.of_process(&name, launch, |process| process.loading_since = Some(now));
        let Some(worker) = self.world().at(&name, |model| model.worker.clone()) else {
            return;
        };
        let event = match worker.fails {
            None => Event::Loaded { launch },
            Some(reason) if worker.resident => Event::LoadRefused { launch, reason },
            Some(reason) => Event::Gone {
                launch,
                exit_code: Some(1),
                reason,
            },
        };
        self.plan(worker.load, Happening::Report(launch, event));
    }

    fn end(&mut self, launch: Launch, reason: String) {
        self.forget(launch);
        let name = self.launches.get(&launch);
        let end = name.and_then(|name| self.world().at(name, |model| model.worker.end));
        let event = Event::Gone {
            launch,
            exit_code: None,
            reason,
        };
        self.plan(end.unwrap_or_default(), Happening::Report(launch, event));
    }

    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        let Some(number) = self.waiting.remove(&waiter.id) else {
            return;
        };
        if waiter.is_request {
            self.stop_waiting(number);
        }
        match answer {
            Answer::Granted => self.enter(number),
            Answer::Verb(_) | Answer::Reloaded(_) => self.conclude(number, State::Done),
            Answer::Refused(error) => self.conclude(number, State::Rejected(error)),
        }
    }
}

impl NewRequest {
    /// A chat request for that model.
    pub(crate) fn chat(model: &str) -> Self {
        Self {
            method: http::Method::POST,
            path: "/v1/chat/completions".to_owned(),
            model: model.to_owned(),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            headers: http::HeaderMap::new(),
            body: crate::config::Settings::new(),
            ends_after: None,
        }
    }
}

#[cfg(test)]
mod tests;
