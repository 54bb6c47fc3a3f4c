//! The legacy of a hub to its successor while both live: all facts about the models, and from then on the number
//! of requests it still serves.
//!
//! [`Lifecycle::freeze`](crate::hub::lifecycle::Lifecycle::freeze) makes a [`Legacy`], and the supervisor of the next hub takes it
//! over when it begins. The requests that the hub before serves are leases here, like any other: nothing is unloaded,
//! stopped or evicted under them, and all parts count them. It does not know how the two hubs talk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::gate::Lease;
use super::history::History;
use super::learned::Lessons;
use super::registry::Registry;
use crate::api::UsageTotals;
use crate::core::gate::GatePast;
use crate::core::machine::Past;
use crate::policy::Plain;
use crate::runtime_file::RuntimeModels;

/// The legacy.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Legacy {
    /// The workers, and the models that are started without one.
    pub found: RuntimeModels,
    /// Number of requests in flight.
    pub in_flight: InFlight,
    pub(in crate::hub) past: Vec<Past>,
    pub(in crate::hub) gates: BTreeMap<String, GatePast>,
    pub(in crate::hub) usage: BTreeMap<String, UsageTotals>,
    pub(in crate::hub) lessons: Lessons,
    pub(in crate::hub) ports: BTreeMap<String, u16>,
    pub(in crate::hub) state: Plain,
    /// None of a killed hub: what its file has is known already.
    #[serde(default)]
    pub(in crate::hub) history: Option<History>,
    #[serde(default)]
    pub(in crate::hub) is_drained: bool,
}

impl Legacy {
    /// The legacy of a killed hub: only its workers.
    pub fn of_killed(found: RuntimeModels) -> Self {
        Self {
            found,
            ..Self::default()
        }
    }
}

impl Legacy {
    /// The models that the hub before knew, unless it was killed.
    pub fn models(&self) -> impl Iterator<Item = String> {
        self.past.iter().map(|past| past.model().to_owned())
    }
}

/// Number of requests that a hub serves, by model; only models that have any.
pub type InFlight = BTreeMap<String, usize>;

/// A hub whose models stand still, for another one to take over or not. Dropped, it goes on.
#[derive(Debug)]
pub struct Frozen(pub(in crate::hub) oneshot::Sender<()>);

impl Frozen {
    /// Another hub has taken over: this one never touches a model again.
    pub fn give_away(self) {
        // The supervisor waits for it.
        let _ = self.0.send(());
    }
}

/// The leases of the requests that the hub before serves. Dropped, they are over.
#[derive(Debug)]
pub struct Held {
    registry: Arc<Registry>,
    models: HashMap<String, Vec<Lease>>,
}

impl Held {
    pub(in crate::hub) fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            models: HashMap::new(),
        }
    }

    /// As many leases as the hub before serves requests now.
    pub fn update(&mut self, now: &InFlight) {
        for (model, requests) in now {
            let gate = self.registry.gate(model);
            let leases = self.models.entry(model.clone()).or_default();
            leases.resize_with(*requests, || gate.lease_of_before());
        }
        self.models.retain(|model, _| now.contains_key(model));
    }
}

impl Registry {
    /// The requests that this hub serves, those of hubs before it among them.
    pub(in crate::hub) fn in_flight(&self) -> InFlight {
        let table = self.table.load();
        let of_models = table
            .all()
            .map(|model| (model.name.to_string(), Arc::clone(&model.gate)));
        let strangers = self.strangers.lock();
        let of_strangers = strangers
            .iter()
            .map(|(name, gate)| (name.clone(), Arc::clone(gate)));
        let all = of_models.chain(of_strangers);
        all.map(|(name, gate)| (name, gate.active()))
            .filter(|(_, requests)| *requests > 0)
            .collect()
    }

    /// All but the workers, of which the machine knows the `past`.
    pub(in crate::hub) fn legacy(
        &self,
        found: RuntimeModels,
        past: Vec<Past>,
        state: Plain,
    ) -> Legacy {
        let table = self.table.load();
        let models = || {
            let models = table.models.iter();
            models.map(|model| (model.name.to_string(), model))
        };
        let ports = self.ports.lock();
        Legacy {
            found,
            past,
            state,
            history: Some(self.history.lock().handed_on()),
            is_drained: self.membership.is_drained(),
            in_flight: self.in_flight(),
            gates: models()
                .map(|(name, model)| (name, model.gate.past()))
                .collect(),
            usage: models()
                .map(|(name, model)| (name, model.usage.totals()))
                .collect(),
            lessons: self.learned.lock().lessons(),
            ports: ports
                .all()
                .map(|(name, port)| (name.to_owned(), port))
                .collect(),
        }
    }

    /// Takes over what does not go through the machine.
    pub(in crate::hub) fn inherit(&self, legacy: &mut Legacy) {
        self.learned
            .lock()
            .inherit(std::mem::take(&mut legacy.lessons));
        self.relearn();
        self.membership.inherit(legacy.is_drained);
        if let Some(history) = legacy.history.take() {
            self.history.lock().inherit(history);
        }
        for model in &self.table.load().models {
            if let Some(past) = legacy.gates.get(&*model.name) {
                model.gate.inherit(*past);
            }
            if let Some(totals) = legacy.usage.get(&*model.name) {
                model.usage.inherit(totals);
            }
        }
    }
}
