//! The doors of a simulated hub: how a request finds its model, and what it holds there.

use std::sync::Arc;

use super::Number;
use super::clock::{Bell, Clock};
use super::world::{SimulatedModel, SimulatedWorld};
use crate::config::Config;
use crate::core::admission::Doors;
use crate::core::{gate, place};
use crate::policy::{Policies, World as _};

/// A request that waits for the model to be loaded.
pub(super) type Arrival = place::Arrival<Arc<SimulatedModel>>;

/// A request that a policy told to wait before the model.
pub(super) type Ticket = place::Place<Arc<SimulatedModel>>;

/// A request that the model's worker answers.
pub(super) type Lease = gate::Lease<Clock>;

/// The doors, as one request finds them.
pub(super) struct DoorsOf {
    pub(super) world: Arc<SimulatedWorld>,
    pub(super) policies: Policies,
    pub(super) request: Number,
}

impl Doors for DoorsOf {
    type Model = Arc<SimulatedModel>;
    type Grant = Lease;

    fn find(&self, name_or_path: &str) -> Option<Arc<SimulatedModel>> {
        self.world.table().find(name_or_path).cloned()
    }

    fn config(&self) -> Arc<Config> {
        self.world.config()
    }

    fn declared(&self) -> Vec<String> {
        self.policies.declared_names()
    }

    fn try_acquire(&self, model: &Arc<SimulatedModel>) -> Option<Lease> {
        model.gate.try_enter()
    }

    fn bell(&self) -> Bell {
        self.world.clock.bell(Some(self.request))
    }
}
