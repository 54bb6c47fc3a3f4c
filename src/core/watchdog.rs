//! Findings of a watchdog about one worker: how long its requests have waited without a byte, how many errors
//! it answered in a row, and which of the two policies are asked about.
//!
//! Pure: the watchdogs of the real hub and of a simulated one bring their measurements, look by look. The
//! length of a silence is told by [`Silence`].

use std::collections::VecDeque;
use std::time::Duration;

use super::interface::questions::{Trouble, TroubleKind};
use super::silence::{Doings, Silence};

/// Errors of the last so long are recent.
pub(crate) const RECENT: Duration = Duration::from_secs(60);
/// Recent errors that are counted.
const MAX_RECENT: usize = 1000;

/// The answers that a worker owes at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Requests that wait for a byte.
    pub(crate) waiting: usize,
    /// Another number after every byte.
    pub(crate) signs: u64,
}

/// The errors in a row of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Errors {
    pub(crate) in_a_row: usize,
    /// Those of the last minute.
    pub(crate) recent: usize,
    pub(crate) last_status: u16,
    /// Tells this row from others.
    pub(crate) row: u64,
}

/// The answers since the last success that were errors of the worker: 500 and above.
#[derive(Debug, Default)]
pub(crate) struct ErrorRow {
    number: u64,
    in_a_row: usize,
    last_status: u16,
    /// Times of the newest, on its owner's clock.
    times: VecDeque<Duration>,
}

impl ErrorRow {
    /// The worker has answered with that status.
    pub(crate) fn answered(&mut self, status: u16, now: Duration) {
        if status < 500 {
            return self.end();
        }
        if self.in_a_row == 0 {
            self.number += 1;
        }
        self.in_a_row += 1;
        self.last_status = status;
        if self.times.len() == MAX_RECENT {
            self.times.pop_front();
        }
        self.times.push_back(now);
    }

    /// The worker succeeded, or another one has taken its place.
    pub(crate) fn end(&mut self) {
        self.in_a_row = 0;
        self.times.clear();
    }

    /// The errors in a row, if there are any.
    pub(crate) fn at(&self, now: Duration) -> Option<Errors> {
        let is_recent = |at: &&Duration| now.saturating_sub(**at) < RECENT;
        (self.in_a_row > 0).then(|| Errors {
            in_a_row: self.in_a_row,
            recent: self.times.iter().filter(is_recent).count(),
            last_status: self.last_status,
            row: self.number,
        })
    }
}

/// The measurable state of a worker at one look.
pub(crate) trait Sample {
    /// Its activity since an earlier look, so long ago.
    fn doings_since(&self, before: &Self, elapsed: Duration) -> Doings;
}

/// One worker, as of the last look.
#[derive(Debug)]
pub(crate) struct WorkerWatch<S> {
    pid: Option<u32>,
    signs: u64,
    silence: Silence,
    /// True if requests wait for a byte.
    is_awaited: bool,
    /// The last look while requests waited in silence.
    last: Option<(Duration, S)>,
    /// The errors that were told last: their row, and how many.
    told: Option<(u64, usize)>,
}

impl<S> Default for WorkerWatch<S> {
    fn default() -> Self {
        Self {
            pid: None,
            signs: 0,
            silence: Silence::default(),
            is_awaited: false,
            last: None,
            told: None,
        }
    }
}

impl<S: Sample> WorkerWatch<S> {
    /// Looks whether a byte has come since the last look, a `pause` ago. Returns the length of the silence
    /// that it ended, at most.
    pub(crate) fn listen(&mut self, pid: u32, now: Vitals, pause: Duration) -> Option<Duration> {
        if self.pid != Some(pid) {
            *self = Self {
                pid: Some(pid),
                signs: now.signs,
                ..Self::default()
            };
        }
        self.is_awaited = now.waiting > 0;
        if now.signs == self.signs {
            return None;
        }
        self.signs = now.signs;
        self.last = None;
        let silence = std::mem::take(&mut self.silence);
        Some(silence.lasted() + pause)
    }

    /// True if requests wait for a byte.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// Notes a look while requests wait and no byte has come; looks are a `pause` apart.
    pub(crate) fn look(&mut self, now: Duration, pause: Duration, sample: S) {
        if let Some((since, before)) = &self.last {
            // After a gap in which no request waited it is as if it had not been.
            let elapsed = now.saturating_sub(*since);
            let passed = elapsed.min(pause * 3 / 2);
            let Doings { cpu, moved } = sample.doings_since(before, elapsed);
            let share = passed.as_secs_f64() / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
            let cpu = cpu.map(|cpu| cpu.mul_f64(share));
            self.silence.goes_on(passed, Doings { cpu, moved });
        }
        self.last = Some((now, sample));
    }

    /// The troubles that policies are asked about now, each with the number of its spell: a silence as long
    /// as it lasts, errors when they have become more. `basis` has what is not measured here. A
    /// `stall_timeout` of zero is none.
    pub(crate) fn troubles(
        &mut self,
        basis: Trouble,
        errors: Option<Errors>,
        stall_timeout: Duration,
    ) -> impl Iterator<Item = (Trouble, u64)> + use<S> {
        let limit = Some(stall_timeout).filter(|limit| !limit.is_zero());
        let measured = Trouble {
            kind: TroubleKind::Silent,
            silent_seconds: self.silence.lasted().as_secs_f64(),
            still_seconds: self.silence.still().as_secs_f64(),
            cpu_seconds: self.silence.cpu().map(|cpu| cpu.as_secs_f64()),
            stall_timeout: limit.map(|limit| limit.as_secs_f64()),
            ..basis
        };
        let is_silent = self.is_awaited && self.silence.is_reported(stall_timeout);
        let silent = is_silent.then_some((measured, self.signs));
        let number = |errors: Errors| (errors.row, errors.in_a_row);
        let errors = errors.filter(|errors| self.told != Some(number(*errors)));
        self.told = errors.map(number).or(self.told);
        let errors = errors.map(|errors| {
            let trouble = Trouble {
                kind: TroubleKind::Errors,
                errors: errors.in_a_row,
                recent_errors: errors.recent,
                last_status: Some(errors.last_status),
                ..measured
            };
            (trouble, errors.row)
        });
        silent.into_iter().chain(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    /// A worker that uses a whole core.
    #[derive(Debug)]
    struct Busy;

    impl Sample for Busy {
        fn doings_since(&self, _: &Self, elapsed: Duration) -> Doings {
            Doings {
                cpu: Some(elapsed),
                moved: false,
            }
        }
    }

    fn vitals(waiting: usize, signs: u64) -> Vitals {
        Vitals { waiting, signs }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Looks every five seconds, at a worker that owes bytes.
    fn looks(watch: &mut WorkerWatch<Busy>, from: u64, to: u64) {
        for now in (from..=to).step_by(5) {
            assert_eq!(watch.listen(7, vitals(1, 0), PAUSE), None);
            watch.look(at(now), PAUSE, Busy);
        }
    }

    fn silence(watch: &mut WorkerWatch<Busy>) -> Option<(f64, Option<f64>)> {
        let basis = Trouble::of(TroubleKind::Silent);
        let mut troubles = watch.troubles(basis, None, Duration::ZERO);
        troubles
            .next()
            .map(|(it, _)| (it.silent_seconds, it.cpu_seconds))
    }

    #[test]
    fn a_silence_is_told_as_long_as_requests_wait() {
        let mut watch = WorkerWatch::default();
        looks(&mut watch, 0, 5);
        assert_eq!(silence(&mut watch), None, "five seconds are nothing");
        looks(&mut watch, 10, 20);
        assert_eq!(silence(&mut watch), Some((20.0, Some(20.0))));
        assert_eq!(watch.listen(7, vitals(0, 0), PAUSE), None);
        assert_eq!(silence(&mut watch), None, "no request waits");
    }

    #[test]
    fn a_gap_in_which_no_request_waits_counts_as_no_more_than_a_look() {
        let mut watch = WorkerWatch::default();
        looks(&mut watch, 0, 10);
        looks(&mut watch, 1010, 1010);
        assert_eq!(silence(&mut watch), Some((17.5, Some(17.5))));
    }

    #[test]
    fn a_byte_and_another_worker_end_a_silence() {
        let mut watch = WorkerWatch::default();
        looks(&mut watch, 0, 30);
        assert_eq!(watch.listen(7, vitals(1, 1), PAUSE), Some(at(35)));
        assert_eq!(silence(&mut watch), None);
        let mut watch = WorkerWatch::default();
        looks(&mut watch, 0, 30);
        assert_eq!(
            watch.listen(8, vitals(1, 9), PAUSE),
            None,
            "nothing to learn"
        );
        assert_eq!(silence(&mut watch), None);
    }

    #[test]
    fn errors_count_until_a_success_comes() {
        let mut row = ErrorRow::default();
        assert_eq!(row.at(at(0)), None);
        row.answered(500, at(0));
        row.answered(503, at(60));
        let errors = |in_a_row, recent, row| {
            Some(Errors {
                in_a_row,
                recent,
                last_status: 503,
                row,
            })
        };
        assert_eq!(row.at(at(60)), errors(2, 1, 1));
        row.answered(400, at(60));
        assert_eq!(row.at(at(60)), None);
        row.answered(503, at(60));
        assert_eq!(row.at(at(60)), errors(1, 1, 2));
        row.end();
        assert_eq!(row.at(at(60)), None);
    }

    #[test]
    fn errors_are_told_when_they_have_become_more() {
        let mut watch = WorkerWatch::<Busy>::default();
        let mut told = |errors: Option<Errors>| {
            let basis = Trouble::of(TroubleKind::Silent);
            let troubles = watch.troubles(basis, errors, Duration::ZERO);
            let told = troubles.map(|(trouble, spell)| (trouble.kind, trouble.errors, spell));
            told.collect::<Vec<_>>()
        };
        let mut row = ErrorRow::default();
        row.answered(500, at(1));
        let one = row.at(at(1));
        assert_eq!(told(one), [(TroubleKind::Errors, 1, 1)]);
        assert_eq!(told(one), []);
        row.answered(500, at(1));
        assert_eq!(told(row.at(at(1))), [(TroubleKind::Errors, 2, 1)]);
        row.end();
        assert_eq!(told(row.at(at(1))), []);
        row.answered(500, at(1));
        assert_eq!(told(row.at(at(1))), [(TroubleKind::Errors, 1, 2)]);
    }
}
