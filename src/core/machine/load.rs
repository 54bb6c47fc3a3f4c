//! Into memory and out of it: asking the policy, launching, draining, ending.

use std::time::Duration;

use http::StatusCode;

use super::trouble::Troubles;
use super::{
    About, Answer, ApiError, Effect, Entry, Exit, ExitVerdict, Goal, IdleVerdict, Launch,
    LoadVerdict, Machine, Next, Now, Outcome, Phase,
};

impl Machine {
    /// A request or a command wants the model in memory that is now on standby (or down, and being started).
    pub(super) fn want_load(&mut self, i: usize, now: Now) {
        if !self.is_load_asked(i) {
            self.entries[i].asked_at = now.at;
        }
        self.put_question(i, About::Load);
    }

    /// Does what `on_load` says.
    pub(super) fn decide_load(&mut self, i: usize, verdict: LoadVerdict, now: Now) {
        let process = self.entries[i].has_resident();
        match verdict {
            LoadVerdict::Allow => self.begin_load(i, now),
            LoadVerdict::Evict(names) => {
                let victims = self.victims(i, &names);
                // The memory is reserved before the first victim goes, so that no other load takes it.
                self.entries[i].phase = Phase::Evicting {
                    process,
                    left: victims.clone(),
                };
                for victim in victims {
                    if let Some(j) = self.index(&victim) {
                        self.begin_unload(j);
                    }
                }
            }
            LoadVerdict::Wait(seconds) => self.park(i, seconds, now),
            LoadVerdict::Reject(error) => self.refuse_load(i, error),
        }
    }

    /// Those of `names` that hold memory, without the model itself.
    fn victims(&self, i: usize, names: &[String]) -> Vec<String> {
        let holds = |name: &str| {
            let entry = self.index(name).map(|j| &self.entries[j]);
            entry.is_some_and(|entry| entry.memory_state().holds_memory())
        };
        victims(&self.entries[i].spec.name, names, holds)
    }

    /// The policy allowed it.
    fn begin_load(&mut self, i: usize, now: Now) {
        self.entries[i].error = None;
        if !self.must_settle(i, now) {
            self.take_memory(i, now);
        }
    }

    /// The load itself.
    pub(super) fn take_memory(&mut self, i: usize, now: Now) {
        let entry = &mut self.entries[i];
        entry.load_began = Some(now.at);
        if entry.has_resident() {
            entry.phase = Phase::Loading;
            let launch = entry.launch;
            self.effects.push(Effect::Load { launch });
        } else {
            self.launch(i, Goal::Loaded);
        }
    }

    pub(super) fn launch(&mut self, i: usize, goal: Goal) {
        self.launches += 1;
        let launch = self.launches;
        let entry = &mut self.entries[i];
        entry.launch = launch;
        entry.pid = None;
        entry.ready_since = None;
        entry.error = None;
        entry.phase = Phase::Launching(goal);
        let model = entry.spec.name.clone();
        self.effects.push(Effect::Launch {
            model,
            launch,
            goal,
        });
    }

    /// The policy said no: the model is again what it was.
    pub(super) fn refuse_load(&mut self, i: usize, error: ApiError) {
        let entry = &mut self.entries[i];
        let process = entry.has_resident();
        entry.phase = if entry.up {
            Phase::Standby { process }
        } else {
            // Perhaps no request waits: a default model shows in the status why it is not started.
            entry.error = Some(error.message.clone());
            Phase::Down(entry.before_start)
        };
        entry.unload_when_loaded = false;
        let waiters = waiters_for_running(entry);
        self.answer_all(waiters, &Answer::Refused(error));
    }

    /// The launch is up without the weights.
    pub(super) fn standby(&mut self, launch: Launch, process: bool, now: Now) {
        let Some(i) = self.of_launch(launch) else {
            return;
        };
        match self.entries[i].phase {
            // A worker that was adopted may turn out to be less loaded than it was thought to be.
            Phase::Launching(_) => {}
            // Told to end just after it had ended by itself: nothing more will be heard of it.
            Phase::Ending { next, .. } if !process => return self.ended(i, next, now),
            _ => return,
        }
        let entry = &mut self.entries[i];
        entry.phase = Phase::Standby { process };
        entry.up = true;
        entry.ready_since = process.then_some(now.at);
        let mut waiters = std::mem::take(&mut entry.start);
        waiters.append(&mut entry.unload);
        let wanted = entry.is_wanted();
        self.answer_all(waiters, &Answer::Verb(Outcome::Done));
        if wanted {
            self.want_load(i, now);
        }
    }

    pub(super) fn loaded(&mut self, launch: Launch, now: Now) {
        let Some(i) = self.of_launch(launch) else {
            return;
        };
        let entry = &mut self.entries[i];
        if !matches!(entry.phase, Phase::Loading | Phase::Launching(_)) {
            return;
        }
        entry.phase = Phase::Loaded;
        entry.up = true;
        entry.ready_since.get_or_insert(now.at);
        entry.error = None;
        if entry.earlier.is_none() {
            entry.keep_until = now.at;
        }
        entry.troubles = Troubles::default();
        let unload = std::mem::take(&mut entry.unload_when_loaded);
        let model = entry.spec.name.clone();
        let started = std::mem::take(&mut entry.start);
        let loaded = std::mem::take(&mut entry.load);
        let requests = std::mem::take(&mut entry.requests);
        self.effects.push(Effect::OpenGate { model, launch });
        for request in requests.in_turn() {
            self.answer(request.waiter, Answer::Granted);
        }
        self.answer_all(loaded, &Answer::Verb(Outcome::Done));
        self.answer_all(started, &Answer::Verb(Outcome::Done));
        if unload {
            self.begin_unload(i);
        }
    }

    /// The worker could not load and stays up: the model is started, its memory `failed`.
    pub(super) fn load_refused(&mut self, launch: Launch, reason: &str) {
        let Some(i) = self.of_launch(launch) else {
            return;
        };
        let entry = &mut self.entries[i];
        if !matches!(entry.phase, Phase::Loading | Phase::Launching(Goal::Loaded)) {
            return;
        }
        entry.phase = Phase::Standby { process: true };
        entry.up = true;
        entry.unload_when_loaded = false;
        entry.error = Some(reason.to_owned());
        let waiters = waiters_for_running(entry);
        let unloaded = std::mem::take(&mut entry.unload);
        let error = load_failed(&entry.spec.name, reason);
        self.answer_all(waiters, &Answer::Refused(error));
        self.answer_all(unloaded, &Answer::Verb(Outcome::Done));
    }

    /// Towards no memory, keeping the model started.
    pub(super) fn begin_unload(&mut self, i: usize) {
        match self.entries[i].phase {
            Phase::Loaded => self.begin_drain(i, Next::Unload),
            // Those who wait for the load get their turn first.
            Phase::Launching(Goal::Loaded)
            | Phase::Loading
            | Phase::Evicting { .. }
            | Phase::Settling { .. } => {
                self.entries[i].unload_when_loaded = true;
            }
            // No other worker takes its place, unless a request waits for one.
            Phase::Ending {
                next: Next::Replace,
                ..
            } => self.entries[i].phase.turn_to(Next::Unload),
            _ => {}
        }
    }

    pub(super) fn begin_drain(&mut self, i: usize, next: Next) {
        let entry = &mut self.entries[i];
        entry.phase = Phase::Draining(next);
        let (model, launch) = (entry.spec.name.clone(), entry.launch);
        self.effects.push(Effect::CloseGate {
            model: model.clone(),
        });
        self.effects.push(Effect::Drain { model, launch });
    }

    pub(super) fn drained(&mut self, i: usize) {
        if let Phase::Draining(next) = self.entries[i].phase {
            self.begin_end(i, next, true);
        }
    }

    pub(super) fn begin_end(&mut self, i: usize, next: Next, held: bool) {
        let launch = self.entries[i].launch;
        self.entries[i].phase = Phase::Ending { next, held };
        self.effects.push(Effect::End { launch });
    }

    /// What holds no memory any more makes no other load wait, though its processes have yet to end.
    pub(super) fn released(&mut self, launch: Launch) {
        let Some(i) = self.of_launch(launch) else {
            return;
        };
        if let Phase::Ending { held, .. } = &mut self.entries[i].phase {
            *held = false;
        }
    }

    /// The process is gone: as asked, or it failed.
    pub(super) fn gone(&mut self, launch: Launch, exit_code: Option<i32>, reason: &str, now: Now) {
        let Some(i) = self.of_launch(launch) else {
            return;
        };
        self.entries[i].pid = None;
        match self.entries[i].phase {
            Phase::Ending {
                next: Next::Replace,
                ..
            } => self.replaced(i, reason, now),
            Phase::Draining(next) | Phase::Ending { next, .. } => self.ended(i, next, now),
            _ => self.fail(i, exit_code, reason, now),
        }
    }

    /// A process that was to end has ended.
    fn ended(&mut self, i: usize, next: Next, now: Now) {
        let entry = &mut self.entries[i];
        match next {
            Next::Unload => {
                entry.phase = Phase::Standby { process: false };
                if entry.is_wanted() {
                    let unloaded = std::mem::take(&mut entry.unload);
                    self.answer_all(unloaded, &Answer::Verb(Outcome::Done));
                    self.want_load(i, now);
                } else if entry.spec.jit {
                    // A fresh resident process, where the worker can be one.
                    self.launch(i, Goal::Standby);
                } else {
                    let unloaded = std::mem::take(&mut entry.unload);
                    self.answer_all(unloaded, &Answer::Verb(Outcome::Done));
                }
            }
            Next::Restart | Next::Replace => self.restart(i, now),
            Next::Stop => self.be_down(i),
        }
    }

    /// The process ended unasked, or before it was ready.
    fn fail(&mut self, i: usize, exit_code: Option<i32>, reason: &str, now: Now) {
        let entry = &mut self.entries[i];
        let model = entry.spec.name.clone();
        let uptime = entry.uptime(now);
        entry.be_failed(exit_code, reason, now);
        let exit = Exit {
            exit_code,
            was_ready: uptime.is_some(),
            uptime_seconds: uptime.unwrap_or_default().as_secs_f64(),
            crashes: entry.crashes,
        };
        let error = load_failed(&model, reason);
        let waiters = waiters_for_running(entry);
        let unloaded = std::mem::take(&mut entry.unload);
        self.effects.push(Effect::CloseGate {
            model: model.clone(),
        });
        self.answer_all(waiters, &Answer::Refused(error));
        self.answer_all(unloaded, &Answer::Verb(Outcome::Done));
        if self.shutting_down || self.entries[i].removed {
            return;
        }
        self.put_question(i, About::Exit(exit));
    }

    /// Does what `on_exit` says.
    pub(super) fn decide_exit(&mut self, i: usize, verdict: ExitVerdict, now: Now) {
        if let ExitVerdict::Restart(seconds) = verdict {
            let after = seconds_or_zero(seconds);
            self.entries[i].retry_at = Some(now.at + after);
            self.effects.push(Effect::Wake { after });
        }
    }

    /// Loads that waited for others to leave begin once these are out of memory.
    pub(super) fn continue_evictions(&mut self, now: Now) {
        for i in 0..self.entries.len() {
            let Phase::Evicting { left, .. } = &self.entries[i].phase else {
                continue;
            };
            let holds = |name: &String| {
                self.entries
                    .iter()
                    .any(|entry| entry.spec.name == *name && entry.memory_state().holds_memory())
            };
            let still: Vec<String> = left.iter().filter(|name| holds(name)).cloned().collect();
            if still.is_empty() {
                self.begin_load(i, now);
            } else if let Phase::Evicting { left, .. } = &mut self.entries[i].phase {
                *left = still;
            }
        }
    }

    /// Starts failed models whose time has come, asks about idle ones and parked loads, and gives up on
    /// memory that does not come back.
    pub(super) fn tick(&mut self, now: Now) {
        self.continue_settling(now);
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            if entry.retry_at.is_some_and(|at| now.at >= at) {
                self.begin_start(i, now);
                continue;
            }
            if matches!(entry.phase, Phase::Parked { .. }) {
                self.tick_parked(i, now);
                continue;
            }
            if entry.phase != Phase::Loaded || now.at < entry.keep_until {
                continue;
            }
            self.put_question(i, About::Idle);
        }
    }

    /// Does what `on_idle` says.
    pub(super) fn decide_idle(&mut self, i: usize, verdict: IdleVerdict, now: Now) {
        match verdict {
            IdleVerdict::Keep(seconds) => {
                self.entries[i].keep_until = now.at + seconds_or_zero(seconds)
            }
            IdleVerdict::Unload => self.begin_unload(i),
            IdleVerdict::Stop => self.begin_stop(i),
        }
    }
}

/// Those of `names` that are unloaded for a model: others than itself that hold memory.
pub(crate) fn victims(
    model: &str,
    names: &[String],
    holds_memory: impl Fn(&str) -> bool,
) -> Vec<String> {
    let goes = |name: &&String| *name != model && holds_memory(name);
    names.iter().filter(goes).cloned().collect()
}

/// Those who wait for a model to be running or loaded.
pub(super) fn waiters_for_running(entry: &mut Entry) -> Vec<super::Waiter> {
    let requests = std::mem::take(&mut entry.requests).in_turn();
    let mut waiters: Vec<_> = requests.map(|request| request.waiter).collect();
    waiters.append(&mut entry.load);
    waiters.append(&mut entry.start);
    waiters
}

pub(super) fn seconds_or_zero(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn load_failed(model: &str, reason: &str) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("Model `{model}` failed to load: {reason}"),
    )
}
