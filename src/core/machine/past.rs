//! The handover of a machine to the one that takes its place: the past of each model, as far as it outlives
//! the hub. Workers are no part of it; they are [adopted](super::Event::Adopt).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::entry::{Ended, Next, Phase, Times};
use super::{About, Exit, Machine, MemoryState, Now, ProcessState};

/// The past of one model. Times are on the clock of [`Now::at`], which goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Past {
    model: String,
    at: At,
    up: bool,
    crashes: usize,
    ready_since: Option<Duration>,
    retry_at: Option<Duration>,
    keep_until: Duration,
    exit_code: Option<i32>,
    error: Option<String>,
    stops: u64,
    times: Times,
    shown: (ProcessState, MemoryState),
    /// The end of its last worker, if the policies have still to judge it.
    #[serde(default)]
    exit: Option<Exit>,
}

/// Its phase, as far as its worker does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum At {
    Down(Ended),
    /// Its worker was about to leave.
    Leaving(Next),
    /// Started; without a worker there is one to come.
    Started {
        coming: bool,
    },
}

impl Past {
    /// The model's name.
    pub(crate) fn model(&self) -> &str {
        &self.model
    }
}

impl Machine {
    /// The past of every model that hub.yaml names.
    pub(crate) fn past(&self) -> Vec<Past> {
        let named = self.entries.iter().enumerate();
        let named = named.filter(|(_, entry)| !entry.removed);
        let past = named.map(|(i, entry)| Past {
            model: entry.spec.name.clone(),
            at: match entry.phase {
                Phase::Down(_) if self.is_load_asked(i) => At::Started { coming: true },
                Phase::Down(ended) => At::Down(ended),
                Phase::Draining(next) | Phase::Ending { next, .. } => At::Leaving(next),
                _ => At::Started { coming: !entry.up },
            },
            up: entry.up,
            crashes: entry.crashes,
            ready_since: entry.ready_since,
            retry_at: entry.retry_at,
            keep_until: entry.keep_until,
            exit_code: entry.exit_code,
            error: entry.error.clone(),
            stops: entry.stops,
            times: entry.times,
            shown: (entry.process_state(), entry.memory_state()),
            exit: self.unjudged_exit(&entry.spec.name),
        });
        past.collect()
    }

    /// The model was this under the hub before. Comes before its worker is adopted, if it has one.
    pub(super) fn inherit(&mut self, past: Past, has_worker: bool, now: Now) {
        let Some(i) = self.index(&past.model) else {
            return;
        };
        let entry = &mut self.entries[i];
        entry.was_up = Some(past.up);
        entry.crashes = past.crashes;
        entry.ready_since = past.ready_since;
        entry.retry_at = past.retry_at;
        entry.keep_until = past.keep_until;
        entry.exit_code = past.exit_code;
        entry.error = past.error;
        entry.stops = past.stops;
        entry.times = past.times;
        match past.at {
            At::Down(ended) => {
                entry.phase = Phase::Down(ended);
                entry.shown = past.shown;
                if let Some(exit) = past.exit {
                    self.put_question(i, About::Exit(exit));
                }
            }
            At::Started { coming: true } if !has_worker => self.begin_start(i, now),
            At::Started { .. } | At::Leaving(_) => entry.earlier = Some((past.shown, past.times)),
        }
    }

    /// Goes on with what the hub before was about to do with a worker that has been adopted meanwhile.
    pub(super) fn go_on_leaving(&mut self, past: &Past, now: Now) {
        let (Some(i), At::Leaving(next)) = (self.index(&past.model), past.at) else {
            return;
        };
        match next {
            // At once: the worker may have been told to end already.
            Next::Unload if self.entries[i].memory_state().holds_memory() => {
                self.begin_end(i, next, true);
            }
            Next::Unload => {}
            Next::Replace | Next::Restart => self.begin_restart(i, now),
            Next::Stop => self.begin_stop(i),
        }
    }
}
