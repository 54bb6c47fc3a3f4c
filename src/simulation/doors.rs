//! The doors of a simulated hub: how a request finds its model, and what wakes it while it waits there.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Number;
use super::world::{Clock, SimulatedModel, SimulatedWorld};
use crate::config::Config;
use crate::core::admission::Doors;
use crate::core::{gate, place};

/// The doors, as one request finds them.
pub(super) struct DoorsOf {
    pub(super) world: Arc<SimulatedWorld>,
    pub(super) request: Number,
}

/// A request that waits for the model to be loaded.
pub(super) type Arrival = place::Arrival<Arc<SimulatedModel>>;

/// A request that a policy told to wait before the model.
pub(super) type Ticket = place::Place<Arc<SimulatedModel>>;

/// A request that the model's worker answers.
pub(super) type Lease = gate::Lease<Clock>;

/// The rung bells, oldest first.
pub(super) type Rung = Arc<Mutex<VecDeque<Woken>>>;

/// Whom a bell wakes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Woken {
    /// A parked request, to look at the decision about it.
    Request(Number),
    /// The machine: a model has no request in flight any more, while a load is parked.
    Idle,
}

#[derive(Debug, Clone)]
pub(super) struct Bell(pub(super) Rung, pub(super) Woken);

impl gate::Bell for Bell {
    fn ring(&self) {
        self.0.lock().push_back(self.1);
    }
}

impl Doors for DoorsOf {
    type Model = Arc<SimulatedModel>;
    type Grant = Lease;

    fn find(&self, name_or_path: &str) -> Option<Arc<SimulatedModel>> {
        self.world.table().find(name_or_path).cloned()
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.world.table().config)
    }

    fn declared(&self) -> Vec<String> {
        self.world.declared.lock().clone()
    }

    fn try_acquire(&self, model: &Arc<SimulatedModel>) -> Option<Lease> {
        model.gate.try_enter()
    }

    fn bell(&self) -> Bell {
        self.world.bell(Woken::Request(self.request))
    }
}
