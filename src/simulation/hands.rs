//! The hands of a simulated hub: they carry out the machine's effects on pretended workers, and on waiters.
//! Slow work is put into the [`Schedule`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::doors::{Arrival, Lease, Ticket, Woken};
use super::plan::{Happening, Schedule};
use super::request::{Finish, Number, Progress, SimulatedRequest};
use super::world::{SimulatedModel, SimulatedProcess, SimulatedWorld};
use crate::core::hands::{self, Judge as _, MEASURE_AGAIN};
use crate::core::interface::questions::{ModelQuestion, ModelVerdict};
use crate::core::machine::{Answer, Event, Goal, Launch, Machine, Now, QuestionId, Waiter};
use crate::core::publish::{self, Publisher};
use crate::core::refusals::left_memory;
use crate::policy::{self, Policies, TroubleKind, World as _};

#[derive(Debug)]
pub(super) struct Hands {
    pub(super) world: Arc<SimulatedWorld>,
    pub(super) policies: Policies,
    pub(super) plan: Schedule,
    pub(super) asked: Vec<SimulatedRequest>,
    /// The waiters for the machine's answers, by number.
    pub(super) waiting: HashMap<u64, (Number, Option<Arrival>)>,
    /// The requests that workers answer.
    pub(super) running: BTreeMap<Number, Running>,
    /// Those that a policy told to wait.
    pub(super) parked: BTreeMap<Number, Ticket>,
    /// Models that are being drained.
    draining: HashMap<String, Launch>,
    pub(super) launches: HashMap<Launch, String>,
}

/// A request that a worker answers.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) model: Arc<SimulatedModel>,
    pub(super) lease: Lease,
}

impl Hands {
    pub(super) fn new(world: Arc<SimulatedWorld>, policies: Policies) -> Self {
        Self {
            world,
            policies,
            plan: Schedule::default(),
            asked: Vec::new(),
            waiting: HashMap::new(),
            running: BTreeMap::new(),
            parked: BTreeMap::new(),
            draining: HashMap::new(),
            launches: HashMap::new(),
        }
    }

    /// A model by name, also one that hub.yaml no longer names and that is still ending.
    fn model(&self, name: &str) -> Option<Arc<SimulatedModel>> {
        self.world.table().present_or_leaving(name).cloned()
    }

    /// While a load is parked, the machine wants to hear of models that become idle.
    pub(super) fn listen(&self, is_parked: bool) {
        let idle = is_parked.then(|| self.world.bell(Woken::Idle));
        self.world.table().tell_when_idle(idle.as_ref());
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

    pub(super) fn of_process(&self, launch: Launch, change: impl FnOnce(&mut SimulatedProcess)) {
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
    pub(super) fn enter(&mut self, number: Number, model: Arc<SimulatedModel>, mut lease: Lease) {
        let asked = &mut self.asked[number];
        asked.state = Progress::Running;
        asked.entered = Some(self.world.now());
        let request = asked.request.as_ref();
        let ends_after = request.and_then(|request| request.ends_after);
        if let Some(seconds) = request.and_then(|request| request.keep_alive) {
            model.is_wished_for(seconds, self.world.clock());
        }
        if request.is_some_and(|request| !request.method.is_safe()) {
            lease.is_sent(Some(0), Vec::new);
            let is_silent = self.world.at(&model.name, |model| model.worker.silent);
            if is_silent != Some(true) {
                lease.sign_of_life();
            }
        }
        self.running.insert(number, Running { model, lease });
        if let Some(after) = ends_after {
            self.plan(after, Happening::Finish(number));
        }
    }

    /// A request that its worker answers ends.
    pub(super) fn leave(&mut self, number: Number, state: Progress, finish: &Finish) -> bool {
        let Some(Running { model, mut lease }) = self.running.remove(&number) else {
            return false;
        };
        self.asked[number].finish = finish.clone();
        if state == Progress::Done {
            lease.answered(finish.status.unwrap_or(200));
        }
        drop(lease);
        self.conclude(number, state);
        self.look_at_drain(&model);
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
    fn look_at_drain(&mut self, model: &SimulatedModel) {
        if model.gate.active() == 0
            && let Some(launch) = self.draining.remove(&*model.name)
        {
            self.plan
                .cancel(|other| matches!(other, Happening::DrainLimit(of) if *of == launch));
            self.plan(Duration::ZERO, Happening::Drained(launch));
        }
    }

    /// The worker of a launch is gone, or `drain_timeout` is over: its requests are cut.
    pub(super) fn cut(&mut self, launch: Launch) {
        let model = self.launches.get(&launch);
        let of_launch =
            |running: &Running| model.is_some_and(|model| **model == *running.model.name);
        let running = self.running.iter();
        let cut = running.filter(|(_, running)| of_launch(running));
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
        self.world.with(|machine| machine.returning = returning);
        publish::publish(machine, &self.world.table(), self);
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
            let process = SimulatedProcess::new(launch);
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
        if let Some(model) = self.model(model) {
            model.gate.open();
        }
    }

    fn close_gate(&mut self, model: &str) {
        if let Some(model) = self.model(model) {
            model.gate.close();
        }
    }

    fn close_gate_if_idle(&mut self, model: &str) -> bool {
        let model = self.model(model);
        model.is_some_and(|model| model.gate.close_if_idle())
    }

    fn drain(&mut self, model: &str, launch: Launch) {
        let Some(model) = self.model(model) else {
            return;
        };
        let limit = self.world.config().drain_timeout;
        self.plan(limit, Happening::DrainLimit(launch));
        self.draining.insert(model.name.to_string(), launch);
        self.look_at_drain(&model);
    }

    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        let Some((number, arrival)) = self.waiting.remove(&waiter.id) else {
            return;
        };
        match (answer, &arrival) {
            (Answer::Granted, Some(Arrival { model, .. })) => match model.gate.try_enter() {
                Some(lease) => self.enter(number, Arc::clone(model), lease),
                None => self.conclude(number, Progress::Rejected(left_memory(&model.name))),
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
        self.plan(MEASURE_AGAIN, Happening::Measure);
    }

    fn wake(&mut self, after: Duration) {
        self.plan(after, Happening::Wake);
    }

    fn finish(&mut self) {}
}

impl Publisher for Hands {
    type Model = SimulatedModel;

    fn tell(&self, _: &SimulatedModel, event: policy::Event, _: Option<f64>) {
        self.policies.observe_now(&event);
    }

    fn clock(&self) -> f64 {
        self.world.clock()
    }
}
