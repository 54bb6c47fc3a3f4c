//! Copies changed facts from the machine to the registry, with one log line and one event for the observers per
//! change of state. The supervisor calls it before it acts on a change.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::api::{ApiError, MemoryState, ModelFacts, ProcessState, SystemMemory, unix_now};
use crate::core::facts;
use crate::core::machine::{Entry, Machine};
use crate::hub::published::registry::{Registry, Table};
use crate::policy::Policies;

/// Publishes every model whose facts changed.
pub(super) fn publish(machine: &Machine, registry: &Registry, policies: &Policies) {
    let system = **registry.memory.load();
    publish_memory(machine, registry, system);
    let table = registry.table.load();
    for entry in machine.entries() {
        let (Some(model), Some(config)) = (
            table.find(&entry.spec.name),
            table.config.model(&entry.spec.name),
        ) else {
            continue;
        };
        if model.stops.swap(entry.stops, Ordering::SeqCst) != entry.stops {
            // Requests that waited for a verdict about it wait in vain, like those that waited for a load.
            model
                .gate
                .parking
                .dismiss(&ApiError::being_stopped(&model.name));
        }
        let before = model.facts.load();
        let port = registry.ports.lock().port_of(&entry.spec.name);
        let facts = facts::of(entry, config, &table.config, port);
        let log_file = model.log_file(&table.config);
        let facts = ModelFacts {
            load_seconds: load_seconds(entry, &before, registry),
            log_path: log_file
                .filter(|_| facts.log_path.is_some())
                .map(|file| file.display().to_string()),
            ..facts
        };
        if **before == facts {
            continue;
        }
        let took = entry.times.load_took;
        log_change(&before, &facts, took);
        let events = facts::events(&before, &facts, took, unix_now());
        model.facts.store(Arc::new(facts));
        model.gate.parking.changed();
        // Only now: an observer that looks at the model finds it in its new state.
        for event in events {
            model.meters.changed(event.name, took);
            policies.observe(event);
        }
    }
    publish_gone(machine, &table, policies);
}

/// Those that hub.yaml no longer names and that have ended: observers that heard of them hear the end.
fn publish_gone(machine: &Machine, table: &Table, policies: &Policies) {
    for model in table.leaving() {
        let before = model.facts.load();
        let Some(facts) = facts::of_gone(&before).filter(|_| !machine.is_ending(&model.name))
        else {
            continue;
        };
        log_change(&before, &facts, None);
        let events = facts::events(&before, &facts, None, unix_now());
        model.facts.store(Arc::new(facts));
        for event in events {
            model.meters.changed(event.name, None);
            policies.observe(event);
        }
    }
}

/// Publishes what the machine has, with what is on its way back.
pub(super) fn publish_memory(machine: &Machine, registry: &Registry, system: SystemMemory) {
    let now = SystemMemory {
        returning: machine.returning(system.available),
        spares: registry.spares.bytes(),
        ..system
    };
    if **registry.memory.load() != now {
        registry.memory.store(Arc::new(now));
    }
}

/// The time of the last load. One that has just ended is learned.
fn load_seconds(entry: &Entry, before: &ModelFacts, registry: &Registry) -> Option<f64> {
    let mut learned = registry.learned.lock();
    if let Some(took) = entry.times.load_took
        && before.last_load_at != entry.times.loaded
    {
        learned.note_load(&entry.spec.name, took);
    }
    learned.load_seconds(&entry.spec.name)
}

/// One line for the process and one for the memory, where they changed, or for a start that was
/// refused. `took` is as for the events.
fn log_change(before: &ModelFacts, now: &ModelFacts, took: Option<f64>) {
    let group = now.group.as_deref();
    // A reason may hold the end of the worker's log: in the hub's it stays one line.
    let reason = now.memory_last_error.as_deref().unwrap_or_default();
    let reason = reason.replace('\n', " | ");
    let (process, memory) = (now.process_state.as_str(), now.memory_state.as_str());
    if before.process_state != now.process_state {
        if now.process_state == ProcessState::Failed {
            tracing::error!(hub_model = %now.name, hub_group = group, exit_code = now.exit_code, "process {process}: {reason}");
        } else {
            tracing::info!(hub_model = %now.name, hub_group = group, pid = now.pid, port = now.port, "process {process}");
        }
    }
    if before.memory_state != now.memory_state {
        match (now.memory_state, took) {
            (MemoryState::Failed, _) if now.process_state == ProcessState::Failed => {}
            (MemoryState::Failed, _) => {
                tracing::error!(hub_model = %now.name, hub_group = group, pid = now.pid, "memory {memory}: {reason}");
            }
            (MemoryState::Loaded, Some(seconds)) => {
                tracing::info!(hub_model = %now.name, hub_group = group, pid = now.pid, seconds, "memory {memory}");
            }
            _ => tracing::info!(hub_model = %now.name, hub_group = group, "memory {memory}"),
        }
    }
    let is_new = before.memory_last_error != now.memory_last_error;
    if is_new && !reason.is_empty() && now.memory_state != MemoryState::Failed {
        tracing::warn!(hub_model = %now.name, hub_group = group, "not started: {reason}");
    }
}
