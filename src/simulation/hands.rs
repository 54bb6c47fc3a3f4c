//! The hands of a simulated hub: they carry out the machine's effects on pretended workers, and on waiters.
//! Slow work is planned on the clock.

use std::mem::{replace, take};
use std::sync::Arc;
use std::time::Duration;

use super::clock::{Clock, Happening};
use super::doors::{Arrival, Lease};
use super::request::{Asked, Number, State};
use super::world::{SimulatedModel, SimulatedProcess, SimulatedWorld};
use crate::core::hands::{self, Judge as _, MEASURE_AGAIN};
use crate::core::interface::questions::{ModelQuestion, ModelVerdict};
use crate::core::machine::{Answer, Event, Goal, Launch, Machine, Now, QuestionId, Waiter};
use crate::core::publish::{self, Publisher};
use crate::core::refusals::left_memory;
use crate::policy::{self, FinishedRequest, Policies, TroubleKind, World as _};

#[derive(Debug)]
pub(super) struct Hands {
    pub(super) world: Arc<SimulatedWorld>,
    pub(super) policies: Policies,
    pub(super) asked: Vec<Asked>,
}

impl Hands {
    /// The waiter for the answer of the machine to something asked.
    pub(super) fn waiter(number: Number, is_request: bool) -> Waiter {
        let id = number as u64;
        Waiter { id, is_request }
    }

    /// While a load is parked, the machine wants to hear of models that become idle.
    pub(super) fn listen(&self, is_parked: bool) {
        let idle = is_parked.then(|| self.world.clock.bell(None));
        self.world.table().tell_when_idle(idle.as_ref());
    }

    fn report(&self, after: Duration, launch: Launch, event: Event) {
        let clock = &self.world.clock;
        clock.plan(after, Happening::Event(Some(launch), event));
    }

    fn end_with(&self, launch: Launch, reason: String) {
        self.world.clock.forget(launch);
        let model = self.world.of_launch(launch);
        let end = model.map(|model| model.pretended.lock().worker.end);
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
        asked.entered = Some(self.world.now());
        let ends_after = asked.ends_after;
        if let Some(view) = &asked.view {
            if let Some(seconds) = view.keep_alive {
                model.is_wished_for(seconds, self.world.clock());
            }
            if !view.parts.method.is_safe() {
                lease.is_sent(Some(0), Vec::new);
                if !model.pretended.lock().worker.silent {
                    lease.sign_of_life();
                }
            }
        }
        asked.state = State::Running(model, lease);
        if let Some(after) = ends_after {
            self.world.clock.plan(after, Happening::Finish(number));
        }
    }

    /// A request that its worker answers ends; false when it is no such request.
    pub(super) fn leave(&mut self, number: Number, state: State, finish: FinishedRequest) -> bool {
        let asked = &mut self.asked[number];
        let State::Running(model, lease) = &mut asked.state else {
            return false;
        };
        if let State::Done = state {
            lease.answered(finish.status.unwrap_or(200));
        }
        let model = Arc::clone(model);
        asked.finish = finish;
        self.conclude(number, state);
        // A model that is drained goes on when its last request has left.
        let launch = model.pretended.lock().launch;
        if model.gate.active() == 0
            && !model.gate.is_open()
            && let Some(launch) = launch
        {
            self.report(Duration::ZERO, launch, Event::Drained { launch });
        }
        true
    }

    /// Something asked comes to its end: it gives back what it holds, and then observers hear of it.
    pub(super) fn conclude(&mut self, number: Number, state: State) {
        let asked = &mut self.asked[number];
        drop(replace(&mut asked.state, state));
        asked.ended = Some(self.world.now());
        let named = || asked.view.as_ref()?.model.as_deref();
        let model = asked.model.clone();
        // A request that names no model of this hub is no model's.
        let model = model.or_else(|| Some(self.world.model(named()?)?.facts.name.clone()));
        if let Some(request) = model.and_then(|model| asked.finished(model)) {
            let event = policy::Event::of_request(request, self.world.clock());
            self.policies.observe_now(&event);
        }
    }

    /// The worker of a launch is gone, or `drain_timeout` is over: its requests are cut.
    pub(super) fn cut(&mut self, model: &Arc<SimulatedModel>) {
        for number in 0..self.asked.len() {
            if let State::Running(of, _) = &self.asked[number].state
                && Arc::ptr_eq(of, model)
            {
                self.leave(number, State::Cut, FinishedRequest::default());
            }
        }
    }
}

impl hands::Hands for Hands {
    type World = SimulatedWorld;
    type Judge = Policies;
    type Runtime = Clock;
    type Model = SimulatedModel;

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

    fn model(&self, name: &str) -> Option<Arc<SimulatedModel>> {
        self.world.table().present_or_leaving(name).cloned()
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
        let Some(model) = self.model(name) else {
            return;
        };
        let process = {
            let mut pretended = model.pretended.lock();
            let process = goal == Goal::Loaded || pretended.worker.resident;
            pretended.launch = Some(launch);
            pretended.process = process.then_some(SimulatedProcess::Unloaded);
            process
        };
        let at_once = Duration::ZERO;
        if process {
            let pid = 1000 + u32::try_from(launch).unwrap_or_default();
            self.report(at_once, launch, Event::Spawned { launch, pid });
        }
        match goal {
            Goal::Loaded => self.load(launch),
            Goal::Standby => self.report(at_once, launch, Event::Standby { launch, process }),
        }
    }

    fn load(&mut self, launch: Launch) {
        let Some(model) = self.world.of_launch(launch) else {
            return;
        };
        let since = self.world.now();
        let worker = {
            let mut pretended = model.pretended.lock();
            pretended.process = Some(SimulatedProcess::Loading { since });
            pretended.worker.clone()
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
        self.report(worker.load, launch, event);
    }

    fn end(&mut self, launch: Launch) {
        self.end_with(launch, String::new());
    }

    fn recycle(&mut self, launch: Launch, reason: String) {
        self.end_with(launch, reason);
    }

    fn connect(&self, _: &SimulatedModel, _: Launch) -> bool {
        true
    }

    fn drain(&mut self, model: &str, launch: Launch) {
        let active = self.model(model).map(|model| model.gate.active());
        let limit = match active {
            Some(0) | None => Duration::ZERO,
            Some(_) => self.world.config().drain_timeout,
        };
        self.report(limit, launch, Event::Drained { launch });
    }

    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        let number = waiter.id as Number;
        let arrived = match take(&mut self.asked[number].state) {
            State::Arriving(arrival) => Some(arrival),
            _ => None,
        };
        match (answer, &arrived) {
            (Answer::Granted, Some(Arrival { model, .. })) => match model.gate.try_enter() {
                Some(lease) => self.enter(number, Arc::clone(model), lease),
                None => self.conclude(number, State::Rejected(left_memory(&model.name))),
            },
            (Answer::Refused(error), _) => self.conclude(number, State::Rejected(error)),
            _ => self.conclude(number, State::Done),
        }
        // It waits no more now that its lease is counted.
        drop(arrived);
    }

    fn measure(&mut self) {
        let clock = &self.world.clock;
        clock.cancel(|other| matches!(other, Happening::Measure));
        clock.plan(MEASURE_AGAIN, Happening::Measure);
    }

    fn wake(&mut self, after: Duration) {
        let tick = Happening::Event(None, Event::Tick);
        self.world.clock.plan(after, tick);
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
