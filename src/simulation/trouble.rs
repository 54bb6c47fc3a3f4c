//! Workers of a simulated hub that hang, or answer with errors: what a real hub's watchdog would tell.

use std::time::Duration;

use super::hands::Hands;
use super::world::Model;
use super::{Event, Finish, Number, Simulation};
use crate::api::MemoryState;
use crate::core::silence::{Doings, POLL_EVERY, RECENT, Silence};
use crate::policy::{Trouble, TroubleKind, World as _, prompt_chars};

/// What the answers of a worker tell of it.
#[derive(Debug, Default)]
pub(super) struct Health {
    silence: Silence,
    /// When it was looked at last while somebody waited in silence.
    since: Option<Duration>,
    /// Counts bytes.
    signs: u64,
    errors: Vec<Duration>,
    /// Counts rows of errors.
    rows: u64,
    last_status: Option<u16>,
    /// Errors that were told.
    told: usize,
}

impl Health {
    /// A byte came.
    pub(super) fn be_heard(&mut self) {
        self.silence = Silence::default();
        self.since = None;
        self.signs += 1;
    }

    /// Another worker takes over.
    pub(super) fn begin(&mut self) {
        self.be_heard();
        self.errors.clear();
        self.told = 0;
    }

    fn answered(&mut self, status: u16, now: Duration) {
        self.be_heard();
        if status < 500 {
            self.errors.clear();
            self.told = 0;
            return;
        }
        self.rows += u64::from(self.errors.is_empty());
        self.errors.push(now);
        self.last_status = Some(status);
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
    /// Looks at every worker when it is time to.
    pub(super) fn look_for_trouble(&mut self) {
        let now = self.world().now();
        if !now.as_secs().is_multiple_of(POLL_EVERY.as_secs()) {
            return;
        }
        let limit = self.world().config().stall_timeout;
        let names = self.world().model_names();
        for name in names {
            let prompt = self.longest_prompt(&name);
            let pid = self.world().at(&name, |model| model.facts.pid).flatten();
            let Some(pid) = pid else { continue };
            let stall_timeout = Some(limit.as_secs_f64()).filter(|limit| *limit > 0.0);
            let troubles = self.world().at(&name, |model| {
                let basis = Trouble {
                    prompt_chars: prompt,
                    stall_timeout,
                    ..measured(model)
                };
                [silent(model, basis, now, limit), errors(model, basis, now)]
            });
            for (trouble, spell) in troubles.into_iter().flatten().flatten() {
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
        let running = running.filter(|(_, lease)| lease.model == model);
        let bodies = running.map(|(number, _)| self.asked(*number).body.clone());
        bodies.map(|body| prompt_chars(&body.into())).max()
    }
}

fn measured(model: &Model) -> Trouble {
    Trouble {
        requests: model.active,
        expected_seconds: model.worker.expected.map(|expected| expected.as_secs_f64()),
        ..Trouble::of(TroubleKind::Silent)
    }
}

fn silent(
    model: &mut Model,
    basis: Trouble,
    now: Duration,
    limit: Duration,
) -> Option<(Trouble, u64)> {
    let is_silent = model.facts.memory_state == MemoryState::Loaded && model.worker.silent;
    let health = &mut model.health;
    if !is_silent || model.active == 0 {
        health.since = None;
        return None;
    }
    if let Some(since) = health.since.replace(now) {
        let passed = now - since;
        let doings = Doings {
            cpu: Some(passed.mul_f64(model.worker.cpu)),
            moved: model.worker.moves,
        };
        health.silence.goes_on(passed, doings);
    }
    let trouble = Trouble {
        silent_seconds: health.silence.lasted().as_secs_f64(),
        still_seconds: health.silence.still().as_secs_f64(),
        cpu_seconds: health.silence.cpu().map(|cpu| cpu.as_secs_f64()),
        ..basis
    };
    let is_reported = health.silence.is_reported(limit);
    is_reported.then_some((trouble, health.signs))
}

fn errors(model: &mut Model, basis: Trouble, now: Duration) -> Option<(Trouble, u64)> {
    let health = &mut model.health;
    let count = health.errors.len();
    if count == 0 || count == health.told {
        return None;
    }
    health.told = count;
    let is_recent = |at: &&Duration| now - **at < RECENT;
    let trouble = Trouble {
        kind: TroubleKind::Errors,
        errors: count,
        recent_errors: health.errors.iter().filter(is_recent).count(),
        last_status: health.last_status,
        ..basis
    };
    Some((trouble, health.rows))
}
