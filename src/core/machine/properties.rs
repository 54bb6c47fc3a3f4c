//! Properties of every sequence of events, however unlucky.
//!
//! A random driver plays users, requests, workers and the clock. It keeps its own books of what it
//! was told to do, and checks them after every event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::dice::{Dice, holding};
use super::*;
use crate::api::Verb;
use crate::core::interface::questions::TroubleKind;

pub(super) const MODELS: [&str; 4] = ["a", "b", "j", "k"];
const GIBIBYTE: u64 = 1 << 30;
/// Known peak of each model, in bytes.
const PEAK: u64 = 30 * GIBIBYTE;

/// One move of the driver; numbers pick among what is possible at that moment.
#[derive(Debug, Clone)]
enum Move {
    Verb(Verb, usize),
    Request(usize),
    Abandon(usize),
    /// A worker makes its next step, in one of the ways it may.
    Worker(usize, u8),
    ReturnLease(usize),
    DrainLimit(usize),
    /// A worker hangs, or does not any more.
    Trouble(usize, u8),
    Reload(Vec<bool>, u8),
    /// So many GiB are found to be available.
    Measure(u8),
    Tick,
    /// The verdict comes that the policies thought about.
    Judged,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => (prop::sample::select(&Verb::ALL), 0usize..4).prop_map(|(verb, model)| Move::Verb(verb, model)),
        6 => (0usize..4).prop_map(Move::Request),
        1 => any::<usize>().prop_map(Move::Abandon),
        8 => (any::<usize>(), any::<u8>()).prop_map(|(worker, how)| Move::Worker(worker, how)),
        4 => any::<usize>().prop_map(Move::ReturnLease),
        1 => any::<usize>().prop_map(Move::DrainLimit),
        1 => (0usize..4, any::<u8>()).prop_map(|(model, how)| Move::Trouble(model, how)),
        1 => (proptest::collection::vec(any::<bool>(), 4), any::<u8>())
            .prop_map(|(present, changed)| Move::Reload(present, changed)),
        2 => (0u8..40).prop_map(Move::Measure),
        2 => Just(Move::Tick),
        3 => Just(Move::Judged),
    ]
}

/// A launch as the driver sees it.
#[derive(Debug, Clone, PartialEq)]
struct Worker {
    model: String,
    phase: WorkerPhase,
    ending: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum WorkerPhase {
    Begun(Goal),
    Spawned(Goal),
    Standby,
    Loading,
    Loaded,
}

struct Driver {
    machine: Machine,
    dice: Dice,
    seconds: u64,
    next_waiter: u64,
    waiting: HashSet<Waiter>,
    workers: BTreeMap<Launch, Worker>,
    /// Leases that are out, by the launch they are for.
    leases: Vec<Launch>,
    open: HashMap<String, Launch>,
    draining: HashSet<Launch>,
    /// Launches whose drain limit has passed.
    cut: HashSet<Launch>,
    /// Memory of ended processes: back when so much is available, or at that second.
    returning: Vec<(u64, u64)>,
    /// Available memory in the event that is handled, if that was measured.
    available: Option<u64>,
    finished: bool,
}

impl Driver {
    fn new(rolls: Vec<u8>) -> Self {
        Self {
            machine: Machine::new(MODELS.iter().map(|name| spec(name)).collect()),
            dice: Dice::new(rolls),
            seconds: 0,
            next_waiter: 0,
            waiting: HashSet::new(),
            workers: BTreeMap::new(),
            leases: Vec::new(),
            open: HashMap::new(),
            draining: HashSet::new(),
            cut: HashSet::new(),
            returning: Vec::new(),
            available: None,
            finished: false,
        }
    }

    fn waiter(&mut self, is_request: bool) -> Waiter {
        self.next_waiter += 1;
        let waiter = Waiter {
            id: self.next_waiter,
            is_request,
        };
        self.waiting.insert(waiter);
        waiter
    }

    fn make(&mut self, a_move: Move) {
        match a_move {
            Move::Verb(verb, model) => {
                let waiter = self.waiter(false);
                let model = MODELS[model].to_owned();
                self.tell(Event::Verb {
                    verb,
                    model,
                    waiter,
                });
            }
            Move::Request(model) => self.request(MODELS[model]),
            Move::Abandon(which) => {
                let mut waiting: Vec<Waiter> = self.waiting.iter().copied().collect();
                waiting.sort_by_key(|waiter| waiter.id);
                if let Some(waiter) = pick(&waiting, which) {
                    self.waiting.remove(&waiter);
                    self.tell(Event::Abandon { waiter });
                }
            }
            Move::Worker(which, how) => {
                let launches: Vec<Launch> = self.workers.keys().copied().collect();
                if let Some(launch) = pick(&launches, which) {
                    self.step(launch, how);
                }
            }
            Move::ReturnLease(which) => {
                if !self.leases.is_empty() {
                    let launch = self.leases.swap_remove(which % self.leases.len());
                    self.drained_if_empty(launch);
                }
            }
            Move::DrainLimit(which) => {
                let mut draining: Vec<Launch> = self.draining.iter().copied().collect();
                draining.sort_unstable();
                if let Some(launch) = pick(&draining, which) {
                    self.draining.remove(&launch);
                    self.cut.insert(launch);
                    self.tell(Event::Drained { launch });
                }
            }
            Move::Trouble(model, how) => self.tell(Event::Trouble {
                model: MODELS[model].to_owned(),
                pid: 7,
                trouble: Trouble::of(match how % 2 {
                    0 => TroubleKind::Silent,
                    _ => TroubleKind::Errors,
                }),
                spell: u64::from(how % 3),
            }),
            Move::Reload(present, changed) => {
                let waiter = self.waiter(false);
                let named = |i: &usize| present[*i];
                let models = (0..4).filter(named).map(|i| spec(MODELS[i])).collect();
                let changed = HashSet::from([MODELS[usize::from(changed) % 4].to_owned()]);
                self.tell(Event::Reconcile {
                    waiter,
                    models,
                    changed,
                    start: true,
                });
            }
            Move::Measure(gibibytes) => {
                let available = u64::from(gibibytes) * GIBIBYTE;
                self.returning.retain(|(target, _)| available < *target);
                self.available = Some(available);
                self.tell(Event::Measured {
                    system: SystemMemory {
                        available: Some(available),
                        ..SystemMemory::default()
                    },
                    peaks: MODELS.map(|name| (name.into(), PEAK)).into(),
                });
                self.available = None;
            }
            Move::Tick => self.tell(Event::Tick),
            Move::Judged => self.judged(),
        }
    }

    fn judged(&mut self) {
        if let Some((id, verdict)) = self.dice.thinks.take() {
            self.tell(Event::Judged { id, verdict });
        }
    }

    /// Its process has ended; what it held is on its way back.
    fn freed(&mut self, how: u8) {
        let held = u64::from(how % 3) * 10 * GIBIBYTE;
        if held > 0 {
            // The event itself takes a second.
            let deadline = self.seconds + 1 + settle::LIMIT.as_secs();
            self.returning.push((held / 10 * 9, deadline));
        }
        self.tell(Event::Freed { held, available: 0 });
    }

    /// A load may begin: all memory is back or overdue, or there is room for what it ever took.
    fn check_settled(&self) {
        let waits = self.returning.iter().any(|(_, end)| self.seconds < *end);
        let fits = self.available.is_some_and(|available| available >= PEAK);
        assert!(!waits || fits, "it loads while memory is coming back");
    }

    fn request(&mut self, model: &str) {
        if let Some(launch) = self.open.get(model) {
            return self.leases.push(*launch);
        }
        let seen = self
            .machine
            .entries()
            .find(|entry| entry.spec.name == model)
            .map_or(0, |entry| entry.stops);
        let waiter = self.waiter(true);
        self.tell(Event::Acquire {
            model: model.to_owned(),
            waiter,
            seen,
            client: (waiter.id % 3).to_string().into(),
            parked: Duration::ZERO,
        });
    }

    /// A next step that a real worker could take.
    fn step(&mut self, launch: Launch, how: u8) {
        let worker = self.workers[&launch].clone();
        // The order to end may cross the last report of a launch that has no process.
        let crosses = worker.phase == WorkerPhase::Begun(Goal::Standby) && how.is_multiple_of(3);
        if worker.ending && how % 7 == 3 {
            self.freed(how);
            return self.tell(Event::Released { launch });
        }
        if (worker.ending && !crosses) || how.is_multiple_of(8) {
            self.workers.remove(&launch);
            self.draining.remove(&launch);
            self.leases.retain(|lease| *lease != launch);
            self.freed(how);
            return self.tell(Event::Gone {
                launch,
                exit_code: Some(1),
                reason: "gone".into(),
            });
        }
        let (phase, event) = match worker.phase {
            WorkerPhase::Begun(Goal::Standby) if crosses => {
                self.workers.remove(&launch);
                return self.tell(Event::Standby {
                    launch,
                    process: false,
                });
            }
            WorkerPhase::Begun(goal) => (
                WorkerPhase::Spawned(goal),
                Event::Spawned { launch, pid: 7 },
            ),
            WorkerPhase::Spawned(Goal::Standby) => (
                WorkerPhase::Standby,
                Event::Standby {
                    launch,
                    process: true,
                },
            ),
            WorkerPhase::Loading | WorkerPhase::Spawned(Goal::Loaded) if how.is_multiple_of(5) => (
                WorkerPhase::Standby,
                Event::LoadRefused {
                    launch,
                    reason: "no".into(),
                },
            ),
            WorkerPhase::Loading | WorkerPhase::Spawned(Goal::Loaded) => {
                (WorkerPhase::Loaded, Event::Loaded { launch })
            }
            WorkerPhase::Standby | WorkerPhase::Loaded => return,
        };
        if let Some(worker) = self.workers.get_mut(&launch) {
            worker.phase = phase;
        }
        self.tell(event);
    }

    fn drained_if_empty(&mut self, launch: Launch) {
        if !self.leases.contains(&launch) && self.draining.remove(&launch) {
            self.tell(Event::Drained { launch });
        }
    }

    fn tell(&mut self, event: Event) {
        self.seconds += 1;
        let now = Now {
            at: Duration::from_secs(self.seconds),
            unix: self.seconds as f64,
        };
        let effects = self.machine.handle(event, now, &mut self.dice);
        let mut drains = Vec::new();
        for effect in effects {
            self.obey(effect, &mut drains);
        }
        // A gate without leases drains at once, but after the effects, as in life.
        for launch in drains {
            self.drained_if_empty(launch);
        }
        self.check_nobody_waits_for_what_is_down();
        if let Some(cap) = self.dice.cap {
            assert!(
                holding(&self.machine) <= cap,
                "more than the policies allowed"
            );
        }
    }

    /// Nothing more happens to a model that is down, unless the policies are asked about its load: whoever waited
    /// for it there would wait for ever.
    fn check_nobody_waits_for_what_is_down(&self) {
        for (i, entry) in self.machine.entries.iter().enumerate() {
            if self.machine.is_load_asked(i) {
                continue;
            }
            let lists = [&entry.load, &entry.start, &entry.unload, &entry.stop];
            let waits = entry.waiting() > 0 || lists.iter().any(|list| !list.is_empty());
            let is_down = matches!(entry.phase, Phase::Down(_));
            assert!(!(is_down && waits), "somebody waits for {entry:?}");
        }
    }

    fn obey(&mut self, effect: Effect, drains: &mut Vec<Launch>) {
        assert!(!self.finished, "after the end nothing happens: {effect:?}");
        match effect {
            Effect::Launch {
                model,
                launch,
                goal,
            } => {
                let doubled = self.workers.values().any(|worker| worker.model == model);
                assert!(!doubled, "a second process for {model}");
                if goal == Goal::Loaded {
                    self.check_settled();
                }
                let worker = Worker {
                    model,
                    phase: WorkerPhase::Begun(goal),
                    ending: false,
                };
                assert!(
                    self.workers.insert(launch, worker).is_none(),
                    "launch {launch} twice"
                );
            }
            Effect::Load { launch } => {
                self.check_settled();
                self.workers.get_mut(&launch).unwrap().phase = WorkerPhase::Loading
            }
            Effect::OpenGate { model, launch } => {
                assert_eq!(self.workers[&launch].phase, WorkerPhase::Loaded);
                self.open.insert(model, launch);
            }
            Effect::CloseGate { model } => {
                self.open.remove(&model);
            }
            Effect::Drain { launch, .. } => {
                self.draining.insert(launch);
                drains.push(launch);
            }
            Effect::End { launch } => {
                let out = self.leases.contains(&launch);
                assert!(
                    !out || self.cut.contains(&launch),
                    "signalled with a lease out"
                );
                self.workers.get_mut(&launch).unwrap().ending = true;
            }
            Effect::Recycle { launch, .. } => {
                // What is in flight hangs, and is cut.
                self.cut.insert(launch);
                let worker = self.workers.get_mut(&launch).unwrap();
                assert_eq!(worker.phase, WorkerPhase::Loaded);
                worker.ending = true;
            }
            Effect::Answer { waiter, answer } => {
                assert!(self.waiting.remove(&waiter), "{waiter:?} is answered twice");
                if answer == Answer::Granted {
                    assert!(waiter.is_request);
                    let launch = *self.open.values().max().unwrap();
                    self.leases.push(launch);
                }
            }
            Effect::Wake { .. } | Effect::Measure => {}
            Effect::Finished => {
                assert!(self.workers.is_empty(), "still running: {:?}", self.workers);
                self.finished = true;
            }
        }
    }

    /// Users, workers and clock do as they are asked, and ask for no more.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.leases.clear();
            for launch in self.draining.clone() {
                self.drained_if_empty(launch);
            }
            for launch in self.workers.keys().copied().collect::<Vec<_>>() {
                self.step(launch, 1);
            }
            if !self.finished {
                self.judged();
            }
            if !self.finished {
                self.tell(Event::Tick);
            }
        }
    }
}

fn spec(name: &str) -> Spec {
    Spec {
        name: name.into(),
        jit: name >= "j",
        default: name == "a",
        queue: QueueLimits {
            size: 4,
            timeout: Duration::from_secs(10),
        },
    }
}

fn pick<T: Copy>(from: &[T], which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from[which % from.len()])
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases.max(600),
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config())]

    /// At most one process per model, no signal while a lease is out before the drain limit, nobody
    /// answered twice: asserted by the driver at every step.
    #[test]
    fn everybody_is_answered_and_no_model_is_stuck(
        moves in proptest::collection::vec(moves(), 1..120),
        rolls in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut driver = Driver::new(rolls);
        for a_move in moves {
            driver.make(a_move);
        }
        driver.settle();
        prop_assert!(driver.waiting.is_empty(), "never answered: {:?}", driver.waiting);
        for entry in driver.machine.entries() {
            let (process, memory) = (entry.process_state(), entry.memory_state());
            let at_rest = !matches!(process, ProcessState::Starting | ProcessState::Stopping)
                && !matches!(memory, MemoryState::Loading | MemoryState::Unloading);
            // A policy that evicts at every load, and idle models that go and come, never rest.
            prop_assert!(at_rest, "{} is stuck: {process:?} {memory:?}", entry.spec.name);
        }
    }

    #[test]
    fn after_a_shutdown_nothing_runs(
        moves in proptest::collection::vec(moves(), 1..80),
        later in proptest::collection::vec(moves(), 0..20),
        rolls in proptest::collection::vec(any::<u8>(), 1..40),
        at_once: bool,
    ) {
        let mut driver = Driver::new(rolls);
        for a_move in moves {
            driver.make(a_move);
        }
        if at_once {
            // What is in flight is cut.
            driver.cut.extend(driver.workers.keys());
            driver.draining.clear();
        }
        driver.tell(Event::Shutdown { now: at_once });
        for a_move in later {
            if driver.finished || matches!(a_move, Move::Reload(..)) {
                break;
            }
            driver.make(a_move);
        }
        driver.settle();
        prop_assert!(driver.finished);
        prop_assert!(driver.workers.is_empty());
        prop_assert!(driver.waiting.is_empty(), "never answered: {:?}", driver.waiting);
    }

    /// The policies allow a load while fewer than two models hold memory, and think for long: never do more.
    #[test]
    fn no_two_loads_are_allowed_the_same_memory(
        moves in proptest::collection::vec(moves(), 1..120),
        rolls in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let mut driver = Driver::new(rolls);
        driver.dice.cap = Some(2);
        for a_move in moves {
            driver.make(a_move);
        }
        driver.settle();
        prop_assert!(driver.waiting.is_empty(), "never answered: {:?}", driver.waiting);
    }
}
