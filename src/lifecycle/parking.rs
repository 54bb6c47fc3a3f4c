//! The requests that a policy told to wait before a model: who is asked about next, and when.
//!
//! The gateway parks a request here ([`Place`]) and asks the policies again when the place says so.
//! Something changes (a lease comes back, the supervisor publishes another state): then the first
//! request of every client is asked about, one after the other in a [`Fair`] order; whoever has the
//! turn keeps it until what came of the verdict can be seen in the model's counters. That is repeated
//! as long as one of them went. It knows nothing of policies or workers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Model;
use crate::api_error::ApiError;
use crate::core::fair::Fair;
use crate::core::queue::{QueueLimits, pause};
use crate::core::refusals;

/// The parked requests of one model.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// Parked requests, and the supervisor while it wants to hear of leases. As long as it is 0 the
    /// end of a lease costs one load.
    listeners: AtomicUsize,
    /// Parked requests, for people and policies.
    parked: AtomicUsize,
    /// Counts what may have changed a verdict, but for leases that come back.
    changes: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    order: Fair<u64>,
    places: HashMap<u64, Waiting>,
    keys: u64,
    /// Who is being asked about.
    turn: Option<u64>,
    /// Who is still to be asked about in this round.
    round: VecDeque<u64>,
    /// Something has changed since the round began.
    changed: bool,
    /// Why nobody may park here any more.
    closed: Option<ApiError>,
    /// Told when the last lease comes back.
    idle: Option<Arc<Notify>>,
}

/// One parked request as the queue sees it.
#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// Does not listen for its turn at the moment.
    away: bool,
    call: Arc<Call>,
}

/// How a parked request is reached.
#[derive(Debug, Default)]
struct Call {
    told: Notify,
    /// Why it may not stay.
    refused: Mutex<Option<ApiError>>,
}

impl Parking {
    /// Requests that are parked here.
    pub(super) fn len(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// A number that changes with whatever may change a verdict, but for leases that come back.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Something has changed that may change a verdict.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.listeners.load(Ordering::SeqCst) > 0 {
            self.queue.lock().change();
        }
    }

    /// A lease has come back; whether it was the `last` one.
    pub(super) fn lease_ended(&self, last: bool) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            let mut queue = self.queue.lock();
            queue.change();
            if let Some(idle) = queue.idle.as_ref().filter(|_| last) {
                idle.notify_one();
            }
        }
    }

    /// From now on `idle` is told when the last lease comes back, or nobody is.
    pub(super) fn tell_when_idle(&self, idle: Option<&Arc<Notify>>) {
        let mut queue = self.queue.lock();
        match (queue.idle.is_some(), idle.is_some()) {
            (false, true) => self.listeners.fetch_add(1, Ordering::SeqCst),
            (true, false) => self.listeners.fetch_sub(1, Ordering::SeqCst),
            _ => return,
        };
        queue.idle = idle.cloned();
    }

    /// Sends everybody away, with this answer.
    pub(super) fn dismiss(&self, why: &ApiError) {
        self.queue.lock().dismiss(why);
    }

    /// The same, and whoever comes later.
    pub(super) fn close(&self, why: &ApiError) {
        let mut queue = self.queue.lock();
        queue.dismiss(why);
        queue.closed = Some(why.clone());
    }

    fn add(
        &self,
        client: &Arc<str>,
        limits: QueueLimits,
        stale: impl Fn() -> Result<bool, ApiError>,
        full: impl FnOnce(Duration) -> ApiError,
    ) -> Result<(u64, Arc<Call>), ApiError> {
        let mut queue = self.queue.lock();
        if let Some(why) = &queue.closed {
            return Err(why.clone());
        }
        if queue.places.len() >= limits.size {
            let since = queue.places.values().map(|waiting| waiting.since).min();
            return Err(full(since.map(|since| since.elapsed()).unwrap_or_default()));
        }
        queue.keys += 1;
        let (key, call) = (queue.keys, Arc::<Call>::default());
        queue.order.push(client, key);
        let waiting = Waiting {
            since: Instant::now(),
            away: false,
            call: Arc::clone(&call),
        };
        queue.places.insert(key, waiting);
        self.parked.fetch_add(1, Ordering::Relaxed);
        self.listeners.fetch_add(1, Ordering::SeqCst);
        // What happened between the verdict and now was told to nobody; what comes later will be.
        match stale() {
            Ok(false) => {}
            Ok(true) => queue.change(),
            Err(error) => {
                self.remove(&mut queue, key, false);
                return Err(error);
            }
        }
        Ok((key, call))
    }

    /// Takes a request out. `served`: its client has had its turn.
    fn remove(&self, queue: &mut Queue, key: u64, served: bool) {
        if queue.places.remove(&key).is_none() {
            return;
        }
        self.parked.fetch_sub(1, Ordering::Relaxed);
        self.listeners.fetch_sub(1, Ordering::SeqCst);
        if served {
            queue.order.serve(key);
        } else {
            queue.order.cancel(key);
        }
        if queue.turn == Some(key) {
            queue.turn = None;
        }
        // Another one is the first of its client now.
        queue.change();
    }
}

impl Queue {
    fn change(&mut self) {
        self.changed = true;
        self.advance();
    }

    /// Gives the turn to the next, if nobody has it.
    fn advance(&mut self) {
        while self.turn.is_none() {
            if self.round.is_empty() {
                if !std::mem::take(&mut self.changed) {
                    return;
                }
                self.round = self.order.heads().collect();
                if self.round.is_empty() {
                    return;
                }
            }
            let Some(key) = self.round.pop_front() else {
                return;
            };
            if let Some(waiting) = self.places.get(&key).filter(|waiting| !waiting.away) {
                waiting.call.told.notify_one();
                self.turn = Some(key);
            }
        }
    }

    fn dismiss(&self, why: &ApiError) {
        for waiting in self.places.values() {
            // The first reason counts: a shutdown stops the models, too.
            let mut refused = waiting.call.refused.lock();
            refused.get_or_insert_with(|| why.clone());
            waiting.call.told.notify_one();
        }
    }
}

/// A request's place in the queue of a model. Dropping it gives it up.
#[derive(Debug)]
pub struct Place {
    model: Arc<Model>,
    key: u64,
    client: Arc<str>,
    call: Arc<Call>,
    limits: QueueLimits,
    since: Instant,
    ask_at: Instant,
    /// Nobody else is asked about until it says what came of it.
    has_turn: bool,
    served: bool,
}

impl Place {
    /// Parks a request before `model`, until something changes or for `seconds`.
    pub(super) fn take(
        model: &Arc<Model>,
        client: &Arc<str>,
        limits: QueueLimits,
        seconds: f64,
        stale: impl Fn() -> Result<bool, ApiError>,
    ) -> Result<Self, ApiError> {
        let full = |longest| {
            let load_seconds = model.load_seconds_ahead();
            refusals::queue_full(&model.name, limits, load_seconds.unwrap_or(longest))
        };
        let parking = &model.gate.parking;
        let (key, call) = parking.add(client, limits, stale, full)?;
        let now = Instant::now();
        Ok(Self {
            model: Arc::clone(model),
            key,
            client: Arc::clone(client),
            call,
            limits,
            since: now,
            ask_at: now + pause(seconds),
            has_turn: false,
            served: false,
        })
    }

    /// Completes when it is time to ask again.
    ///
    /// # Errors
    /// 429 after `queue_timeout`; 503 when the model is stopped or the hub shuts down.
    pub async fn called(&mut self) -> Result<(), ApiError> {
        let over = self.since + self.limits.timeout;
        let wake = self.ask_at.min(over);
        loop {
            if let Some(why) = self.call.refused.lock().clone() {
                return Err(why);
            }
            let turn = self.parking().queue.lock().turn;
            self.has_turn = turn == Some(self.key);
            if self.has_turn {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.call.told.notified() => {}
                () = sleep_until(wake) => {
                    if Instant::now() < over {
                        return Ok(());
                    }
                    let load = self.model.load_seconds_ahead();
                    return Err(refusals::queue_timed_out(&self.model.name, self.limits, load));
                }
            }
        }
    }

    /// The model it is parked at.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The key under which it takes turns.
    pub fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// How long it has been parked; never nothing.
    pub fn waited(&self) -> Duration {
        self.since.elapsed().max(Duration::from_millis(1))
    }

    /// The verdict was to wait on: the next is asked about.
    pub fn stay(&mut self, seconds: f64) {
        self.ask_at = Instant::now() + pause(seconds);
        self.pass_on(false);
    }

    /// It will not listen for a while. The next is asked about, and no other request of its client.
    pub fn step_aside(&mut self) {
        self.pass_on(true);
    }

    /// It listens again, and wants to be asked about.
    pub fn step_back(&mut self) {
        self.ask_at = Instant::now();
        let mut queue = self.parking().queue.lock();
        if let Some(waiting) = queue.places.get_mut(&self.key) {
            waiting.away = false;
        }
    }

    /// It goes, and its lease or its wait for a load is counted: its client has had its turn.
    pub fn leave(mut self) {
        self.served = true;
    }

    fn pass_on(&mut self, away: bool) {
        let had_turn = std::mem::take(&mut self.has_turn);
        let mut queue = self.parking().queue.lock();
        if let Some(waiting) = queue.places.get_mut(&self.key) {
            waiting.away = away;
        }
        // A turn that came while it was asked about for another reason is still to be used.
        if queue.turn == Some(self.key) && (had_turn || away) {
            queue.turn = None;
            queue.advance();
        }
    }

    fn parking(&self) -> &Parking {
        &self.model.gate.parking
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let parking = self.parking();
        parking.remove(&mut parking.queue.lock(), self.key, self.served);
    }
}

#[cfg(test)]
mod tests;
