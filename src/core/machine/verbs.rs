//! The verbs of users and requests: acquire, start, stop, load, unload, shutdown.

use std::collections::HashSet;
use std::sync::Arc;

use super::load::waiters_for_running;
use super::{
    About, Answer, ApiError, Asking, Ended, Goal, Machine, Next, Now, Outcome, Phase, Waiter,
};
use crate::core::unknown::{Known, unknown_model};

impl Machine {
    /// A request that found the gate closed.
    pub(super) fn acquire(
        &mut self,
        model: &str,
        request: Asking,
        seen: u64,
        client: &Arc<str>,
        now: Now,
    ) {
        let waiter = request.waiter;
        let Some(i) = self.known(model, waiter) else {
            return;
        };
        let entry = &mut self.entries[i];
        if self.shutting_down {
            return self.answer(waiter, Answer::Refused(ApiError::shutting_down()));
        }
        if entry.phase.is_stopping() || entry.stops != seen {
            let error = ApiError::being_stopped(model);
            return self.answer(waiter, Answer::Refused(error));
        }
        if entry.phase == Phase::Loaded {
            return self.answer(waiter, Answer::Granted);
        }
        entry.requests.push(client, request);
        self.join_load(i, now);
    }

    /// `load`: only for a model that is started, or that failed and may be tried again.
    pub(super) fn load(&mut self, model: &str, waiter: Waiter, now: Now) {
        let Some(i) = self.known(model, waiter) else {
            return;
        };
        let entry = &mut self.entries[i];
        if self.shutting_down {
            return self.answer(waiter, Answer::Refused(ApiError::shutting_down()));
        }
        if entry.phase.is_stopping() {
            return self.answer(waiter, Answer::Refused(ApiError::being_stopped(model)));
        }
        if matches!(entry.phase, Phase::Down(Ended::Never | Ended::Asked)) && !self.is_load_asked(i)
        {
            return self.answer(waiter, Answer::Refused(ApiError::not_started(model)));
        }
        let entry = &mut self.entries[i];
        if entry.phase == Phase::Loaded {
            return self.answer(waiter, Answer::Verb(Outcome::Already));
        }
        entry.load.push(waiter);
        self.join_load(i, now);
    }

    /// Joins the load that is under way, or begins one.
    fn join_load(&mut self, i: usize, now: Now) {
        match self.entries[i].phase {
            Phase::Standby { .. } => self.want_load(i, now),
            Phase::Down(_) => self.begin_start(i, now),
            Phase::Parked { .. } => self.put_question(i, About::Load),
            _ => {}
        }
    }

    /// `start`.
    pub(super) fn start(&mut self, model: &str, waiter: Waiter, now: Now) {
        let Some(i) = self.known(model, waiter) else {
            return;
        };
        if self.shutting_down {
            return self.answer(waiter, Answer::Refused(ApiError::shutting_down()));
        }
        let entry = &mut self.entries[i];
        if entry.phase.is_stopping() || entry.phase.is_restarting() {
            entry.phase.turn_to(Next::Restart);
            entry.start.push(waiter);
        } else if matches!(entry.phase, Phase::Down(_)) {
            entry.start.push(waiter);
            entry.crashes = 0;
            self.begin_start(i, now);
        } else if entry.up {
            self.answer(waiter, Answer::Verb(Outcome::Already));
        } else {
            entry.start.push(waiter);
        }
    }

    /// Takes over the worker that an earlier hub left: the model is what it was. One that no longer
    /// fits is ended by its launch before it starts a new one.
    pub(super) fn adopt(&mut self, model: &str, load: bool, fits: bool) {
        let Some(i) = self.index(model) else { return };
        let entry = &mut self.entries[i];
        entry.up = fits && entry.was_up.take().unwrap_or(true);
        if !fits {
            // Another worker comes, with a load of its own.
            entry.earlier = None;
        }
        self.launch(i, if load { Goal::Loaded } else { Goal::Standby });
    }

    /// The model was started under an earlier hub and had no process; it stays started.
    pub(super) fn resume(&mut self, model: &str) {
        let Some(i) = self.index(model) else { return };
        let is_asked = self.is_load_asked(i);
        let entry = &mut self.entries[i];
        if entry.phase != Phase::Down(Ended::Never) || is_asked {
            return;
        }
        entry.up = true;
        entry.phase = Phase::Standby { process: false };
        if entry.spec.jit {
            // Another worker program, installed meanwhile, may be able to stay up unloaded.
            self.launch(i, Goal::Standby);
        }
    }

    /// Starts what hub.yaml marks `default`, when the hub comes up, but for models that it knows from the
    /// hub before.
    pub(super) fn start_defaults(&mut self, except: &HashSet<String>, now: Now) {
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            let is_wanted = entry.spec.default && !except.contains(&entry.spec.name);
            if is_wanted && matches!(entry.phase, Phase::Down(_)) {
                self.begin_start(i, now);
            }
        }
    }

    /// From down to starting: a JIT model towards standby, any other into memory.
    pub(super) fn begin_start(&mut self, i: usize, now: Now) {
        let entry = &mut self.entries[i];
        if let Phase::Down(ended) = entry.phase {
            entry.before_start = ended;
        }
        entry.retry_at = None;
        if entry.spec.jit {
            self.launch(i, Goal::Standby);
        } else {
            self.want_load(i, now);
        }
    }

    /// `stop`.
    pub(super) fn stop(&mut self, model: &str, waiter: Waiter) {
        let Some(i) = self.known(model, waiter) else {
            return;
        };
        match self.entries[i].phase {
            Phase::Down(Ended::Never | Ended::Asked) if !self.is_load_asked(i) => {
                self.answer(waiter, Answer::Verb(Outcome::Already));
            }
            _ => {
                self.entries[i].stop.push(waiter);
                self.begin_stop(i);
            }
        }
    }

    /// Towards no process. Requests that wait for the model to come up are refused.
    pub(super) fn begin_stop(&mut self, i: usize) {
        let entry = &mut self.entries[i];
        entry.stops += 1;
        entry.unload_when_loaded = false;
        let error = ApiError::being_stopped(&entry.spec.name);
        let refused = waiters_for_running(entry);
        let unloaded = std::mem::take(&mut entry.unload);
        let held = entry.memory_state().holds_memory();
        match entry.phase {
            Phase::Loaded => self.begin_drain(i, Next::Stop),
            Phase::Draining(_) | Phase::Ending { .. } => entry.phase.turn_to(Next::Stop),
            _ if entry.phase.has_launch() => self.begin_end(i, Next::Stop, held),
            _ => self.be_down(i),
        }
        self.answer_all(refused, &Answer::Refused(error));
        self.answer_all(unloaded, &Answer::Verb(Outcome::Done));
    }

    /// Towards another process of the same model. Requests that wait for it go on waiting.
    pub(super) fn begin_restart(&mut self, i: usize, now: Now) {
        let entry = &mut self.entries[i];
        entry.unload_when_loaded = false;
        let held = entry.memory_state().holds_memory();
        match entry.phase {
            Phase::Loaded => self.begin_drain(i, Next::Restart),
            Phase::Draining(_) | Phase::Ending { .. } => entry.phase.turn_to(Next::Restart),
            _ if entry.phase.has_launch() => self.begin_end(i, Next::Restart, held),
            _ => self.restart(i, now),
        }
    }

    /// Nothing of the old process is left.
    pub(super) fn restart(&mut self, i: usize, now: Now) {
        self.be_down(i);
        let unloaded = std::mem::take(&mut self.entries[i].unload);
        self.answer_all(unloaded, &Answer::Verb(Outcome::Done));
        self.begin_start(i, now);
    }

    pub(super) fn be_down(&mut self, i: usize) {
        let entry = &mut self.entries[i];
        entry.phase = Phase::Down(Ended::Asked);
        entry.up = false;
        entry.ready_since = None;
        entry.retry_at = None;
        entry.error = None;
        entry.exit_code = None;
        let waiters = std::mem::take(&mut entry.stop);
        self.answer_all(waiters, &Answer::Verb(Outcome::Done));
    }

    /// `unload`.
    pub(super) fn unload(&mut self, model: &str, waiter: Waiter) {
        let Some(i) = self.known(model, waiter) else {
            return;
        };
        let entry = &self.entries[i];
        let unloading = matches!(
            entry.phase,
            Phase::Draining(Next::Unload)
                | Phase::Ending {
                    next: Next::Unload,
                    ..
                }
        );
        if !entry.memory_state().holds_memory() && !unloading || entry.phase.is_stopping() {
            return self.answer(waiter, Answer::Verb(Outcome::Already));
        }
        self.entries[i].unload.push(waiter);
        self.begin_unload(i);
    }

    /// A waiter that is no longer there. The load it waited for goes on.
    pub(super) fn abandon(&mut self, waiter: Waiter) {
        self.forget_reload(waiter);
        self.forget_held(waiter);
        for i in 0..self.entries.len() {
            let entry = &mut self.entries[i];
            let request = entry.requests.iter().find(|it| it.waiter == waiter);
            if let Some(request) = request.copied() {
                entry.requests.cancel(request);
                self.forget_unwanted(i);
                return;
            }
            for list in [
                &mut entry.load,
                &mut entry.start,
                &mut entry.stop,
                &mut entry.unload,
            ] {
                list.retain(|other| *other != waiter);
            }
        }
    }

    /// Stops everything; nothing starts any more.
    pub(super) fn shutdown(&mut self, at_once: bool) {
        self.shutting_down = true;
        for i in 0..self.entries.len() {
            self.entries[i].retry_at = None;
            if !matches!(self.entries[i].phase, Phase::Down(_)) || self.is_load_asked(i) {
                self.begin_stop(i);
            }
            if at_once {
                self.drained(i);
            }
        }
    }

    fn known(&mut self, model: &str, waiter: Waiter) -> Option<usize> {
        let found = self.index(model);
        if found.is_none() {
            let names = self.entries().map(|entry| Known {
                name: &entry.spec.name,
                path: "",
            });
            let names: Vec<_> = names.collect();
            let hint = "`mlx-openai-server-hub status` lists them.";
            let error = unknown_model(model, &names, &[], hint);
            self.answer(waiter, Answer::Refused(error));
        }
        found
    }
}
