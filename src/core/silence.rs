//! A silence as it is measured, look by look: how long it has lasted, and how much of that the worker did
//! nothing that can be measured.
//!
//! Pure: [`WorkerWatch`](super::watchdog::WorkerWatch) counts time only while requests wait, and goes on where it was after
//! a gap without any: clients that give up and come again do not hide a worker that hangs.

use std::collections::VecDeque;
use std::time::Duration;

/// Interval at which workers are checked.
pub(crate) const POLL_EVERY: Duration = Duration::from_secs(5);
/// A shorter silence is not reported, unless `stall_timeout` is shorter still.
const WORTH_TELLING: Duration = Duration::from_secs(10);
/// A server that only waits still turns its event loop: less than half a percent of a core is nothing.
const IDLE_SHARE: f64 = 0.005;
/// More are thinned out.
const MAX_MOMENTS: usize = 512;

/// The worker's activity between two checks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Doings {
    /// CPU time that it used; none when that cannot be read.
    pub(crate) cpu: Option<Duration>,
    /// True if its log or its memory changed.
    pub(crate) moved: bool,
}

/// A silence; the default one has just begun.
#[derive(Debug, Clone, Default)]
pub(crate) struct Silence {
    lasted: Duration,
    cpu: Duration,
    /// True if a look could not read the CPU time.
    is_cpu_unknown: bool,
    /// Its length and its CPU time at the looks since the worker moved last.
    moments: VecDeque<(Duration, Duration)>,
}

impl Silence {
    /// So much later there was still no byte, and the worker had done that.
    pub(crate) fn goes_on(&mut self, passed: Duration, doings: Doings) {
        if self.moments.is_empty() && !doings.moved {
            self.moments.push_back((self.lasted, self.cpu));
        }
        self.lasted += passed;
        match doings.cpu {
            Some(cpu) => self.cpu += cpu,
            None => self.is_cpu_unknown = true,
        }
        // Unseen activity may be work.
        if doings.moved || doings.cpu.is_none() {
            self.moments.clear();
        }
        if self.moments.len() == MAX_MOMENTS {
            let mut nth = 0;
            self.moments.retain(|_| {
                nth += 1;
                nth % 2 == 1
            });
        }
        self.moments.push_back((self.lasted, self.cpu));
    }

    pub(crate) fn lasted(&self) -> Duration {
        self.lasted
    }

    /// True if policies are asked about it. A `stall_timeout` of zero is none.
    pub(crate) fn is_reported(&self, stall_timeout: Duration) -> bool {
        let stall_timeout = Some(stall_timeout).filter(|limit| !limit.is_zero());
        self.lasted >= stall_timeout.map_or(WORTH_TELLING, |limit| limit.min(WORTH_TELLING))
    }

    /// CPU time that was used meanwhile, if all looks could read it.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        (!self.is_cpu_unknown).then_some(self.cpu)
    }

    /// For how long, up to now, the worker has done nothing.
    pub(crate) fn still(&self) -> Duration {
        let mut moments = self.moments.iter();
        let since = moments.find_map(|(lasted, cpu)| {
            let span = self.lasted - *lasted;
            (self.cpu - *cpu <= span.mul_f64(IDLE_SHARE)).then_some(span)
        });
        since.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(silence: &mut Silence, count: u32, cpu: Option<f64>, moved: bool) {
        let cpu = cpu.map(|share| POLL_EVERY.mul_f64(share));
        for _ in 0..count {
            silence.goes_on(POLL_EVERY, Doings { cpu, moved });
        }
    }

    fn seen(silence: &Silence) -> (u64, u64, Option<u64>) {
        (
            silence.lasted().as_secs(),
            silence.still().as_secs(),
            silence.cpu().map(|cpu| cpu.as_secs()),
        )
    }

    #[test]
    fn a_worker_that_does_nothing_is_still_from_the_beginning() {
        let mut silence = Silence::default();
        assert_eq!(seen(&silence), (0, 0, Some(0)));
        looks(&mut silence, 60, Some(0.002), false);
        assert_eq!(seen(&silence), (300, 300, Some(0)));
    }

    #[test]
    fn one_that_computes_is_not_still_and_stops_being_so_when_it_stops() {
        let mut silence = Silence::default();
        looks(&mut silence, 60, Some(1.0), false);
        assert_eq!(seen(&silence), (300, 0, Some(300)));
        looks(&mut silence, 60, Some(0.0), false);
        assert_eq!(seen(&silence), (600, 300, Some(300)));
        // A moment of work breaks it, until it is nothing again beside the rest. Looks are thinned out.
        looks(&mut silence, 1, Some(0.5), false);
        assert!(silence.still() < POLL_EVERY);
        looks(&mut silence, 1440, Some(0.001), false);
        assert!(silence.still() >= Duration::from_hours(2));
    }

    #[test]
    fn a_log_or_a_memory_that_changes_is_a_sign_of_life_without_any_cpu() {
        let mut silence = Silence::default();
        for _ in 0..30 {
            looks(&mut silence, 11, Some(0.0), false);
            looks(&mut silence, 1, Some(0.0), true);
        }
        let (lasted, still, _) = seen(&silence);
        assert_eq!((lasted, still), (1800, 0), "a long prefill");
        looks(&mut silence, 12, Some(0.0), false);
        assert_eq!(seen(&silence).1, 60);
    }

    #[test]
    fn a_silence_is_reported_after_ten_seconds_or_a_shorter_stall_timeout() {
        let mut silence = Silence::default();
        looks(&mut silence, 1, Some(0.0), false);
        let limits = [0, 5, 6, 600].map(Duration::from_secs);
        let reported = |silence: &Silence| limits.map(|limit| silence.is_reported(limit));
        assert_eq!(reported(&silence), [false, true, false, false]);
        looks(&mut silence, 1, Some(0.0), false);
        assert_eq!(reported(&silence), [true; 4]);
    }

    #[test]
    fn what_cannot_be_read_may_be_work() {
        let mut silence = Silence::default();
        looks(&mut silence, 100, None, false);
        assert_eq!(seen(&silence), (500, 0, None));
        looks(&mut silence, 3, Some(0.0), false);
        assert_eq!(seen(&silence), (515, 15, None));
    }
}
