//! Workers of a simulated hub that hang, or answer with errors. What is told of them is the real hub's; a test says
//! what is measured.

use std::mem::take;
use std::time::Duration;

use super::request::State;
use super::{Event, Simulation};
use crate::api::MemoryState;
use crate::core::silence::{Doings, POLL_EVERY};
use crate::core::watchdog::Sample;
use crate::policy::{Trouble, TroubleKind, prompt_chars};

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
        let now = self.world().now();
        if !now.as_secs().is_multiple_of(POLL_EVERY.as_secs()) {
            return;
        }
        let table = self.world().table();
        for model in &table.models {
            let mut watch = take(&mut model.pretended.lock().watch);
            let facts = model.facts.load();
            let is_loaded = facts.memory_state == MemoryState::Loaded;
            let Some(pid) = facts.pid.filter(|_| is_loaded) else {
                continue;
            };
            watch.listen(pid, model.gate.signs.vitals(), POLL_EVERY);
            let worker = model.pretended.lock().worker.clone();
            if watch.is_awaited() {
                let (cpu, moved) = (worker.cpu, worker.moves);
                watch.look(now, POLL_EVERY, Pretence { cpu, moved });
            }
            let (errors, limit) = (model.gate.errors(), table.config.stall_timeout);
            let may_be_told = watch.is_awaited() || errors.is_some();
            let basis = Trouble {
                prompt_chars: may_be_told
                    .then(|| self.longest_prompt(&model.name))
                    .flatten(),
                requests: model.gate.active(),
                expected_seconds: worker.expected.map(|expected| expected.as_secs_f64()),
                ..Trouble::of(TroubleKind::Silent)
            };
            let troubles = watch.troubles(basis, errors, limit);
            model.pretended.lock().watch = watch;
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
        let asked = self.hands.asked.iter();
        let running = asked.filter(
            |asked| matches!(&asked.state, State::Running(running, _) if *running.name == *model),
        );
        let chars = running.map(|asked| prompt_chars(&asked.body().into()));
        chars.max()
    }
}
