//! Workers of a simulated hub that hang, or answer with errors. What is told of them is the real hub's; a test says
//! what is measured.

use std::time::Duration;

use super::world::{SimulatedModel, SimulatedWorld};
use super::{Event, Simulation};
use crate::api::MemoryState;
use crate::core::silence::{Doings, POLL_EVERY};
use crate::core::watchdog::{Sample, WorkerWatch};
use crate::policy::{Trouble, TroubleKind, prompt_chars};

/// The looks at one worker.
pub(super) type Watch = WorkerWatch<Pretence>;

/// The activity of a worker, as a test wants it measured.
#[derive(Debug)]
pub(super) struct Pretence {
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

impl Simulation {
    /// Looks at every loaded worker when it is time to.
    pub(super) fn look_for_trouble(&mut self) {
        if !(self.world().now().as_secs()).is_multiple_of(POLL_EVERY.as_secs()) {
            return;
        }
        for model in &self.world().table().models {
            let prompt_chars = self.longest_prompt(&model.name);
            let Some((pid, troubles)) = look(self.world(), model, prompt_chars) else {
                continue;
            };
            for (trouble, spell) in troubles {
                let model = model.name.to_string();
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
        let running = running.filter(|(_, running)| *running.model.name == *model);
        let bodies = running.map(|(number, _)| self.asked(*number).body.clone());
        bodies.map(|body| prompt_chars(&body.into())).max()
    }
}

fn look(
    world: &SimulatedWorld,
    model: &SimulatedModel,
    prompt_chars: Option<usize>,
) -> Option<(u32, impl Iterator<Item = (Trouble, u64)> + use<>)> {
    let (facts, now) = (model.facts.load(), world.now());
    let limit = world.table().config.stall_timeout;
    let pid = (facts.pid).filter(|_| facts.memory_state == MemoryState::Loaded);
    let troubles = world.at(&model.name, |pretended| {
        let (watch, worker) = (&mut pretended.watch, &pretended.worker);
        let Some(pid) = pid else {
            *watch = Watch::default();
            return None;
        };
        watch.listen(pid, model.gate.signs.vitals(), POLL_EVERY);
        if watch.is_awaited() {
            let (cpu, moved) = (worker.cpu, worker.moves);
            watch.look(now, POLL_EVERY, Pretence { cpu, moved });
        }
        let basis = Trouble {
            prompt_chars,
            requests: model.gate.active(),
            expected_seconds: worker.expected.map(|expected| expected.as_secs_f64()),
            ..Trouble::of(TroubleKind::Silent)
        };
        Some((pid, watch.troubles(basis, model.gate.errors(), limit)))
    });
    troubles.flatten()
}
