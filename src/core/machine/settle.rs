//! After an unload: a load that the policy allowed waits until the memory is back.
//!
//! A process that has ended does not give back at once what it held: a system may take seconds over tens
//! of gigabytes, and a load that begins meanwhile makes it swap. Called by the load's path and by the
//! events [`Event::Freed`](super::Event::Freed) and [`Event::Measured`](super::Event::Measured). It knows
//! no probe: the hub that runs the machine measures when [`Effect::Measure`] asks for it.

use std::collections::HashMap;
use std::time::Duration;

use super::{Effect, Machine, Now, Phase, SystemMemory};

/// A load waits at most so long for memory to come back; others may have taken it.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// In bytes; less is lost among what other programs take and give.
pub(super) const WORTH_WAITING: u64 = 256 * 1024 * 1024;

/// Memory that an ended process held, until it is seen to be back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Returning {
    held: u64,
    /// The available memory when it held that.
    before: u64,
    deadline: Duration,
}

impl Returning {
    /// Nine tenths: other programs take some of it.
    fn is_back(&self, available: u64) -> bool {
        available >= self.before.saturating_add(self.held / 10 * 9)
    }
}

impl Machine {
    /// A process is about to be reported gone that held so many bytes when so many were available.
    pub(super) fn freed(&mut self, held: u64, available: u64, now: Now) {
        if held < WORTH_WAITING {
            return;
        }
        self.returning.push(Returning {
            held,
            before: available,
            deadline: now.at + LIMIT,
        });
        self.effects.push(Effect::Measure);
    }

    /// Lets the load wait if memory is still coming back; says whether it does.
    pub(super) fn must_settle(&mut self, i: usize, now: Now) -> bool {
        self.returning
            .retain(|returning| now.at < returning.deadline);
        let last = self.returning.iter().map(|returning| returning.deadline);
        let Some(deadline) = last.max() else {
            return false;
        };
        let process = self.entries[i].has_resident();
        self.entries[i].phase = Phase::Settling { process };
        self.effects.push(Effect::Measure);
        self.effects.push(Effect::Wake {
            after: deadline.saturating_sub(now.at),
        });
        true
    }

    /// The machine's memory now, as far as it can be measured; `peaks` are the most that models ever
    /// held. Loads for which there is room begin; for one that was never measured, half the machine is
    /// room.
    pub(super) fn measured(
        &mut self,
        system: SystemMemory,
        peaks: &HashMap<String, u64>,
        now: Now,
    ) {
        let Some(mut available) = system.available else {
            self.returning.clear();
            return self.continue_settling(now);
        };
        self.returning
            .retain(|returning| !returning.is_back(available));
        self.continue_settling(now);
        for i in 0..self.entries.len() {
            let entry = &self.entries[i];
            if !matches!(entry.phase, Phase::Settling { .. }) {
                continue;
            }
            let peak = peaks.get(&entry.spec.name).copied();
            match peak.or(system.total.map(|total| total / 2)) {
                Some(peak) if peak <= available => {
                    // It is not taken yet, but it is given away.
                    available -= peak;
                    self.take_memory(i, now);
                }
                _ => self.effects.push(Effect::Measure),
            }
        }
    }

    /// Bytes that are still on their way back when so many are available.
    pub(crate) fn returning(&self, available: Option<u64>) -> u64 {
        let Some(available) = available else { return 0 };
        let left = |returning: &Returning| {
            let whole = returning.before.saturating_add(returning.held);
            whole.saturating_sub(available).min(returning.held)
        };
        self.returning.iter().map(left).sum()
    }

    /// True if the machine's memory is worth another look by the policies of loads that are parked.
    pub(super) fn has_moved(&mut self, system: SystemMemory) -> bool {
        let before = self.memory;
        let moved = match (before.available, system.available) {
            (Some(before), Some(now)) => before.abs_diff(now) >= WORTH_WAITING,
            (before, now) => before != now,
        };
        let moved = moved || before.pressure != system.pressure;
        if moved {
            self.memory = system;
        }
        moved
    }

    /// Begins the loads that waited, when nothing is to come back any more or its time is over.
    pub(super) fn continue_settling(&mut self, now: Now) {
        self.returning
            .retain(|returning| now.at < returning.deadline);
        if !self.returning.is_empty() {
            return;
        }
        for i in 0..self.entries.len() {
            if matches!(self.entries[i].phase, Phase::Settling { .. }) {
                self.take_memory(i, now);
            }
        }
    }
}
