//! The future events of a simulated hub, by time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Number;
use crate::core::machine::{Event, Launch};

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// The machine hears of it; a launch reports it, if there is one.
    Event(Option<Launch>, Event),
    /// A request is done.
    Finish(Number),
    /// A parked request looks at the decision about it.
    Look(Number),
    /// The machine's memory is measured.
    Measure,
}

/// All of it: by time, and then in the order in which it was planned.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    happenings: BTreeMap<(Duration, u64), Happening>,
    planned: u64,
}

impl Schedule {
    pub(super) fn add(&mut self, at: Duration, happening: Happening) {
        self.planned += 1;
        self.happenings.insert((at, self.planned), happening);
    }

    /// Time of the next happening.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.happenings.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn pop(&mut self) -> Option<Happening> {
        self.happenings.pop_first().map(|(_, happening)| happening)
    }

    /// These do not happen any more.
    pub(super) fn cancel(&mut self, is_over: impl Fn(&Happening) -> bool) {
        self.happenings.retain(|_, happening| !is_over(happening));
    }

    /// A launch reports nothing more of what was planned.
    pub(super) fn forget(&mut self, launch: Launch) {
        self.cancel(|other| matches!(other, Happening::Event(of, _) if *of == Some(launch)));
    }
}
