//! The hands of a simulated hub: they carry out the machine's effects on pretended workers, and on waiters.
//! Slow work is put into the [`Plan`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::doors::{Arrival, Lease, Ticket};
use super::plan::{Happening, Plan};
use super::request::{Asked, Finish, Number, Progress};
use super::world::{Process, SimulatedWorld};
use crate::core::facts;
use crate::core::hands::{self, Judge as _};
use crate::core::interface::questions::{ModelQuestion, ModelVerdict};
use crate::core::machine::{Answer, Event, Goal, Launch, Machine, Now, QuestionId, Waiter};
use crate::core::place::Destination as _;
use crate::core::refusals::left_memory;
use crate::policy::{self, KeepAlive, Policies, TroubleKind, World as _};

/// Time until memory is measured for a load that waits for it to come back, as in a real hub.
const SOON: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Hands {
    pub(super) world: Arc<SimulatedWorld>,
    pub(super) policies: Policies,
    pub(super) plan: Plan,
    pub(super) asked: Vec<Asked>,
    /// The waiters for the machine's answers, by number.
    pub(super) waiting: HashMap<u64, (Number, Option<Arrival>)>,
    /// The requests that workers answer.
    pub(super) running: BTreeMap<Number, Lease>,
    /// Those that a policy told to wait.
    pub(super) parked: BTreeMap<Number, Ticket>,
    /// Models that are being drained.
    draining: HashMap<String, Launch>,
    pub(super) launches: HashMap<Launch, String>,
    /// True if a load is parked.
    pub(super) listens: bool,
}

impl Hands {
    pub(super) fn new(world: Arc<SimulatedWorld>, policies: Policies) -> Self {
        Self {
            world,
            policies,
            plan: Plan::default(),
            asked: Vec::new(),
            waiting: HashMap::new(),
            running: BTreeMap::new(),
            parked: BTreeMap::new(),
            draining: HashMap::new(),
            launches: HashMap::new(),
            listens: false,
        }
    }

    pub(super) fn plan(&mut self, after: Duration, happening: Happening) {
        // What is never, need not be planned.
        if let Some(at) = self.world.now().checked_add(after) {
            self.plan.add(at, happening);
        }
    }

    fn report(&mut self, after: Duration, launch: Launch, event: Event) {
        self.plan(after, Happening::Report(launch, event));
    }

    pub(super) fn of_process(&self, launch: Launch, change: impl FnOnce(&mut Process)) {
        let Some(model) = self.launches.get(&launch) else {
            return;
        };
        self.world.at(model, |model| {
            let process = model.process.as_mut();
            process
                .filter(|process| process.launch == launch)
                .map(change)
        });
    }

    fn end_with(&mut self, launch: Launch, reason: String) {
        self.plan.forget(launch);
        let name = self.launches.get(&launch);
        let end = name.and_then(|name| self.world.at(name, |model| model.worker.end));
        let event = Event::Gone {
            launch,
            exit_code: None,
            reason,
        };
        self.report(end.unwrap_or_default(), launch, event);
    }

    /// The model is in memory: its worker answers.
    pub(super) fn enter(&mut self, number: Number, lease: Lease) {
        let asked = &mut self.asked[number];
        asked.state = Progress::Running;
        asked.entered = Some(self.world.now());
        let ends_after = asked.request.as_ref().and_then(|it| it.ends_after);
        if let Some(seconds) = asked.request.as_ref().and_then(|it| it.keep_alive) {
            let at = self.world.clock();
            let wish = Some(KeepAlive { seconds, at });
            self.world
                .at(lease.model(), |model| model.keep_alive = wish);
        }
        self.running.insert(number, lease);
        if let Some(after) = ends_after {
            self.plan(after, Happening::Finish(number));
        }
    }

    /// A request that its worker answers ends.
    pub(super) fn leave(&mut self, number: Number, state: Progress, finish: &Finish) -> bool {
        let Some(lease) = self.running.remove(&number) else {
            return false;
        };
        self.asked[number].finish = finish.clone();
        if state == Progress::Done {
            self.note_answer(number, finish);
        }
        let model = lease.model().to_owned();
        drop(lease);
        self.conclude(number, state);
        self.look_at_drain(&model);
        let active = self.world.at(&model, |model| model.active);
        if active == Some(0) && self.listens {
            self.plan(Duration::ZERO, Happening::Idle);
        }
        true
    }

    /// Something asked comes to its end.
    pub(super) fn conclude(&mut self, number: Number, state: Progress) {
        let asked = &mut self.asked[number];
        asked.state = state;
        asked.ended = Some(self.world.now());
        let request = asked.request.as_ref();
        let named = request.and_then(|request| request.model.as_deref());
        let named = named.and_then(|name| self.world.model(name));
        let model = asked.model.clone();
        let model = model.or(named.map(|model| model.facts.name.clone()));
        // A request that names no model of this hub is no model's.
        if let Some(request) = model.and_then(|model| asked.finished(number, model)) {
            let event = policy::Event::of_request(request, self.world.clock());
            self.policies.observe_now(&event);
        }
    }

    /// A model that is drained goes on when its last request has left.
    fn look_at_drain(&mut self, model: &str) {
        let active = self.world.at(model, |model| model.active);
        if active == Some(0)
            && let Some(launch) = self.draining.remove(model)
        {
            self.plan
                .cancel(|other| matches!(other, Happening::DrainLimit(of) if *of == launch));
            self.plan(Duration::ZERO, Happening::Drained(launch));
        }
    }

    /// The worker of a launch is gone, or `drain_timeout` is over: its requests are cut.
    pub(super) fn cut(&mut self, launch: Launch) {
        let model = self.launches.get(&launch);
        let mut running = self.running.iter();
        let cut = running
            .by_ref()
            .filter(|(_, lease)| model.is_some_and(|model| lease.model() == model));
        let cut: Vec<Number> = cut.map(|(number, _)| *number).collect();
        for number in cut {
            self.leave(number, Progress::Cut, &Finish::default());
        }
    }
}

impl hands::Hands for Hands {
    type World = SimulatedWorld;
    type Judge = Policies;

    fn world(&self) -> &SimulatedWorld {
        &self.world
    }

    fn judge(&self) -> &Policies {
        &self.policies
    }

    fn now(&self) -> Now {
        Now {
            at: self.world.now(),
            unix: self.world.clock(),
        }
    }

    fn ask(
        &mut self,
        _: QuestionId,
        model: &str,
        question: &ModelQuestion,
    ) -> Option<ModelVerdict> {
        Some(self.policies.judge(model, question))
    }

    fn publish(&mut self, machine: &Machine) {
        let returning = machine.returning(self.world.memory().available);
        self.world.with(|state| state.returning = returning);
        let config = self.world.config();
        for entry in machine.entries() {
            let name = &entry.spec.name;
            let Some(model) = config.model(name) else {
                continue;
            };
            self.world.note_stops(name, entry.stops);
            let facts = facts::of(entry, model, &config, None);
            self.show(name, facts, entry.times.load_took);
        }
        for before in self.world.leaving() {
            let gone = facts::of_gone(&before).filter(|_| !machine.is_ending(&before.name));
            if let Some(facts) = gone {
                self.show(&before.name, facts, None);
            }
        }
    }

    fn lasts(&self, _: &str, _: TroubleKind, _: u64) -> bool {
        // Nothing comes while a policy thinks.
        true
    }

    fn launch(&mut self, name: &str, launch: Launch, goal: Goal) {
        let Some(worker) = self.world.at(name, |model| model.worker.clone()) else {
            return;
        };
        self.launches.insert(launch, name.to_owned());
        let at_once = Duration::ZERO;
        let process = goal == Goal::Loaded || worker.resident;
        if process {
            let process = Process::new(launch);
            self.world.at(name, |model| model.process = Some(process));
            let pid = 1000 + u32::try_from(launch).unwrap_or_default();
            self.report(at_once, launch, Event::Spawned { launch, pid });
        }
        match goal {
            Goal::Loaded => self.load(launch),
            Goal::Standby => self.report(at_once, launch, Event::Standby { launch, process }),
        }
    }

    fn load(&mut self, launch: Launch) {
        let now = self.world.now();
        self.of_process(launch, |process| process.loading_since = Some(now));
        let model = self.launches.get(&launch);
        let worker = model.and_then(|name| self.world.at(name, |model| model.worker.clone()));
        let Some(worker) = worker else { return };
        let event = match worker.fails {
            None => Event::Loaded { launch },
            Some(reason) if worker.resident => Event::LoadRefused { launch, reason },
            Some(reason) => Event::Gone {
                launch,
                exit_code: Some(1),
                reason,
            },
        };
        self.report(worker.load, launch, event);
    }

    fn end(&mut self, launch: Launch) {
        self.end_with(launch, String::new());
    }

    fn recycle(&mut self, launch: Launch, reason: String) {
        self.end_with(launch, reason);
    }

    fn open_gate(&mut self, model: &str, _: Launch) {
        let now = self.world.now();
        self.world.at(model, |model| {
            model.is_open = true;
            model.health.begin();
            model.last_active = now;
        });
    }

    fn close_gate(&mut self, model: &str) {
        self.world.at(model, |model| model.is_open = false);
    }

    fn close_gate_if_idle(&mut self, model: &str) -> bool {
        // It was when the policies were asked.
        self.close_gate(model);
        true
    }

    fn drain(&mut self, model: &str, launch: Launch) {
        let limit = self.world.config().drain_timeout;
        self.plan(limit, Happening::DrainLimit(launch));
        self.draining.insert(model.to_owned(), launch);
        self.look_at_drain(model);
    }

    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        let Some((number, arrival)) = self.waiting.remove(&waiter.id) else {
            return;
        };
        match (answer, &arrival) {
            (Answer::Granted, Some(Arrival { model, .. })) => match Lease::enter(model) {
                Some(lease) => self.enter(number, lease),
                None => self.conclude(number, Progress::Rejected(left_memory(model.name()))),
            },
            (Answer::Refused(error), _) => self.conclude(number, Progress::Rejected(error)),
            _ => self.conclude(number, Progress::Done),
        }
        // It waits no more now that its lease is counted.
        drop(arrival);
    }

    fn measure(&mut self) {
        self.plan
            .cancel(|happening| matches!(happening, Happening::Measure));
        self.plan(SOON, Happening::Measure);
    }

    fn wake(&mut self, after: Duration) {
        self.plan(after, Happening::Wake);
    }

    fn finish(&mut self) {}
}

impl Hands {
    /// Shows other facts of a model.
    fn show(&self, name: &str, facts: crate::api::ModelFacts, took: Option<f64>) {
        let shown = Arc::new(facts);
        let before = self.world.at(name, |model| {
            std::mem::replace(&mut model.facts, Arc::clone(&shown))
        });
        if let Some(before) = before.filter(|before| *before != shown) {
            self.world.changed(name);
            // Only now: an observer that looks at the model finds it in its new state.
            let events = facts::events(&before, &shown, took, self.world.clock());
            events.for_each(|event| self.policies.observe_now(&event));
        }
    }
}
