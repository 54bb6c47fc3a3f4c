//! The hub's place in a fleet, as its parts see it: whether it is to be a member, and what became of that.
//!
//! The control API wishes and reads; the client of the gateway does, and reports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::api::FleetReport;

/// The side of the gateway on which the hub is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The gateway knows it.
    In,
    /// The gateway has no entry of it.
    Out,
}

/// The place.
#[derive(Debug)]
pub struct Membership {
    wish: watch::Sender<Wish>,
    /// The wish that the client has last acted on, whether it could or not.
    done: watch::Sender<Option<Wish>>,
    report: Mutex<FleetReport>,
    is_drained: AtomicBool,
}

impl Default for Membership {
    fn default() -> Self {
        Self {
            wish: watch::Sender::new(Wish::In),
            done: watch::Sender::new(None),
            report: Mutex::default(),
            is_drained: AtomicBool::new(false),
        }
    }
}

impl Membership {
    /// Wishes, and waits until the client has acted on it, at most for `limit`.
    pub(in crate::hub) async fn wish(&self, wish: Wish, limit: Duration) {
        let mut done = self.done.subscribe();
        self.wish.send_replace(wish);
        let acted = done.wait_for(|done| *done == Some(wish));
        // Too late, or no client: then the gateway finds out by itself.
        let _ = timeout(limit, acted).await;
    }

    /// The wishes.
    pub fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// Notes that the client has acted on a wish, and what it has found.
    pub fn note(&self, wish: Wish, report: FleetReport) {
        *self.report.lock() = report;
        self.done.send_replace(Some(wish));
    }

    /// What the client has found last.
    pub fn report(&self) -> FleetReport {
        self.report.lock().clone()
    }

    pub(in crate::hub) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    pub(in crate::hub) fn set_drained(&self, is_drained: bool) {
        self.is_drained.store(is_drained, Ordering::Relaxed);
    }

    /// Goes on where the hub before was.
    pub(in crate::hub) fn inherit(&self, is_drained: bool) {
        if is_drained {
            self.set_drained(true);
            self.wish.send_replace(Wish::Out);
        }
    }
}
