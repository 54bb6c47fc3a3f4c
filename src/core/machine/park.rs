//! Loads that wait until the policy allows them, and the requests that wait with them.
//!
//! `on_load` is asked again when memory is taken or freed, when another request comes, when a model
//! has no request any more, when hub.yaml or the policies were read again, and after the policy's `seconds`. How many
//! requests may wait so, and how long, is bounded; that of a load under way is not.

use super::{About, Answer, Duration, Effect, Machine, Now, Phase, Waiter};
use crate::core::queue::pause;
use crate::core::refusals::{queue_full, queue_timed_out};

/// A request that waits for a load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asking {
    pub(super) waiter: Waiter,
    pub(super) came: Duration,
    /// Its time in the queue by then.
    pub(super) parked: Duration,
}

impl PartialEq for Asking {
    fn eq(&self, other: &Self) -> bool {
        self.waiter == other.waiter
    }
}

impl Machine {
    /// The time at which a policy wants to be asked again about a load, at the latest.
    pub(crate) fn next_asking(&self) -> Option<Duration> {
        let parked = self.entries.iter().enumerate();
        let parked = parked.filter_map(|(i, entry)| match entry.phase {
            Phase::Parked { ask_at, .. } if !self.is_load_asked(i) => Some(ask_at),
            _ => None,
        });
        parked.min()
    }

    /// The verdict about a load was to wait.
    pub(super) fn park(&mut self, i: usize, seconds: f64, now: Now) {
        let process = self.entries[i].has_resident();
        let place = match self.entries[i].phase {
            Phase::Parked { place, .. } => place,
            _ => {
                self.parked += 1;
                self.parked
            }
        };
        self.entries[i].phase = Phase::Parked {
            process,
            place,
            ask_at: now.at + pause(seconds),
        };
        if self.refuse_too_many(i, now) {
            self.forget_unwanted(i);
        }
    }

    /// Refuses those who came last to a load that is parked; false when there was room for all.
    fn refuse_too_many(&mut self, i: usize, now: Now) -> bool {
        let entry = &mut self.entries[i];
        let (name, limits) = (entry.spec.name.clone(), entry.spec.queue);
        let too_many = entry.requests.len() > limits.size;
        while entry.requests.len() > limits.size {
            let first = entry.requests.iter().map(|request| request.came).min();
            let waited = now.at.saturating_sub(first.unwrap_or(now.at));
            let after = load_took(entry.times.load_took).unwrap_or(waited);
            let last = entry.requests.iter().max_by_key(|asking| asking.waiter.id);
            let Some(last) = last.copied() else { break };
            entry.requests.cancel(last);
            let error = queue_full(&name, limits, after);
            self.effects.push(Effect::Answer {
                waiter: last.waiter,
                answer: Answer::Refused(error),
            });
        }
        too_many
    }

    /// Asks again about parked loads, in the order in which they were parked.
    pub(super) fn ask_parked(&mut self) {
        let parked = self.entries.iter().enumerate();
        let mut parked: Vec<(u64, usize)> = parked
            .filter_map(|(i, entry)| match entry.phase {
                Phase::Parked { place, .. } if !entry.removed => Some((place, i)),
                _ => None,
            })
            .collect();
        parked.sort_unstable();
        for (_, i) in parked {
            self.put_question(i, About::Load);
        }
        self.ask_again_if_judged();
    }

    /// Time has passed: refuses requests that have waited for too long for a load that is parked, and asks
    /// again if it is time to.
    pub(super) fn tick_parked(&mut self, i: usize, now: Now) {
        self.refuse_too_late(i, now);
        if let Phase::Parked { ask_at, .. } = self.entries[i].phase
            && now.at >= ask_at
        {
            self.put_question(i, About::Load);
        }
    }

    fn refuse_too_late(&mut self, i: usize, now: Now) {
        let entry = &mut self.entries[i];
        let (asked_at, timeout) = (entry.asked_at, entry.spec.queue.timeout);
        let load = load_took(entry.times.load_took);
        let error = queue_timed_out(&entry.spec.name, entry.spec.queue, load);
        let is_late = |request: &Asking| {
            let left = timeout.saturating_sub(request.parked);
            now.at >= request.came.max(asked_at) + left
        };
        let late: Vec<Asking> = entry.requests.iter().copied().filter(is_late).collect();
        for request in &late {
            entry.requests.cancel(*request);
        }
        let mut refused: Vec<Waiter> = late.iter().map(|request| request.waiter).collect();
        let is_over = now.at >= asked_at + timeout;
        if is_over {
            refused.append(&mut entry.load);
            refused.append(&mut entry.start);
        }
        let is_wanted = entry.is_wanted() || !entry.start.is_empty();
        let gives_up = !is_wanted && (is_over || !refused.is_empty());
        self.answer_all(refused, &Answer::Refused(error.clone()));
        if gives_up {
            self.refuse_load(i, error);
        }
    }

    /// No request waits any more for a load that only waits for permission.
    pub(super) fn forget_unwanted(&mut self, i: usize) {
        let entry = &mut self.entries[i];
        if let Phase::Parked { process, .. } = entry.phase
            && !entry.is_wanted()
            && entry.up
        {
            entry.phase = Phase::Standby { process };
        }
    }
}

fn load_took(seconds: Option<f64>) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds?).ok()
}
