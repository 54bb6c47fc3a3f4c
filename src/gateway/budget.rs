//! How many bytes of request bodies the hub holds in all, while it is not known where they go or while
//! their models load.
//!
//! One big body is the client's business; many at once would take the memory that models need. The
//! intake reserves what it reads; what it hands on, or drops, is free again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bytes that are held. Shared by all requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Arc<AtomicUsize>);

/// One request's part of them; dropped, it is given back.
#[derive(Debug, Default)]
pub(super) struct Reservation {
    budget: Budget,
    bytes: usize,
    limit: usize,
}

impl Budget {
    /// A reservation of nothing yet, which may grow while all of them together are below `limit`.
    pub(super) fn reservation(&self, limit: usize) -> Reservation {
        Reservation {
            budget: self.clone(),
            bytes: 0,
            limit,
        }
    }
}

impl Reservation {
    /// Whether there is room for so many more.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.budget.0.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limit {
            self.budget.0.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// Gives all of it back.
    pub(super) fn release(&mut self) {
        if self.bytes > 0 {
            self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
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
        let (mut one, mut two) = (budget.reservation(10), budget.reservation(10));
        assert!(one.grow(6));
        assert!(!two.grow(5));
        assert!(two.grow(4));
        assert!(!one.grow(1));
        drop(two);
        assert!(one.grow(4));
        one.release();
        assert!(budget.reservation(10).grow(10));
    }
}
