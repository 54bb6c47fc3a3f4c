//! The doors of a simulated hub: how a request is counted at a model. Each of these is counted until it is
//! dropped, as in the real hub.

use std::sync::Arc;
use std::time::Duration;

use super::Number;
use super::world::SimulatedWorld;
use crate::api::ApiError;
use crate::config::Config;
use crate::core::admission::{self, Doors, Seen};
use crate::core::queue::{Call, Key, QueueLimits};
use crate::policy::World as _;

/// The doors, as one request finds them.
pub(super) struct DoorsOf {
    pub(super) world: Arc<SimulatedWorld>,
    pub(super) request: Number,
}

/// A request that the worker of `model` answers.
#[derive(Debug)]
pub(super) struct Lease {
    world: Arc<SimulatedWorld>,
    pub(super) model: String,
}

/// A request that waits for `model` to be loaded.
#[derive(Debug)]
pub(super) struct Arrival {
    world: Arc<SimulatedWorld>,
    pub(super) model: String,
    pub(super) seen: Seen,
    pub(super) client: Arc<str>,
    pub(super) parked: Duration,
}

/// A request that a policy told to wait before `model`.
#[derive(Debug)]
pub(super) struct Ticket {
    world: Arc<SimulatedWorld>,
    pub(super) model: String,
    key: Key,
    client: Arc<str>,
    since: Duration,
    served: bool,
}

impl Lease {
    /// If the model lets requests in.
    pub(super) fn enter(world: &Arc<SimulatedWorld>, model: &str) -> Option<Self> {
        let (now, unix) = (world.now(), world.clock());
        let is_open = world.at(model, |model| {
            if model.is_open {
                model.active += 1;
                model.last_request_at = Some(unix);
                model.last_active = now;
            }
            model.is_open
        });
        is_open.filter(|is_open| *is_open).map(|_| Self {
            world: Arc::clone(world),
            model: model.to_owned(),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (now, unix) = (self.world.now(), self.world.clock());
        self.world.at(&self.model, |model| {
            model.active -= 1;
            model.given_back += 1;
            model.last_request_at = Some(unix);
            model.last_active = now;
        });
        self.world.queue(&self.model, |queue, _| queue.change());
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.world.at(&self.model, |model| model.waiting -= 1);
        self.world.changed(&self.model);
    }
}

impl Doors for DoorsOf {
    type Model = String;
    type Grant = Lease;
    type Arrival = Arrival;
    type Place = Ticket;

    fn find(&self, name_or_path: &str) -> Option<String> {
        let model = self.world.model(name_or_path)?;
        Some(model.facts.name.clone())
    }

    fn config(&self) -> Arc<Config> {
        self.world.config()
    }

    fn seen(&self, model: &String) -> Seen {
        let seen = self.world.at(model, |model| Seen {
            stops: model.stops,
            changes: (model.changes, model.given_back),
        });
        seen.unwrap_or_default()
    }

    fn try_acquire(&self, model: &String) -> Option<Lease> {
        Lease::enter(&self.world, model)
    }

    fn arrive(&self, model: &String, seen: Seen, client: Arc<str>, parked: Duration) -> Arrival {
        self.world.at(model, |model| model.waiting += 1);
        Arrival {
            world: Arc::clone(&self.world),
            model: model.clone(),
            seen,
            client,
            parked,
        }
    }

    fn park(
        &self,
        model: &String,
        seen: Seen,
        client: &Arc<str>,
        seconds: f64,
    ) -> Result<Ticket, ApiError> {
        let is_past = self.seen(model).is_past(seen, model)?;
        let limits = self.world.config().model(model).map(QueueLimits::of);
        let (gone, now) = (|| ApiError::being_stopped(model), self.world.now());
        let limits = limits.ok_or_else(gone)?;
        let parked = self.world.at(model, |model| {
            let (queue, about) = model.queue_and_about();
            queue.park(client, self.request, limits, seconds, about, now)
        });
        let place = Ticket {
            world: Arc::clone(&self.world),
            model: model.clone(),
            key: parked.ok_or_else(gone)??,
            client: Arc::clone(client),
            since: now,
            served: false,
        };
        if is_past {
            self.world.queue(model, |queue, _| queue.change());
        }
        Ok(place)
    }
}

impl Ticket {
    /// What is to become of the request.
    pub(super) fn look(&self) -> Option<Call> {
        let now = self.world.now();
        self.world.at(&self.model, |model| {
            let (queue, about) = model.queue_and_about();
            queue.look(self.key, about, now)
        })
    }
}

impl admission::QueuePlace for Ticket {
    type Model = String;

    fn is_at(&self, model: &String) -> bool {
        self.model == *model
    }

    fn client(&self) -> &Arc<str> {
        &self.client
    }

    fn waited(&self) -> Duration {
        let waited = self.world.now() - self.since;
        waited.max(Duration::from_millis(1))
    }

    fn stay(&mut self, seconds: f64) {
        self.world
            .queue(&self.model, |queue, now| queue.stay(self.key, seconds, now));
    }

    fn step_aside(&mut self) {
        self.world
            .queue(&self.model, |queue, _| queue.step_aside(self.key));
    }

    fn leave(mut self) {
        self.served = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.world
            .queue(&self.model, |queue, _| queue.leave(self.key, self.served));
    }
}
