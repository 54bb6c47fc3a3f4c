//! The doors of a simulated hub: how a request is counted at a model. A lease is counted until it is dropped, as
//! in the real hub.

use std::sync::Arc;
use std::time::Duration;

use super::Number;
use super::world::SimulatedWorld;
use crate::config::Config;
use crate::core::admission::{Doors, Seen};
use crate::core::place::{self, Destination, Place};
use crate::core::queue::{About, Queue};
use crate::core::refusals::load_ahead;
use crate::policy::World as _;

/// The doors, as one request finds them.
pub(super) struct DoorsOf {
    pub(super) world: Arc<SimulatedWorld>,
    pub(super) request: Number,
}

/// A model, as requests find it.
#[derive(Debug, Clone)]
pub(super) struct AtModel {
    world: Arc<SimulatedWorld>,
    name: String,
}

/// A request that waits for the model to be loaded.
pub(super) type Arrival = place::Arrival<AtModel>;

/// A request that a policy told to wait before the model.
pub(super) type Ticket = Place<AtModel>;

/// A request that the model's worker answers.
#[derive(Debug)]
pub(super) struct Lease(AtModel);

impl Lease {
    /// If the model lets requests in.
    pub(super) fn enter(at: &AtModel) -> Option<Self> {
        at.use_now(|model| {
            model.active += usize::from(model.is_open);
            model.is_open
        })
        .then(|| Self(at.clone()))
    }

    /// The model's name.
    pub(super) fn model(&self) -> &str {
        &self.0.name
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.use_now(|model| {
            model.active -= 1;
            model.given_back += 1;
            true
        });
        self.0.world.queue(&self.0.name, |queue, _| queue.change());
    }
}

impl AtModel {
    /// Takes or gives back a lease; notes that it was used if that is so.
    fn use_now(&self, change: impl FnOnce(&mut super::world::Model) -> bool) -> bool {
        let (now, unix) = (self.world.now(), self.world.clock());
        let used = self.world.at(&self.name, |model| {
            let is_used = change(model);
            if is_used {
                model.last_request_at = Some(unix);
                model.last_active = now;
            }
            is_used
        });
        used.unwrap_or_default()
    }
}

impl Doors for DoorsOf {
    type Model = AtModel;
    type Grant = Lease;

    fn find(&self, name_or_path: &str) -> Option<AtModel> {
        let facts = self.world.facts(name_or_path)?;
        Some(AtModel {
            world: Arc::clone(&self.world),
            name: facts.name.clone(),
        })
    }

    fn config(&self) -> Arc<Config> {
        self.world.config()
    }

    fn try_acquire(&self, model: &AtModel) -> Option<Lease> {
        Lease::enter(model)
    }

    fn bell(&self) -> Number {
        self.request
    }
}

impl Destination for AtModel {
    type Bell = Number;

    fn name(&self) -> &str {
        &self.name
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name
    }

    fn now(&self) -> Duration {
        self.world.now()
    }

    fn seen(&self) -> Seen {
        let seen = self.world.at(&self.name, |model| Seen {
            stops: model.stops,
            changes: (model.changes, model.given_back),
        });
        seen.unwrap_or_default()
    }

    fn arrived(&self) {
        self.world.at(&self.name, |model| model.waiting += 1);
    }

    fn left(&self) {
        self.world.at(&self.name, |model| model.waiting -= 1);
        self.world.changed(&self.name);
    }

    fn with_queue<R>(&self, look: impl FnOnce(&mut Queue<Number>, About<'_>) -> R) -> R {
        let looked = self.world.at(&self.name, |model| {
            let about = About {
                model: &self.name,
                load: load_ahead(&model.facts),
            };
            look(&mut model.queue, about)
        });
        looked.expect("a world forgets no model")
    }

    fn tell(&self, request: Number) {
        self.world.with(|state| state.told.push_back(request));
    }
}
