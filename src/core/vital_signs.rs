//! A worker's health, as its answers show it: the requests that wait for a byte, the bytes that came, and the
//! number of errors in a row.
//!
//! The gateway writes, through the [`Lease`](super::gate::Lease) of each request that the model computes for: a
//! `GET` proves nothing. The watchdog reads. Only bytes of the worker are signs of life:
//! clients that come and leave are not, and a client that reads slowly is not the worker's fault.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::watchdog::{ErrorRow, Errors, Vitals};

/// Requests that wait are counted in the bits below it, bytes that came above, for ever and round again.
const SIGN: u64 = 1 << 32;

/// The vital signs of one model.
#[derive(Debug, Default)]
pub(crate) struct VitalSigns {
    word: AtomicU64,
    /// Bytes of the largest body that was sent since no request waited; all ones if one is not known.
    largest: AtomicUsize,
    /// That body, until the watchdog looks at it.
    unread: Mutex<Option<Vec<Bytes>>>,
    /// True if the last answer was an error: else a success need not look at the row.
    has_errors: AtomicBool,
    row: Mutex<ErrorRow>,
}

/// The largest body that was sent since no request waited.
#[derive(Debug)]
pub(crate) enum Largest {
    /// None, or the one that was told last.
    Same,
    /// Another, in the pieces it came in.
    Body(Vec<Bytes>),
    /// One that had not all arrived.
    Unknown,
}

impl VitalSigns {
    /// Notes that a request waits for a byte.
    pub(crate) fn wait(&self) {
        self.word.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a request waits no more.
    pub(crate) fn leave(&self) {
        self.word.fetch_sub(1, Ordering::Relaxed);
    }

    /// A byte came; `waited`: for a request that waits no more.
    pub(crate) fn sign(&self, waited: bool) {
        let step = SIGN.wrapping_sub(u64::from(waited));
        self.word.fetch_add(step, Ordering::Relaxed);
    }

    /// A request has so long a body, or one whose length is not known yet.
    pub(crate) fn carries(&self, size: Option<usize>, body: impl FnOnce() -> Vec<Bytes>) {
        let size = size.unwrap_or(usize::MAX);
        if size > self.largest.load(Ordering::Relaxed) {
            let mut unread = self.unread.lock();
            if self.largest.fetch_max(size, Ordering::Relaxed) < size {
                *unread = (size < usize::MAX).then(body);
            }
        }
    }

    /// The model answered with that status, or broke off before it did.
    pub(crate) fn answered(&self, status: u16, now: impl FnOnce() -> Duration) {
        let is_error = status >= 500;
        if is_error || self.has_errors.load(Ordering::Relaxed) {
            let mut row = self.row.lock();
            row.answered(status, now());
            self.has_errors.store(is_error, Ordering::Relaxed);
        }
    }

    /// Clears the errors for a new worker.
    pub(crate) fn begin(&self) {
        self.row.lock().end();
        self.forget_largest();
    }

    pub(crate) fn vitals(&self) -> Vitals {
        let word = self.word.load(Ordering::Relaxed);
        Vitals {
            waiting: usize::try_from(word % SIGN).unwrap_or(usize::MAX),
            signs: word / SIGN,
        }
    }

    /// The errors in a row, if there are any.
    pub(crate) fn errors(&self, now: Duration) -> Option<Errors> {
        self.row.lock().at(now)
    }

    /// The largest body, once.
    pub(crate) fn largest(&self) -> Largest {
        let mut unread = self.unread.lock();
        match unread.take() {
            Some(body) => Largest::Body(body),
            None if self.largest.load(Ordering::Relaxed) == usize::MAX => Largest::Unknown,
            None => Largest::Same,
        }
    }

    /// No request waits.
    pub(crate) fn forget_largest(&self) {
        let mut unread = self.unread.lock();
        *unread = None;
        self.largest.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &'static str) -> impl FnOnce() -> Vec<Bytes> {
        move || vec![Bytes::from(text)]
    }

    #[test]
    fn who_waits_and_what_came_are_told_apart() {
        let signs = VitalSigns::default();
        let at = |waiting, signs| Vitals { waiting, signs };
        signs.wait();
        signs.wait();
        assert_eq!(signs.vitals(), at(2, 0));
        signs.leave();
        assert_eq!(signs.vitals(), at(1, 0), "who leaves is no sign of life");
        signs.sign(true);
        signs.sign(false);
        assert_eq!(signs.vitals(), at(0, 2));
    }

    #[test]
    fn errors_count_until_a_success_comes_or_another_worker() {
        let signs = VitalSigns::default();
        let now = Duration::ZERO;
        let count = || {
            signs
                .errors(now)
                .map(|errors| (errors.row, errors.in_a_row))
        };
        signs.answered(500, || now);
        signs.answered(503, || now);
        assert_eq!(count(), Some((1, 2)));
        signs.answered(200, || now);
        assert_eq!(count(), None);
        signs.answered(503, || now);
        assert_eq!(count(), Some((2, 1)));
        signs.begin();
        assert_eq!(count(), None);
    }

    #[test]
    fn the_largest_body_is_handed_out_once() {
        let signs = VitalSigns::default();
        signs.carries(Some(3), body("abc"));
        signs.carries(Some(2), body("ab"));
        assert!(matches!(signs.largest(), Largest::Body(body) if body == ["abc"]));
        assert!(matches!(signs.largest(), Largest::Same));
        signs.carries(Some(4), body("abcd"));
        assert!(matches!(signs.largest(), Largest::Body(body) if body == ["abcd"]));
        signs.carries(None, body(""));
        assert!(matches!(signs.largest(), Largest::Unknown));
        signs.forget_largest();
        assert!(matches!(signs.largest(), Largest::Same));
    }
}
