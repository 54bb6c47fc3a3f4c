//! A hub without processes, threads and waiting, on a clock that its user sets: what `policy test` runs
//! policies in.
//!
//! All that decides is the real hub's, in `core`, and so are the policies and their Lua host. Simulated are
//! the [`Hands`]: workers that load and end as they are told ([`SimulatedWorker`]), and requests that end when
//! the test says so. Two runs of one story are the same to the last event. It knows nothing of sockets and
//! files.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::api::Verb;
use crate::config::Config;
use crate::core::hands::{TICK, handle};
use crate::core::machine::{Entry, Event, Launch, Machine, specs};
use crate::core::reload::changed_launches;
use crate::policy::{self, FinishedRequest, Policies, World as _};

mod clock;
mod doors;
mod gateway;
mod hands;
mod request;
mod testing;
mod trouble;
mod world;

use clock::Happening;
use hands::Hands;
use request::{Asked, Number, State};
pub use testing::{Case, bound_names, run};
use world::{Memory, Pretended, SimulatedProcess, SimulatedWorker, SimulatedWorld, Unread};

/// [`Simulation::settle`] gives up after so long.
const MAX_SETTLING: Duration = Duration::from_secs(3600);

/// A simulated hub.
#[derive(Debug)]
pub(crate) struct Simulation {
    machine: Machine,
    hands: Hands,
}

impl Simulation {
    /// A hub of that configuration that begins at `begun`, in Unix seconds, and has started nothing yet.
    /// `policies` loads those that are to decide in the world it is given.
    pub(crate) fn new(
        config: Config,
        begun: f64,
        policies: impl FnOnce(Arc<SimulatedWorld>) -> Policies,
    ) -> Self {
        let specs = specs(&config);
        let world = Arc::new(SimulatedWorld::new(config, begun));
        let policies = policies(Arc::clone(&world));
        Self {
            machine: Machine::new(specs),
            hands: Hands {
                world,
                policies,
                asked: Vec::new(),
            },
        }
    }

    /// The world of the policies.
    pub(crate) fn world(&self) -> &Arc<SimulatedWorld> {
        &self.hands.world
    }

    /// The policies.
    pub(crate) fn policies(&self) -> &Policies {
        &self.hands.policies
    }

    /// Something asked earlier.
    fn asked(&self, number: Number) -> &Asked {
        &self.hands.asked[number]
    }

    /// Changes how a model's worker behaves from now on, and what it is known to have held at most, if that is said.
    pub(crate) fn change_worker(
        &mut self,
        model: &str,
        worker: SimulatedWorker,
        peak_bytes: Option<u64>,
    ) {
        let silent = worker.silent;
        self.world().at(model, |model| {
            model.worker = worker;
            model.peak_bytes = peak_bytes.or(model.peak_bytes);
        });
        for asked in &mut self.hands.asked {
            match &mut asked.state {
                State::Running(of, lease) if *of.name == *model => match silent {
                    true => lease.waits(),
                    false => lease.sign_of_life(),
                },
                _ => {}
            }
        }
    }

    /// Starts what hub.yaml marks `default`, as a hub does that comes up.
    pub(crate) fn start_defaults(&mut self) {
        let except = HashSet::new();
        self.handle(Event::StartDefaults { except });
        self.catch_up();
    }

    /// Reads another hub.yaml; `policies` reads theirs again.
    pub(crate) fn reload(&mut self, config: Config, policies: impl FnOnce(&Policies)) -> Number {
        let changed = changed_launches(&config, &self.world().config());
        let models = specs(&config);
        let table = self.world().reconfigure(config);
        // A file reads its settings while it loads: they have to be the new ones.
        policies(self.policies());
        table.ask_parked_again();
        let now = self.world().clock();
        self.policies()
            .observe_now(&policy::Event::config_reloaded(now));
        let number = self.ask(None);
        let event = Event::Reconcile {
            waiter: Hands::waiter(number, false),
            models,
            changed,
            start: true,
        };
        self.handle(event);
        self.catch_up();
        number
    }

    /// Lets time pass, and happen what is due meanwhile.
    pub(crate) fn advance(&mut self, by: Duration) {
        let until = self.world().now() + by;
        while self.step(until) {}
        self.world().clock.set(until);
    }

    /// Lets time pass until no model is on its way from one state to another; false when that takes more
    /// than an hour.
    pub(crate) fn settle(&mut self) -> bool {
        let limit = self.world().now() + MAX_SETTLING;
        self.catch_up();
        while self.is_moving() {
            if !self.step(limit) {
                return false;
            }
            self.catch_up();
        }
        true
    }

    fn is_moving(&self) -> bool {
        let table = self.world().table();
        (table.all()).any(|model| model.facts.load().is_on_its_way())
    }

    /// Starts, stops, loads or unloads a model.
    pub(crate) fn verb(&mut self, verb: Verb, model: &str) -> Number {
        let model = model.to_owned();
        let number = self.ask(Some(model.clone()));
        let waiter = Hands::waiter(number, false);
        self.handle(Event::Verb {
            verb,
            model,
            waiter,
        });
        self.catch_up();
        number
    }

    /// Ends a model's worker as a crash would; false when it has none.
    pub(crate) fn crash(&mut self, model: &str, exit_code: Option<i32>, reason: &str) -> bool {
        let launch = |model: &mut Pretended| model.launch.filter(|_| model.process.is_some());
        let Some(launch) = self.world().at(model, launch).flatten() else {
            return false;
        };
        self.world().clock.forget(launch);
        let reason = reason.to_owned();
        let event = Event::Gone {
            launch,
            exit_code,
            reason,
        };
        self.report(launch, event);
        self.catch_up();
        true
    }

    fn ask(&mut self, model: Option<String>) -> Number {
        let begun = self.world().now();
        self.hands.asked.push(Asked {
            model,
            begun,
            ..Asked::default()
        });
        self.hands.asked.len() - 1
    }

    /// Lets happen what is due now.
    fn catch_up(&mut self) {
        while self.world().clock.is_due() {
            self.step(self.world().now());
        }
    }

    /// Lets the next thing happen, if it does until then.
    fn step(&mut self, until: Duration) -> bool {
        let next = self.world().clock.go_on(until);
        let is_one = next.is_some();
        if let Some(happening) = next {
            self.happen(happening);
        }
        is_one
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Event(Some(launch), event) => self.report(launch, event),
            Happening::Event(None, event) => self.handle(event),
            Happening::Finish(number) => {
                self.hands
                    .leave(number, State::Done, FinishedRequest::default());
            }
            Happening::Look(number) => self.look_at_parked(number),
            Happening::Measure => self.measure(),
            Happening::Tick => self.tick(),
        }
    }

    fn tick(&mut self) {
        let now = self.world().now();
        let is_time = |at| at <= now;
        // The load that it was planned for may have been asked about since.
        if now.subsec_nanos() == 0 || self.machine.next_asking().is_some_and(is_time) {
            self.handle(Event::Tick);
            if self.machine.is_parking() {
                self.measure();
            }
            self.look_for_trouble();
        } else {
            self.plan_tick();
        }
    }

    /// The report of a real hub's sampler.
    fn measure(&mut self) {
        let system = self.world().memory();
        let peaks = self.world().peaks();
        self.handle(Event::Measured { system, peaks });
    }

    /// A launch reports what became of it.
    fn report(&mut self, launch: Launch, event: Event) {
        let Some(model) = self.world().of_launch(launch) else {
            return;
        };
        let becomes = |process| model.pretended.lock().process = Some(process);
        match &event {
            Event::Gone { .. } => {
                if let Some((held, available)) = self.world().free(&model) {
                    self.handle(Event::Freed { held, available });
                }
                self.hands.cut(&model);
                model.pretended.lock().launch = None;
            }
            // At the drain limit there may be some.
            Event::Drained { .. } => self.hands.cut(&model),
            Event::Standby { process: false, .. } => model.pretended.lock().launch = None,
            Event::Loaded { .. } => becomes(SimulatedProcess::Loaded),
            Event::LoadRefused { .. } => becomes(SimulatedProcess::Unloaded),
            _ => {}
        }
        self.handle(event);
    }

    fn handle(&mut self, event: Event) {
        handle(&mut self.machine, &mut self.hands, event);
        self.hands.listen(self.machine.is_parking());
        self.plan_tick();
    }

    /// With no memory in use a tick finds nothing to do: days pass at once then.
    fn plan_tick(&self) {
        let holds_memory = |entry: &Entry| entry.memory_state().holds_memory();
        let asking = self.machine.next_asking();
        let returns = self.world().with(|machine| machine.returning > 0);
        if asking.is_some() || returns || self.machine.entries().any(holds_memory) {
            let clock = &self.world().clock;
            let second = Duration::from_secs(self.world().now().as_secs()) + TICK;
            clock.plan_tick(asking.unwrap_or(second).min(second));
        }
    }
}

#[cfg(test)]
mod tests;
