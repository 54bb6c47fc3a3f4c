//! The pure heart of the lifecycle: `(state, event, now) → effects`.
//!
//! No tokio, no clock, no I/O. The supervisor feeds it one ordered stream of events and carries out
//! the effects it returns, in order. Policies are asked through [`Decide`], which answers while an event is
//! handled or later; see [`judgement`].
//!
//! Every launch of a worker has a number; what is reported of an earlier one is ignored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::api::{ApiError, MemoryState, Outcome, ProcessState, ReloadReport, SystemMemory, Verb};
use crate::config::{Config, ModelConfig};
use crate::core::interface::questions::{
    Exit, ExitVerdict, IdleVerdict, LoadReason, LoadVerdict, ModelQuestion, ModelVerdict,
    PendingLoad, Trouble,
};
use crate::core::queue::QueueLimits;

mod entry;
mod judgement;
mod load;
mod park;
mod past;
mod reconcile;
mod settle;
mod trouble;
mod verbs;

pub(crate) use entry::Entry;
use entry::{Ended, Next, Phase};

pub(crate) use judgement::QuestionId;
use judgement::{About, Questions};
pub(crate) use load::victims;
use park::Asking;
pub(crate) use past::Past;

/// The number of one launch of a worker; never used twice.
pub(crate) type Launch = u64;

/// A waiter for an answer. Answered exactly once, unless it is [abandoned](Event::Abandon).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Waiter {
    /// Unique.
    pub(crate) id: u64,
    /// True if it is a request to `/v1`, to be answered with a lease.
    pub(crate) is_request: bool,
}

/// The moment an event is handled at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Now {
    /// Since the supervisor started; never steps.
    pub(crate) at: Duration,
    /// Unix seconds, for people.
    pub(crate) unix: f64,
}

/// The goal of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Started but not in memory: a resident process if the worker can stay up unloaded, else none.
    Standby,
    /// In memory.
    Loaded,
}

/// The part of a model's configuration that the machine reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) jit: bool,
    pub(crate) default: bool,
    pub(crate) queue: QueueLimits,
}

impl From<&ModelConfig> for Spec {
    fn from(model: &ModelConfig) -> Self {
        Self {
            name: model.name.clone(),
            jit: model.jit_enabled,
            default: model.default,
            queue: QueueLimits::of(model),
        }
    }
}

/// The models of a configuration.
pub(crate) fn specs(config: &Config) -> Vec<Spec> {
    config.models.iter().map(Spec::from).collect()
}

/// Something that happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A request wants the model, at a moment when it had been stopped `seen` times.
    Acquire {
        model: String,
        waiter: Waiter,
        seen: u64,
        /// Under which key it takes turns.
        client: Arc<str>,
        /// Its time in the queue before.
        parked: Duration,
    },
    /// A waiter has gone away.
    Abandon { waiter: Waiter },
    /// A verb for the model.
    Verb {
        verb: Verb,
        model: String,
        waiter: Waiter,
    },
    /// The launch has a process.
    Spawned { launch: Launch, pid: u32 },
    /// The launch has reached [`Goal::Standby`], with a process or without.
    Standby { launch: Launch, process: bool },
    /// The model is in memory and serves.
    Loaded { launch: Launch },
    /// The load failed; the process stays up, unloaded.
    LoadRefused { launch: Launch, reason: String },
    /// The launch is being ended, and its processes hold little memory any more.
    Released { launch: Launch },
    /// A process group is about to be reported gone or released. When it was last measured it held so many bytes,
    /// and so many were available.
    Freed { held: u64, available: u64 },
    /// Memory was measured; and the most each model ever held, in bytes.
    Measured {
        system: SystemMemory,
        peaks: HashMap<String, u64>,
    },
    /// The process and all of its group are gone, asked or not.
    Gone {
        launch: Launch,
        exit_code: Option<i32>,
        reason: String,
    },
    /// The worker of that model and process runs and does not serve. `spell` tells this trouble from others
    /// of its kind: after a sign of health it is another one.
    Trouble {
        model: String,
        pid: u32,
        trouble: Trouble,
        spell: u64,
    },
    /// The verdict on the question of that number.
    Judged {
        id: QuestionId,
        verdict: ModelVerdict,
    },
    /// No lease is out any more, or the drain limit has passed.
    Drained { launch: Launch },
    /// hub.yaml was read again.
    Reconcile {
        waiter: Waiter,
        models: Vec<Spec>,
        changed: HashSet<String>,
        start: bool,
    },
    /// An earlier hub left a worker of this model, with `load` in memory or on the way there. It
    /// `fits` when hub.yaml would still start it so.
    Adopt {
        model: String,
        load: bool,
        fits: bool,
    },
    /// Under an earlier hub this model was started, without a process.
    Resume { model: String },
    /// A model's past under the hub before, and whether that has left a worker of it.
    Inherit { past: Box<Past>, has_worker: bool },
    /// Everything is adopted: what was about to be unloaded or stopped is, now as then.
    GoOn { past: Vec<Past> },
    /// Start what hub.yaml marks `default`, as far as these models are not left out.
    StartDefaults { except: HashSet<String> },
    /// Stop everything; with `now`, without waiting for requests in flight.
    Shutdown { now: bool },
    /// A model has no request in flight any more, or other policies are in force: parked loads are
    /// asked about again.
    Idle,
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Start a worker for the model.
    Launch {
        model: String,
        launch: Launch,
        goal: Goal,
    },
    /// Load the resident worker.
    Load { launch: Launch },
    /// Let requests in.
    OpenGate { model: String, launch: Launch },
    /// Let no more in.
    CloseGate { model: String },
    /// Report [`Event::Drained`] when no lease is out, or at the drain limit.
    Drain { model: String, launch: Launch },
    /// End the process group.
    End { launch: Launch },
    /// End the process group of a worker that hangs, for that reason.
    Recycle { launch: Launch, reason: String },
    /// Tell a waiter.
    Answer { waiter: Waiter, answer: Answer },
    /// Report [`Event::Measured`] soon.
    Measure,
    /// Report [`Event::Tick`] after so long.
    Wake { after: Duration },
    /// Nothing runs any more, and nothing will.
    Finished,
}

/// The answer to a waiter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// The model is loaded: a request may have its lease.
    Granted,
    /// A verb reached its final state.
    Verb(Outcome),
    /// A reload did this.
    Reloaded(ReloadReport),
    /// It did not work.
    Refused(ApiError),
}

/// The policies, as the machine asks them. An implementation may look at the machine to publish its
/// state before it asks.
pub(crate) trait Decide {
    /// The verdict; none if it comes later, as [`Event::Judged`] with that id.
    fn ask(
        &mut self,
        machine: &Machine,
        id: QuestionId,
        model: &str,
        question: &ModelQuestion,
    ) -> Option<ModelVerdict>;

    /// The verdict that is carried out now: this one, unless it was overtaken. An [`IdleVerdict`] other than
    /// [`IdleVerdict::Keep`] means that the model is idle and its gate already closed, a restart that the worker
    /// is still in that trouble.
    fn confirm(
        &mut self,
        model: &str,
        question: &ModelQuestion,
        verdict: ModelVerdict,
    ) -> ModelVerdict;

    /// The verdict counts for nothing: the model is not any more what it was about.
    fn discard(&mut self, model: &str, question: &ModelQuestion);
}

/// The state of all models.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// In hub.yaml's order; removed ones that have not ended yet come last.
    entries: Vec<Entry>,
    launches: Launch,
    /// Memory of ended processes that is not known to be back.
    returning: Vec<settle::Returning>,
    /// As parked loads were last asked about for its sake.
    memory: SystemMemory,
    /// Counts places in the queue of parked loads.
    parked: u64,
    shutting_down: bool,
    finished: bool,
    /// Reloads that wait for models to end.
    reloads: Vec<reconcile::Reload>,
    questions: Questions,
    effects: Vec<Effect>,
}

impl Machine {
    pub(crate) fn new(models: Vec<Spec>) -> Self {
        Self {
            entries: models.into_iter().map(Entry::new).collect(),
            ..Self::default()
        }
    }

    /// The models, without those that hub.yaml no longer names.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.removed)
    }

    /// True if a model that hub.yaml no longer names is still ending.
    pub(crate) fn is_ending(&self, model: &str) -> bool {
        let of_name = |entry: &Entry| entry.removed && entry.spec.name == model;
        self.entries.iter().any(of_name)
    }

    /// Takes one event and says what to do.
    pub(crate) fn handle(
        &mut self,
        event: Event,
        now: Now,
        decide: &mut dyn Decide,
    ) -> Vec<Effect> {
        let Some(event) = self.hold(event) else {
            return Vec::new();
        };
        let mut before = self.memory_held();
        for held in self.let_go_before(&event) {
            self.dispatch(held, now, decide);
        }
        self.dispatch(event, now, decide);
        loop {
            // Those who waited for a model to leave memory come first, or two could wait for each other.
            self.continue_evictions(now);
            for held in self.let_go() {
                self.dispatch(held, now, decide);
            }
            if self.ask_next(now, decide) {
                continue;
            }
            let held = self.memory_held();
            if held == before {
                break;
            }
            before = held;
            self.ask_parked();
        }
        self.entries.retain(|entry| !entry.is_forgotten());
        self.answer_reloads();
        for entry in &mut self.entries {
            entry.note_times(now);
        }
        self.check_finished();
        std::mem::take(&mut self.effects)
    }

    fn dispatch(&mut self, event: Event, now: Now, decide: &mut dyn Decide) {
        match event {
            Event::Acquire {
                model,
                waiter,
                seen,
                client,
                parked,
            } => {
                let request = Asking {
                    waiter,
                    came: now.at,
                    parked,
                };
                self.acquire(&model, request, seen, &client, now);
            }
            Event::Abandon { waiter } => self.abandon(waiter),
            Event::Verb {
                verb,
                model,
                waiter,
            } => match verb {
                Verb::Start => self.start(&model, waiter, now),
                Verb::Stop => self.stop(&model, waiter),
                Verb::Load => self.load(&model, waiter, now),
                Verb::Unload => self.unload(&model, waiter),
            },
            Event::Spawned { launch, pid } => {
                if let Some(i) = self.of_launch(launch) {
                    self.entries[i].pid = Some(pid);
                }
            }
            Event::Standby { launch, process } => self.standby(launch, process, now),
            Event::Loaded { launch } => self.loaded(launch, now),
            Event::LoadRefused { launch, reason } => self.load_refused(launch, &reason),
            Event::Released { launch } => self.released(launch),
            Event::Freed { held, available } => self.freed(held, available, now),
            Event::Measured { system, peaks } => {
                self.measured(system, &peaks, now);
                if self.has_moved(system) {
                    self.ask_parked();
                }
            }
            Event::Gone {
                launch,
                exit_code,
                reason,
            } => {
                self.gone(launch, exit_code, &reason, now);
            }
            Event::Trouble {
                model,
                pid,
                trouble,
                spell,
            } => self.trouble(&model, pid, trouble, spell, now),
            Event::Judged { id, verdict } => self.judged(id, verdict, now, decide),
            Event::Drained { launch } => {
                if let Some(i) = self.of_launch(launch) {
                    self.drained(i);
                }
            }
            Event::Reconcile {
                waiter,
                models,
                changed,
                start,
            } => {
                self.reconcile(waiter, models, &changed, start, now);
                // There may be new policies.
                self.judge_anew();
                self.ask_parked();
            }
            Event::Adopt { model, load, fits } => self.adopt(&model, load, fits),
            Event::Resume { model } => self.resume(&model),
            Event::Inherit { past, has_worker } => self.inherit(*past, has_worker, now),
            Event::GoOn { past } => {
                past.iter().for_each(|past| self.go_on_leaving(past, now));
            }
            Event::StartDefaults { except } => self.start_defaults(&except, now),
            Event::Shutdown { now: at_once } => self.shutdown(at_once),
            Event::Idle => self.ask_parked(),
            Event::Tick => self.tick(now),
        }
    }

    /// The index of a model that hub.yaml names.
    fn index(&self, model: &str) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.spec.name == model && !entry.removed)
    }

    /// The index of the model this launch belongs to; none when it is of the past.
    fn of_launch(&self, launch: Launch) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.launch == launch && entry.phase.has_launch())
    }

    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        self.effects.push(Effect::Answer { waiter, answer });
    }

    fn answer_all(&mut self, waiters: Vec<Waiter>, answer: &Answer) {
        for waiter in waiters {
            self.answer(waiter, answer.clone());
        }
    }

    /// The models that hold memory: when these change, parked loads are asked about again.
    fn memory_held(&self) -> Vec<(String, MemoryState)> {
        self.entries
            .iter()
            .filter(|entry| entry.memory_state().holds_memory())
            .map(|entry| (entry.spec.name.clone(), entry.memory_state()))
            .collect()
    }

    fn check_finished(&mut self) {
        let all_down = || {
            self.entries
                .iter()
                .all(|entry| matches!(entry.phase, Phase::Down(_)))
        };
        if self.shutting_down && !self.finished && all_down() {
            self.finished = true;
            self.effects.push(Effect::Finished);
        }
    }
}

#[cfg(test)]
mod dice;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod transcripts;
