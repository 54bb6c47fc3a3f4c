//! The queue before a gate, shared by threads: requests queue here, leases and the supervisor report changes
//! to it.
//!
//! The pure [`Queue`] decides which request is asked about next, and which is refused. This module adds the lock,
//! the counters that keep the hot path short while no request is queued, and the [bells](Bell) of requests. It
//! knows nothing of policies or workers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::gate::Bell;
use super::queue::Queue;
use crate::api::ApiError;

/// The queued requests of one model.
#[derive(Debug)]
pub(crate) struct Parking<B> {
    /// Parked requests, and the supervisor while it wants to hear of leases. As long as it is 0 the
    /// end of a lease costs one load.
    listeners: AtomicUsize,
    /// Number of queued requests, for users and policies.
    parked: AtomicUsize,
    /// Counts what may have changed a verdict, but for leases that come back.
    changes: AtomicU64,
    queue: Mutex<Listeners<B>>,
}

/// The bells to ring.
#[derive(Debug)]
struct Listeners<B> {
    queue: Queue<B>,
    /// Rung when the last lease is returned.
    idle: Option<B>,
}

impl<B> Default for Parking<B> {
    fn default() -> Self {
        let (queue, idle) = (Queue::default(), None);
        Self {
            listeners: AtomicUsize::default(),
            parked: AtomicUsize::default(),
            changes: AtomicU64::default(),
            queue: Mutex::new(Listeners { queue, idle }),
        }
    }
}

/// Wakes requests to read their decision.
fn tell(requests: impl IntoIterator<Item = impl Bell>) {
    requests.into_iter().for_each(|one| one.ring());
}

impl<B: Bell> Parking<B> {
    /// Number of requests queued here.
    pub(crate) fn len(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// True if anyone wants to hear of changes.
    pub(crate) fn has_listeners(&self) -> bool {
        self.listeners.load(Ordering::SeqCst) > 0
    }

    /// A number that changes with whatever may change a verdict, but for leases that come back.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Notes a change that may change a verdict.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.has_listeners() {
            tell(self.queue.lock().queue.change());
        }
    }

    /// Reads or changes the queue.
    pub(super) fn with_queue<R>(&self, look: impl FnOnce(&mut Queue<B>) -> R) -> R {
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
    pub(crate) fn lease_ended(&self, last: bool) {
        if self.has_listeners() {
            let mut listeners = self.queue.lock();
            tell(listeners.queue.change());
            tell(listeners.idle.clone().filter(|_| last));
        }
    }

    /// Sets the bell to ring when the last lease is returned, or none.
    pub(crate) fn tell_when_idle(&self, idle: Option<&B>) {
        let mut listeners = self.queue.lock();
        match (listeners.idle.is_some(), idle.is_some()) {
            (false, true) => self.listeners.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.listeners.fetch_sub(1, Ordering::SeqCst),
            _ => return,
        };
        listeners.idle = idle.cloned();
    }

    /// Refuses all requests with this answer.
    pub(crate) fn dismiss(&self, why: &ApiError) {
        tell(self.queue.lock().queue.dismiss(why));
    }

    /// Refuses all requests, and later ones.
    pub(crate) fn close(&self, why: &ApiError) {
        tell(self.queue.lock().queue.close(why));
    }
}
