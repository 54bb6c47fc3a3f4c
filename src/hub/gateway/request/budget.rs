//! The limit on all request bodies that the hub holds until their models are known and loaded.
//!
//! One big body does no harm; many at once would take the memory that models need. The intake reserves the bytes
//! it reads, and frees those it hands on or drops. Small bodies are not counted: each would cost all threads an
//! update of a shared number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The held bytes, shared by all requests. A clone has a reference count of its own, so that requests of one connection
/// do not touch that of others.
#[derive(Debug, Default)]
pub(crate) struct Budget(Arc<Held>);

#[derive(Debug, Clone, Default)]
struct Held(Arc<AtomicUsize>);

impl Clone for Budget {
    fn clone(&self) -> Self {
        Self(Arc::new(Held::clone(&self.0)))
    }
}

/// Largest uncounted body in bytes. A connection takes more memory.
const FREE: usize = 16 * 1024;

/// One request's reservation; dropping it frees the bytes.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    budget: Budget,
    /// Held, and not counted yet.
    free: usize,
    /// Counted.
    bytes: usize,
    limit: usize,
}

impl Budget {
    fn held(&self) -> &AtomicUsize {
        &self.0.0
    }

    /// A reservation of nothing yet, which may grow while all of them together are below `limit`.
    pub(crate) fn reservation(&self, limit: usize) -> Reservation {
        Reservation {
            budget: Self(Arc::clone(&self.0)),
            free: 0,
            bytes: 0,
            limit,
        }
    }
}

impl Reservation {
    /// True if `more` bytes fit.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        if self.bytes == 0 && self.free + bytes <= FREE {
            self.free += bytes;
            return true;
        }
        let bytes = bytes + std::mem::take(&mut self.free);
        let before = self.budget.held().fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.budget.held().fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Frees all of it.
    pub(crate) fn release(&mut self) {
        self.free = 0;
        if self.bytes > 0 {
            self.budget.held().fetch_sub(self.bytes, Ordering::Relaxed);
            self.bytes = 0;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_holds_another_cannot_until_it_is_given_back() {
        let budget = Budget::default();
        const KIB: usize = 1024;
        let limit = 100 * KIB;
        let (mut one, mut two) = (budget.reservation(limit), budget.reservation(limit));
        assert!(one.grow(60 * KIB));
        assert!(!two.grow(50 * KIB));
        assert!(two.grow(40 * KIB));
        assert!(!one.grow(1));
        drop(two);
        assert!(one.grow(40 * KIB));
        one.release();
        assert!(budget.reservation(limit).grow(limit));
    }

    #[test]
    fn a_small_body_counts_from_where_it_is_not_small_any_more() {
        let budget = Budget::default();
        let mut growing = budget.reservation(FREE);
        assert!(growing.grow(FREE));
        assert!(!growing.grow(1));
        let mut other = budget.reservation(2 * FREE);
        assert!(other.grow(FREE) && other.grow(1));
        assert_eq!(budget.held().load(Ordering::Relaxed), FREE + 1);
        drop(other);
        assert_eq!(budget.held().load(Ordering::Relaxed), 0);
    }
}
