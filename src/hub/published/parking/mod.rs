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
use crate::core::admission;
use crate::core::queue::{Call, Key, Queue, QueueLimits};

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

    /// Takes a request out. `served`: its client has had its turn.
    fn remove(&self, queue: &mut Queue<Arc<Notify>>, key: Key, served: bool) {
        self.parked.fetch_sub(1, Ordering::Relaxed);
        self.listeners.fetch_sub(1, Ordering::SeqCst);
        tell(queue.leave(key, served));
    }
}

/// A request's place in a model's queue. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Ticket {
    model: Arc<Model>,
    key: Key,
    client: Arc<str>,
    told: Arc<Notify>,
    since: Instant,
    served: bool,
}

impl Ticket {
    /// Parks a request before `model`, until something changes or for `seconds`. `stale` says whether
    /// something has changed since the verdict to do so.
    pub(in crate::hub) fn take(
        model: &Arc<Model>,
        client: &Arc<str>,
        limits: QueueLimits,
        seconds: f64,
        stale: impl Fn() -> Result<bool, ApiError>,
    ) -> Result<Self, ApiError> {
        let parking = &model.gate.parking;
        let (told, about) = (Arc::new(Notify::new()), model.about());
        let mut listeners = parking.queue.lock();
        let queue = &mut listeners.queue;
        let (tell_it, now) = (Arc::clone(&told), parking.now());
        let key = queue.park(client, tell_it, limits, seconds, about, now)?;
        parking.parked.fetch_add(1, Ordering::Relaxed);
        parking.listeners.fetch_add(1, Ordering::SeqCst);
        // What happened between the verdict and now was told to nobody; what comes later will be.
        match stale() {
            Ok(false) => {}
            Ok(true) => tell(queue.change()),
            Err(error) => {
                parking.remove(queue, key, false);
                return Err(error);
            }
        }
        drop(listeners);
        Ok(Self {
            model: Arc::clone(model),
            key,
            client: Arc::clone(client),
            told,
            since: Instant::now(),
            served: false,
        })
    }

    /// Completes when it is time to ask again.
    ///
    /// # Errors
    /// 429 after `queue_timeout`; 503 when the model is stopped or the hub shuts down.
    pub async fn called(&mut self) -> Result<(), ApiError> {
        loop {
            let parking = self.parking();
            let call = {
                let mut listeners = parking.queue.lock();
                let (about, now) = (self.model.about(), parking.now());
                listeners.queue.look(self.key, about, now)
            };
            let wake = match call {
                Call::Ask => return Ok(()),
                Call::Refuse(why) => return Err(why),
                Call::Until(at) => parking.made + at,
            };
            tokio::select! {
                biased;
                () = self.told.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Its time in the queue; never zero.
    pub fn waited(&self) -> Duration {
        self.since.elapsed().max(Duration::from_millis(1))
    }

    /// It listens again, and wants to be asked about.
    pub fn step_back(&mut self) {
        let parking = self.parking();
        let mut listeners = parking.queue.lock();
        listeners.queue.step_back(self.key, parking.now());
    }

    fn parking(&self) -> &Parking {
        &self.model.gate.parking
    }
}

impl admission::QueuePlace for Ticket {
    type Model = Arc<Model>;

    fn is_at(&self, model: &Arc<Model>) -> bool {
        Arc::ptr_eq(&self.model, model)
    }

    fn client(&self) -> &Arc<str> {
        &self.client
    }

    fn waited(&self) -> Duration {
        Self::waited(self)
    }

    fn stay(&mut self, seconds: f64) {
        let parking = self.parking();
        let mut listeners = parking.queue.lock();
        tell(listeners.queue.stay(self.key, seconds, parking.now()));
    }

    fn step_aside(&mut self) {
        tell(self.parking().queue.lock().queue.step_aside(self.key));
    }

    fn leave(mut self) {
        self.served = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let parking = self.parking();
        parking.remove(&mut parking.queue.lock().queue, self.key, self.served);
    }
}

#[cfg(test)]
mod tests;
