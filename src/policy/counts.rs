//! How often a policy was asked and decided, and how long it took.
//!
//! Written only under the lock of the Lua state, so a count is a plain load and store; the atomics are
//! for the reader of the report, who takes no lock.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

/// One call in so many is timed: reading the clock twice would cost a tenth of a short call.
const TIMED: u64 = 64;

/// The counts of one policy since it was loaded.
#[derive(Debug, Default)]
pub(super) struct Counts {
    calls: AtomicU64,
    verdicts: AtomicU64,
    timed: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Counts {
    /// Counts a call, and times the first and some of the later ones.
    pub(super) fn call<R>(&self, call: impl FnOnce() -> R) -> R {
        let calls = add(&self.calls, 1);
        if calls % TIMED != 1 {
            return call();
        }
        let begun = Instant::now();
        let result = call();
        let took = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        add(&self.nanoseconds, took);
        add(&self.timed, 1);
        result
    }

    /// The policy returned a verdict.
    pub(super) fn decided(&self) {
        add(&self.verdicts, 1);
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn verdicts(&self) -> u64 {
        self.verdicts.load(Ordering::Relaxed)
    }

    /// Seconds of a call, over those that were timed.
    pub(super) fn average_seconds(&self) -> Option<f64> {
        let timed = self.timed.load(Ordering::Relaxed);
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        (timed > 0).then(|| nanoseconds as f64 / timed as f64 / 1e9)
    }
}

/// There is one writer at a time. Returns the new value.
fn add(counter: &AtomicU64, more: u64) -> u64 {
    let value = counter.load(Ordering::Relaxed).saturating_add(more);
    counter.store(value, Ordering::Relaxed);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_counted_and_the_first_is_timed() {
        let counts = Counts::default();
        assert_eq!(counts.average_seconds(), None);
        for _ in 0..TIMED {
            counts.call(|| ());
        }
        assert_eq!(counts.calls(), TIMED);
        assert_eq!(counts.timed.load(Ordering::Relaxed), 1);
        counts.call(|| ());
        assert_eq!(counts.timed.load(Ordering::Relaxed), 2);
        assert!(counts.average_seconds().is_some());
    }
}
