//! Publishes the machine's facts in the registry, with one log line per change of state. The supervisor calls it
//! before it acts on a change.

use std::sync::Arc;

use super::trace;
use crate::api::{MemoryState, ModelFacts, ProcessState, SystemMemory, unix_now};
use crate::config::Config;
use crate::core::interface::event::Event;
use crate::core::machine::{Entry, Machine};
use crate::core::publish::{self, Publisher};
use crate::hub::published::registry::{Model, Registry};
use crate::policy::{EventName, Policies};
use crate::telemetry;

/// Publishes every model whose facts changed.
pub(super) fn publish(machine: &Machine, registry: &Registry, policies: &Policies) {
    let system = **registry.memory.load();
    publish_memory(machine, registry, system);
    let table = registry.table.load();
    let publishing = Publishing {
        config: &table.config,
        registry,
        policies,
    };
    publish::publish(machine, &table, &publishing);
}

struct Publishing<'a> {
    config: &'a Config,
    registry: &'a Registry,
    policies: &'a Policies,
}

impl Publisher for Publishing<'_> {
    type Model = Model;

    fn complete(&self, entry: &Entry, model: &Model, facts: ModelFacts) -> ModelFacts {
        let log_file = model.log_file(self.config);
        ModelFacts {
            load_seconds: load_seconds(entry, &model.facts.load(), self.registry),
            port: self.registry.ports.lock().port_of(&model.name),
            log_path: log_file
                .filter(|_| facts.log_path.is_some())
                .map(|file| file.display().to_string()),
            ..facts
        }
    }

    fn changes(&self, before: &ModelFacts, now: &ModelFacts, took: Option<f64>) {
        log_change(before, now, took);
        trace::load_ended(before, now, took);
    }

    fn tell(&self, model: &Model, event: Event, took: Option<f64>) {
        model.meters.changed(event.name, took);
        if event.name == EventName::ModelUnloaded {
            model.meters.evicted(&self.policies.eviction(&model.name));
        }
        self.policies.observe(event);
    }

    fn clock(&self) -> f64 {
        unix_now()
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
                let seconds = telemetry::seconds(seconds);
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
