//! The queue of a model, shared by threads: the gateway queues its requests here ([`Ticket`]), leases and the
//! supervisor report changes to it.
//!
//! The pure [`Queue`] decides which request is asked about next, and which is refused. This module adds the lock,
//! the counters that keep the hot path short while no request is queued, and the wakes of requests. It knows
//! nothing of policies or workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::registry::Model;
use crate::api::ApiError;
use crate::core::admission::Seen;
use crate::core::place::{self, Destination, Place};
use crate::core::queue::{About, Call, Queue};
use crate::core::refusals::load_ahead;

/// The queued requests of one model.
#[derive(Debug)]
pub(in crate::hub) struct Parking {
    /// Parked requests, and the supervisor while it wants to hear of leases. As long as it is 0 the
    /// end of a lease costs one load.
    listeners: AtomicUsize,
    /// Number of queued requests, for users and policies.
    parked: AtomicUsize,
    /// Counts what may have changed a verdict, but for leases that come back.
    changes: AtomicU64,
    queue: Mutex<Listeners>,
    /// The queue counts time from here on.
    made: Instant,
}

/// The tasks to wake.
#[derive(Debug, Default)]
struct Listeners {
    queue: Queue<Arc<Notify>>,
    /// Woken when the last lease is returned.
    idle: Option<Arc<Notify>>,
}

impl Default for Parking {
    fn default() -> Self {
        Self {
            listeners: AtomicUsize::default(),
            parked: AtomicUsize::default(),
            changes: AtomicU64::default(),
            queue: Mutex::default(),
            made: Instant::now(),
        }
    }
}

/// Wakes requests to read their decision.
fn tell(requests: impl IntoIterator<Item = Arc<Notify>>) {
    requests.into_iter().for_each(|one| one.notify_one());
}

impl Parking {
    /// Number of requests queued here.
    pub(in crate::hub) fn len(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// A number that changes with whatever may change a verdict, but for leases that come back.
    pub(in crate::hub) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Notes a change that may change a verdict.
    pub(in crate::hub) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.listeners.load(Ordering::SeqCst) > 0 {
            tell(self.queue.lock().queue.change());
        }
    }

    /// Reads or changes the queue.
    fn with_queue<R>(&self, look: impl FnOnce(&mut Queue<Arc<Notify>>) -> R) -> R {
        let mut listeners = self.queue.lock();
        let queue = &mut listeners.queue;
        let before = queue.len();
        let result = look(queue);
        let after = queue.len();
        self.parked.store(after, Ordering::Relaxed);
        // The difference: the supervisor is among them, too.
        let (more, fewer) = (after.saturating_sub(before), before.saturating_sub(after));
        if (more, fewer) != (0, 0) {
            self.listeners.fetch_add(more, Ordering::SeqCst);
            self.listeners.fetch_sub(fewer, Ordering::SeqCst);
        }
        result
    }

    /// A lease has come back; whether it was the `last` one.
    pub(in crate::hub) fn lease_ended(&self, last: bool) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            let mut listeners = self.queue.lock();
            tell(listeners.queue.change());
            tell(listeners.idle.clone().filter(|_| last));
        }
    }

    /// Sets the task to wake when the last lease is returned, or none.
    pub(in crate::hub) fn tell_when_idle(&self, idle: Option<&Arc<Notify>>) {
        let mut listeners = self.queue.lock();
        match (listeners.idle.is_some(), idle.is_some()) {
            (false, true) => self.listeners.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.listeners.fetch_sub(1, Ordering::SeqCst),
            _ => return,
        };
        listeners.idle = idle.cloned();
    }

    /// Refuses all requests with this answer.
    pub(in crate::hub) fn dismiss(&self, why: &ApiError) {
        tell(self.queue.lock().queue.dismiss(why));
    }

    /// Refuses all requests, and later ones.
    pub(in crate::hub) fn close(&self, why: &ApiError) {
        tell(self.queue.lock().queue.close(why));
    }

    fn now(&self) -> Duration {
        self.made.elapsed()
    }
}

impl Destination for Arc<Model> {
    type Bell = Arc<Notify>;

    fn name(&self) -> &str {
        &self.name
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }

    fn now(&self) -> Duration {
        self.gate.parking.now()
    }

    fn seen(&self) -> Seen {
        Seen {
            stops: self.stops.load(Ordering::SeqCst),
            changes: (self.gate.parking.changes(), self.gate.given_back()),
        }
    }

    fn arrived(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    fn left(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.gate.parking.changed();
    }

    fn with_queue<R>(&self, look: impl FnOnce(&mut Queue<Arc<Notify>>, About<'_>) -> R) -> R {
        let about = About {
            model: &self.name,
            load: load_ahead(&self.facts.load()),
        };
        self.gate.parking.with_queue(|queue| look(queue, about))
    }

    fn tell(&self, bell: Arc<Notify>) {
        bell.notify_one();
    }
}

/// A request on its way to the supervisor, which waits for the model to be loaded.
pub type Arrival = place::Arrival<Arc<Model>>;

/// A request's place in a model's queue.
pub type Ticket = Place<Arc<Model>>;

impl Ticket {
    /// Completes when it is time to ask again.
    ///
    /// # Errors
    /// 429 after `queue_timeout`; 503 when the model is stopped or the hub shuts down.
    pub async fn called(&mut self) -> Result<(), ApiError> {
        loop {
            let wake = match self.look() {
                Call::Ask => return Ok(()),
                Call::Refuse(why) => return Err(why),
                Call::Until(at) => self.model().gate.parking.made + at,
            };
            tokio::select! {
                biased;
                () = self.bell().notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
