//! Properties of every story: whatever a test lets happen, everybody is answered and counted, and it happens the same
//! way again.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::api::MemoryState;

const MODELS: [&str; 4] = ["a", "b", "c", "nosuch"];

/// Policies that queue, evict and put off.
const POLICY: &str = "return {
  on_request = function(req, hub)
    local model = hub.models[req.model]
    if model and model.active + model.waiting > 1 then return hub.wait({ seconds = 7 }) end
  end,
  on_load = function(load, hub)
    for name, model in pairs(hub.models) do
      local is_idle = model.memory_state == 'loaded' and model.active == 0
      if is_idle and name ~= load.model.name then return hub.evict({ name }) end
    end
    if load.waited_seconds < 4 then return hub.wait({ seconds = 1.5 }) end
  end,
  on_trouble = function(trouble, hub)
    if trouble.silent_seconds > 30 then return hub.restart({ seconds = 2 }) end
  end,
}";

/// One move of a test; numbers pick among what is there.
#[derive(Debug, Clone)]
enum Move {
    Request(usize, u8, Option<u8>),
    Verb(Verb, usize),
    Finish(usize, u16),
    Cancel(usize),
    Crash(usize),
    Worker(usize, u8),
    /// The models that the new hub.yaml names.
    Reload(Vec<bool>),
    Advance(u32),
    Settle,
}

fn moves() -> impl Strategy<Value = Move> {
    let ends_after = proptest::option::of(0u8..30);
    let status = prop::sample::select(&[200, 500, 503][..]);
    prop_oneof![
        6 => (0usize..4, 1u8..4, ends_after)
            .prop_map(|(model, client, after)| Move::Request(model, client, after)),
        3 => (prop::sample::select(&Verb::ALL), 0usize..4)
            .prop_map(|(verb, model)| Move::Verb(verb, model)),
        2 => (any::<usize>(), status).prop_map(|(number, status)| Move::Finish(number, status)),
        2 => any::<usize>().prop_map(Move::Cancel),
        1 => (0usize..4).prop_map(Move::Crash),
        2 => (0usize..4, any::<u8>()).prop_map(|(model, how)| Move::Worker(model, how)),
        1 => proptest::collection::vec(any::<bool>(), 3).prop_map(Move::Reload),
        5 => (0u32..100_000).prop_map(Move::Advance),
        1 => Just(Move::Settle),
    ]
}

fn config(names: &[bool]) -> String {
    let mut text = "drain_timeout: 20\nmodels:\n- {name: z, model_path: org/z}\n".to_owned();
    for (name, _) in MODELS.iter().zip(names).filter(|(_, is_named)| **is_named) {
        let keys = "jit_enabled: true, queue_size: 3, queue_timeout: 60";
        writeln!(text, "- {{name: {name}, model_path: org/{name}, {keys}}}").unwrap();
    }
    text
}

/// What the moves make of a hub, look by look.
fn told(moves: &[Move]) -> Vec<String> {
    let (mut hub, folder) = hub_of(&config(&[true; 3]), POLICY);
    hub.start_defaults();
    let mut looks = Vec::new();
    for a_move in moves {
        hub.make(a_move, folder.path());
        looks.push(hub.look());
    }
    hub.end();
    looks.push(hub.look());
    looks
}

impl Simulation {
    fn make(&mut self, a_move: &Move, folder: &std::path::Path) {
        let number = |number: usize| number % self.hands.asked.len().max(1);
        match *a_move {
            Move::Request(model, client, after) => {
                let mut view = chat(MODELS[model]);
                view.client = ([10, 0, 0, client], 1).into();
                let after = after.map(|seconds| Duration::from_secs(seconds.into()));
                self.request(view, after);
            }
            Move::Verb(verb, model) => {
                self.verb(verb, MODELS[model]);
            }
            Move::Finish(..) | Move::Cancel(_) if self.hands.asked.is_empty() => {}
            Move::Finish(which, status) => {
                let status = Some(status);
                let finish = FinishedRequest {
                    status,
                    ..FinishedRequest::default()
                };
                self.finish(number(which), finish);
            }
            Move::Cancel(which) => {
                self.cancel(number(which));
            }
            Move::Crash(model) => {
                self.crash(MODELS[model], Some(-9), "killed");
            }
            Move::Worker(model, how) => {
                if self.world().at(MODELS[model], |_| ()).is_some() {
                    self.set_worker(MODELS[model], |worker| {
                        worker.silent = how & 1 != 0;
                        worker.fails = (how & 6 == 0).then(|| "broken".to_owned());
                        worker.resident = how & 8 != 0;
                        worker.load = Duration::from_secs((how >> 4).into());
                        worker.free = Duration::from_secs((how & 3).into());
                        worker.memory_bytes = Some(u64::from(how) << 28);
                    });
                }
            }
            Move::Reload(ref names) => {
                self.reload(from_yaml(&config(names)), |policies| {
                    policies.reload(folder, &[]);
                });
            }
            Move::Advance(ms) => self.advance(Duration::from_millis(ms.into())),
            Move::Settle => {
                self.settle();
            }
        }
    }

    /// Workers are well again, and answer what they have.
    fn end(&mut self) {
        for name in MODELS {
            if self.world().at(name, |_| ()).is_some() {
                self.set_worker(name, |worker| *worker = SimulatedWorker::default());
            }
        }
        for _ in 0..20 {
            for number in 0..self.hands.asked.len() {
                self.finish(number, FinishedRequest::default());
            }
            self.seconds(30);
        }
        for asked in &self.hands.asked {
            assert!(asked.ended.is_some(), "never answered: {asked:?}");
        }
    }

    /// The hub in a few words. Each request is counted where it is, and nowhere else.
    fn look(&self) -> String {
        let mut look = format!("{:?}", self.world().now());
        for model in self.world().table().all() {
            let of = |asked: &&Asked| asked.model.as_deref() == Some(&*model.name);
            let (mut running, mut arriving, mut parked) = (0, 0, 0);
            for asked in self.hands.asked.iter().filter(of) {
                match asked.state {
                    State::Running(..) => running += 1,
                    State::Arriving(_) => arriving += 1,
                    State::Parked(_) => parked += 1,
                    _ => {}
                }
            }
            let counted = model.counters();
            assert_eq!(counted.active_requests, running, "{look}");
            assert_eq!(counted.waiting_requests, arriving, "{look}");
            assert_eq!(counted.parked_requests, parked, "{look}");
            let facts = model.facts.load();
            let has_process = model.pretended.lock().process.is_some();
            assert!(has_process || running == 0, "nobody answers: {look}");
            if facts.memory_state == MemoryState::Loaded {
                assert!(has_process, "loaded nowhere: {look}");
            }
            write!(
                look,
                " | {} {} {running} {arriving} {parked}",
                facts.name,
                facts.memory_state.as_str()
            )
            .unwrap();
        }
        for asked in &self.hands.asked {
            write!(look, " {}", word(&asked.state)).unwrap();
        }
        look
    }
}

/// `PROPTEST_CASES` asks for more. A case takes longer than others.
fn cases() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: default.cases / 4,
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn everybody_is_answered_and_counted_and_a_story_ends_the_same_again(
        moves in proptest::collection::vec(moves(), 1..60),
    ) {
        prop_assert_eq!(told(&moves), told(&moves));
    }
}
