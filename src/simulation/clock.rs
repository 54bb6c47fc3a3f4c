//! The clock of a simulated hub, which its user sets, and what is planned on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Number;
use crate::core::gate::{self, Runtime};
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
    /// The machine is told that time has passed.
    Tick,
}

/// The clock, in the hands of all who look at it and plan.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    /// Begin of the simulation, Unix seconds.
    begun: f64,
    timeline: Arc<Mutex<Timeline>>,
}

#[derive(Debug, Default)]
struct Timeline {
    /// Since the simulation began.
    now: Duration,
    /// By time, and then in the order in which it was planned.
    happenings: BTreeMap<(Duration, u64), Happening>,
    planned: u64,
    /// Time of the next tick; what happens then comes before it.
    tick: Option<Duration>,
}

impl Timeline {
    fn next_at(&self) -> Option<Duration> {
        self.happenings.first_key_value().map(|((at, _), _)| *at)
    }
}

impl Clock {
    pub(super) fn new(begun: f64) -> Self {
        let timeline = Arc::default();
        Self { begun, timeline }
    }

    pub(super) fn set(&self, now: Duration) {
        self.timeline.lock().now = now;
    }

    pub(super) fn unix(&self) -> f64 {
        self.begun + self.now().as_secs_f64()
    }

    pub(super) fn plan(&self, after: Duration, happening: Happening) {
        let line = &mut *self.timeline.lock();
        // What is never, need not be planned.
        if let Some(at) = line.now.checked_add(after) {
            line.planned += 1;
            line.happenings.insert((at, line.planned), happening);
        }
    }

    /// Plans the next tick for then, unless it comes earlier.
    pub(super) fn plan_tick(&self, at: Duration) {
        let tick = &mut self.timeline.lock().tick;
        *tick = Some(tick.map_or(at, |earlier| earlier.min(at)));
    }

    /// True if something other than a tick is to happen now.
    pub(super) fn is_due(&self) -> bool {
        let line = self.timeline.lock();
        line.next_at().is_some_and(|at| at <= line.now)
    }

    /// Goes on to the next happening until then, if there is one.
    pub(super) fn go_on(&self, until: Duration) -> Option<Happening> {
        let line = &mut *self.timeline.lock();
        let planned = line.next_at();
        let at = planned.into_iter().chain(line.tick).min();
        let at = at.filter(|at| *at <= until)?;
        line.now = line.now.max(at);
        if planned == Some(at) {
            return line.happenings.pop_first().map(|(_, next)| next);
        }
        line.tick = None;
        Some(Happening::Tick)
    }

    /// These do not happen any more.
    pub(super) fn cancel(&self, is_over: impl Fn(&Happening) -> bool) {
        let happenings = &mut self.timeline.lock().happenings;
        happenings.retain(|_, happening| !is_over(happening));
    }

    /// A launch reports nothing more of what was planned.
    pub(super) fn forget(&self, launch: Launch) {
        self.cancel(|other| matches!(other, Happening::Event(of, _) if *of == Some(launch)));
    }

    /// Wakes that request, or the machine while a load is parked.
    pub(super) fn bell(&self, whom: Option<Number>) -> Bell {
        Bell(self.clone(), whom)
    }
}

impl Runtime for Clock {
    type Bell = Bell;

    fn now(&self) -> Duration {
        self.timeline.lock().now
    }

    fn unix_ms(&self) -> u64 {
        (self.unix() * 1000.0).round() as u64
    }

    fn drained(&self) {
        // The hands look whenever a request leaves.
    }
}

/// See [`Clock::bell`].
#[derive(Debug, Clone)]
pub(super) struct Bell(Clock, Option<Number>);

impl gate::Bell for Bell {
    fn ring(&self) {
        let look = match self.1 {
            Some(number) => Happening::Look(number),
            None => Happening::Event(None, Event::Idle),
        };
        self.0.plan(Duration::ZERO, look);
    }
}
