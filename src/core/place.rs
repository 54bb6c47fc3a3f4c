//! Requests that wait before a model: an [`Arrival`] for its load, a [`Place`] in its queue. Each counts until
//! it is dropped, in the real hub and in a simulated one.
//!
//! [`admission`](super::admission) makes them. They know the model only as a [`Destination`].

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Seen;
use super::gate::Bell;
use super::machine::{Event, Waiter};
use super::queue::{About, Decision, Key, Queue, QueueLimits};
use crate::api::ApiError;

/// A model before which requests wait: a handle, cheap to clone.
pub trait Destination: Clone + Debug {
    /// Tells a queued request to [look](Place::look).
    type Bell: Bell;

    /// The model's name.
    fn name(&self) -> &str;
    /// True if both are the same model.
    fn is(&self, other: &Self) -> bool;
    /// The time on the queue's clock.
    fn now(&self) -> Duration;
    /// The point in the model's life.
    fn seen(&self) -> Seen;
    /// Counts a request that waits for the model to be loaded.
    fn arrived(&self);
    /// Counts it no more; it has its lease, or has left.
    fn left(&self);
    /// Reads or changes the queue. A bell that a change returns is to be rung.
    fn with_queue<R>(&self, look: impl FnOnce(&mut Queue<Self::Bell>, About<'_>) -> R) -> R;
}

/// A request that waits for its model to be loaded, from the verdict that lets it go to the answer of the
/// supervisor. `model.waiting` counts it until it is dropped.
#[derive(Debug)]
pub struct Arrival<M: Destination> {
    pub(crate) model: M,
    /// Taken before the verdict.
    pub(crate) seen: Seen,
    /// The key under which it takes turns.
    pub(crate) client: Arc<str>,
    /// Its earlier time in the queue.
    pub(crate) parked: Duration,
}

impl<M: Destination> Arrival<M> {
    pub(crate) fn new(model: &M, seen: Seen, client: Arc<str>, parked: Duration) -> Self {
        model.arrived();
        Self {
            model: model.clone(),
            seen,
            client,
            parked,
        }
    }

    /// Asks the machine for its lease.
    pub(crate) fn event(&self, waiter: Waiter) -> Event {
        Event::Acquire {
            model: self.model.name().to_owned(),
            waiter,
            seen: self.seen.stops,
            client: Arc::clone(&self.client),
            parked: self.parked,
        }
    }
}

impl<M: Destination> Drop for Arrival<M> {
    fn drop(&mut self) {
        self.model.left();
    }
}

/// A request's place in the queue of a model. Dropping it gives it up.
#[derive(Debug)]
pub struct Place<M: Destination> {
    model: M,
    key: Key,
    client: Arc<str>,
    bell: M::Bell,
    since: Duration,
    served: bool,
}

impl<M: Destination> Place<M> {
    /// Queues a request until something changes or for `seconds`, as a policy said that looked at the model
    /// after `seen`. It takes turns under the key `client`, and `bell` tells it to look.
    ///
    /// # Errors
    /// 429 when the queue is full; 503 when the model has been stopped since `seen` or the hub shuts down.
    pub(crate) fn take(
        model: &M,
        seen: Seen,
        bell: M::Bell,
        client: &Arc<str>,
        limits: QueueLimits,
        seconds: f64,
    ) -> Result<Self, ApiError> {
        let now = model.now();
        let tell = bell.clone();
        let parked =
            model.with_queue(|queue, about| queue.park(client, tell, limits, seconds, about, now));
        let place = Self {
            model: model.clone(),
            key: parked?,
            client: Arc::clone(client),
            bell,
            since: now,
            served: false,
        };
        // A change between the verdict and now has told no request of this; from now on one does.
        if model.seen().is_past(seen, model.name())? {
            place.change(Queue::change);
        }
        Ok(place)
    }

    /// The model.
    pub(crate) fn model(&self) -> &M {
        &self.model
    }

    /// The key under which it takes turns.
    pub(crate) fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// Tells it to look.
    pub(crate) fn bell(&self) -> &M::Bell {
        &self.bell
    }

    /// Its time in the queue; never zero.
    pub(crate) fn waited(&self) -> Duration {
        let waited = self.model.now().saturating_sub(self.since);
        waited.max(Duration::from_millis(1))
    }

    /// The decision about it.
    pub(crate) fn look(&self) -> Decision {
        let now = self.model.now();
        self.model
            .with_queue(|queue, about| queue.look(self.key, about, now))
    }

    /// The verdict was to wait on: the next is asked about.
    pub(crate) fn stay(&self, seconds: f64) {
        let now = self.model.now();
        self.change(|queue| queue.stay(self.key, seconds, now));
    }

    /// It will not listen for a while. The next is asked about, and no other request of its client.
    pub(crate) fn step_aside(&self) {
        self.change(|queue| queue.step_aside(self.key));
    }

    /// It listens again, and wants to be asked about.
    pub(crate) fn step_back(&self) {
        let now = self.model.now();
        self.model
            .with_queue(|queue, _| queue.step_back(self.key, now));
    }

    /// It goes, and its lease or its wait for a load is counted: its client has had its turn.
    pub(crate) fn leave(mut self) {
        self.served = true;
    }

    fn change(&self, change: impl FnOnce(&mut Queue<M::Bell>) -> Option<M::Bell>) {
        if let Some(told) = self.model.with_queue(|queue, _| change(queue)) {
            told.ring();
        }
    }
}

impl<M: Destination> Drop for Place<M> {
    fn drop(&mut self) {
        self.change(|queue| queue.leave(self.key, self.served));
    }
}
