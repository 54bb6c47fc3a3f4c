//! Workers of a simulated hub that hang, or answer with errors. Its [`WorkerWatch`] is the real hub's; a test says what
//! is measured.

use std::time::Duration;

use super::hands::Hands;
use super::world::Model;
use super::{Event, Finish, Number, Simulation};
use crate::api::MemoryState;
use crate::core::silence::{Doings, POLL_EVERY};
use crate::core::watchdog::{ErrorRow, Sample, Vitals, WorkerWatch};
use crate::policy::{Trouble, TroubleKind, World as _, prompt_chars};

/// The health of a worker, as its answers show it.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Counts bytes.
    signs: u64,
    errors: ErrorRow,
    watch: WorkerWatch<Pretence>,
}

/// The activity of a worker, as a test wants it measured.
#[derive(Debug)]
struct Pretence {
    cpu: f64,
    moved: bool,
}

impl Sample for Pretence {
    fn doings_since(&self, _: &Self, elapsed: Duration) -> Doings {
        Doings {
            cpu: Some(elapsed.mul_f64(self.cpu)),
            moved: self.moved,
        }
    }
}

impl Health {
    /// A byte came.
    pub(super) fn be_heard(&mut self) {
        self.signs += 1;
    }

    /// Another worker takes over.
    pub(super) fn begin(&mut self) {
        self.be_heard();
        self.errors.end();
    }

    fn answered(&mut self, status: u16, now: Duration) {
        self.be_heard();
        self.errors.answered(status, now);
    }
}

impl Hands {
    /// A worker has answered a request.
    pub(super) fn note_answer(&mut self, number: Number, finish: &Finish) {
        let asked = &self.asked[number];
        let request = asked.request.as_ref();
        let is_work = request.is_some_and(|request| !request.method.is_safe());
        if let Some(model) = asked.model.as_deref().filter(|_| is_work) {
            let now = self.world.now();
            let status = finish.status.unwrap_or(200);
            self.world
                .at(model, |model| model.health.answered(status, now));
        }
    }
}

impl Simulation {
    /// Looks at every loaded worker when it is time to.
    pub(super) fn look_for_trouble(&mut self) {
        let now = self.world().now();
        if !now.as_secs().is_multiple_of(POLL_EVERY.as_secs()) {
            return;
        }
        let limit = self.world().config().stall_timeout;
        for name in self.world().model_names() {
            let prompt_chars = self.longest_prompt(&name);
            let looked = self
                .world()
                .at(&name, |model| look(model, prompt_chars, now, limit));
            let Some((pid, troubles)) = looked.flatten() else {
                continue;
            };
            for (trouble, spell) in troubles {
                let model = name.clone();
                self.handle(Event::Trouble {
                    model,
                    pid,
                    trouble,
                    spell,
                });
            }
        }
    }

    /// Characters of the longest prompt that the worker has before it.
    fn longest_prompt(&self, model: &str) -> Option<usize> {
        let running = self.hands.running.iter();
        let running = running.filter(|(_, lease)| lease.model() == model);
        let bodies = running.map(|(number, _)| self.asked(*number).body.clone());
        bodies.map(|body| prompt_chars(&body.into())).max()
    }
}

fn look(
    model: &mut Model,
    prompt_chars: Option<usize>,
    now: Duration,
    stall_timeout: Duration,
) -> Option<(u32, impl Iterator<Item = (Trouble, u64)> + use<>)> {
    let is_loaded = model.facts.memory_state == MemoryState::Loaded;
    let pid = model.facts.pid.filter(|_| is_loaded)?;
    let (health, worker) = (&mut model.health, &model.worker);
    let vitals = Vitals {
        waiting: if worker.silent { model.active } else { 0 },
        signs: health.signs,
    };
    health.watch.listen(pid, vitals, POLL_EVERY);
    if health.watch.is_awaited() {
        let (cpu, moved) = (worker.cpu, worker.moves);
        health.watch.look(now, POLL_EVERY, Pretence { cpu, moved });
    }
    let basis = Trouble {
        prompt_chars,
        requests: model.active,
        expected_seconds: worker.expected.map(|expected| expected.as_secs_f64()),
        ..Trouble::of(TroubleKind::Silent)
    };
    let errors = health.errors.at(now);
    Some((pid, health.watch.troubles(basis, errors, stall_timeout)))
}
