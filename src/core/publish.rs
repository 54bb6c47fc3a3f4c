//! Copies changed facts from the machine to the models that everybody sees, with one event for the observers per
//! change of state. A hub calls it before it acts on a change.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::facts;
use super::gate::Runtime;
use super::machine::{Entry, Machine};
use super::model::Model;
use super::table::ModelTable;
use crate::api::{ApiError, ModelFacts};
use crate::core::interface::event::Event;

/// A hub that adds to the facts and acts on their changes.
pub(crate) trait Publisher {
    /// The hub's own type of models.
    type Model;

    /// The facts with what the machine does not know.
    fn complete(&self, _: &Entry, _: &Self::Model, facts: ModelFacts) -> ModelFacts {
        facts
    }
    /// The facts change; a load that has ended took so many seconds.
    fn changes(&self, _before: &ModelFacts, _now: &ModelFacts, _took: Option<f64>) {}
    /// Tells the observers.
    fn tell(&self, model: &Self::Model, event: Event, took: Option<f64>);
    /// The hub's clock: Unix seconds.
    fn clock(&self) -> f64;
}

/// Publishes every model whose facts changed.
pub(crate) fn publish<P, R>(machine: &Machine, table: &ModelTable<P::Model>, hub: &P)
where
    P: Publisher,
    P::Model: Deref<Target = Model<R>>,
    R: Runtime,
{
    for entry in machine.entries() {
        let name = &entry.spec.name;
        let (Some(model), Some(config)) = (table.find(name), table.config.model(name)) else {
            continue;
        };
        if model.stops.swap(entry.stops, Ordering::SeqCst) != entry.stops {
            // Requests that waited for a verdict about it wait in vain, like those that waited for a load.
            let why = ApiError::being_stopped(name);
            model.gate.parking.dismiss(&why);
        }
        let facts = facts::of(entry, config, &table.config);
        let facts = hub.complete(entry, model, facts);
        show(hub, model, facts, entry.times.load_took);
    }
    // Those that hub.yaml no longer names and that have ended: observers that heard of them hear the end.
    for model in table.leaving() {
        if let Some(facts) = facts::of_gone(&model.facts.load())
            && !machine.is_ending(&model.name)
        {
            show(hub, model, facts, None);
        }
    }
}

fn show<P, R>(hub: &P, model: &P::Model, facts: ModelFacts, took: Option<f64>)
where
    P: Publisher,
    P::Model: Deref<Target = Model<R>>,
    R: Runtime,
{
    let before = model.facts.load();
    if **before == facts {
        return;
    }
    hub.changes(&before, &facts, took);
    let events = facts::events(&before, &facts, took, hub.clock());
    model.facts.store(Arc::new(facts));
    model.gate.parking.changed();
    // Only now: an observer that looks at the model finds it in its new state.
    for event in events {
        hub.tell(model, event, took);
    }
}
