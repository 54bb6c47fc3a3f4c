//! From the machine to the registry: facts that changed, with one log line and one event for the
//! observers per change of state. The supervisor calls it before it acts on what changed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::registry::{Registry, Table};
use crate::api_error::ApiError;
use crate::config::{Config, ModelConfig};
use crate::core::machine::{Entry, Machine};
use crate::memory::SystemMemory;
use crate::policy::{Event, EventName, ModelEvent, Policies};
use crate::status::{MemoryState, ModelFacts, ProcessState};

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
            // Whoever waited for a verdict about it waits in vain, like those who waited for a load.
            model
                .gate
                .parking
                .dismiss(&ApiError::being_stopped(&model.name));
        }
        let before = model.facts.load();
        let facts = ModelFacts {
            load_seconds: load_seconds(entry, &before, registry),
            ..facts(
                entry,
                config,
                &table.config,
                registry.ports.lock().port_of(&entry.spec.name),
            )
        };
        if **before == facts {
            continue;
        }
        let took = entry.times.load_took;
        log_change(&before, &facts, took);
        let events = events(&before, &facts, took);
        model.facts.store(Arc::new(facts));
        model.gate.parking.changed();
        // Only now: an observer that looks at the model finds it in its new state.
        events.for_each(|event| policies.observe(event));
    }
    publish_gone(machine, &table, policies);
}

/// Those that hub.yaml no longer names and that have ended: observers that heard of them hear the end.
fn publish_gone(machine: &Machine, table: &Table, policies: &Policies) {
    for model in table.leaving() {
        let before = model.facts.load();
        let was_up = matches!(
            before.process_state,
            ProcessState::Running | ProcessState::Starting | ProcessState::Stopping
        );
        if !was_up || machine.is_ending(&model.name) {
            continue;
        }
        let facts = ModelFacts {
            process_state: ProcessState::Stopped,
            memory_state: MemoryState::Unloaded,
            pid: None,
            loaded_since: None,
            ..ModelFacts::clone(&before)
        };
        log_change(&before, &facts, None);
        let events = events(&before, &facts, None);
        model.facts.store(Arc::new(facts));
        events.for_each(|event| policies.observe(event));
    }
}

/// Publishes what the machine has, with what is on its way back.
pub(super) fn publish_memory(machine: &Machine, registry: &Registry, system: SystemMemory) {
    let now = SystemMemory {
        returning: machine.returning(system.available),
        ..system
    };
    if **registry.memory.load() != now {
        registry.memory.store(Arc::new(now));
    }
}

/// How long the last load took. One that has just ended is learned.
fn load_seconds(entry: &Entry, before: &ModelFacts, registry: &Registry) -> Option<f64> {
    let mut learned = registry.learned.lock();
    if let Some(took) = entry.times.load_took
        && before.last_load_at != entry.times.loaded
    {
        learned.note_load(&entry.spec.name, took);
    }
    learned.load_seconds(&entry.spec.name)
}

/// What everybody sees of a model.
pub(crate) fn facts(
    entry: &Entry,
    model: &ModelConfig,
    config: &Config,
    port: Option<u16>,
) -> ModelFacts {
    ModelFacts {
        process_state: entry.process_state(),
        memory_state: entry.memory_state(),
        memory_last_transition_at: entry.times.memory_changed,
        memory_last_error: entry.error.clone(),
        last_load_at: entry.times.loaded,
        last_unload_at: entry.times.unloaded,
        load_seconds: entry.times.load_took,
        pid: entry.pid,
        port,
        started_at: entry.times.started,
        stopped_at: entry.times.stopped,
        exit_code: entry.exit_code,
        loaded_since: entry.times.loaded_since,
        ..ModelFacts::configured(model, &config.log_path)
    }
}

/// What observers hear of a change, in the order in which it happens: up from the process, down to it.
/// A load that has ended took so many seconds, if this hub began it.
pub(crate) fn events(
    before: &ModelFacts,
    now: &ModelFacts,
    took: Option<f64>,
) -> impl Iterator<Item = Event> + use<> {
    use EventName::{
        ModelFailed, ModelLoaded, ModelLoading, ModelStarted, ModelStopped, ModelUnloaded,
    };
    let process = Some(now.process_state).filter(|state| before.process_state != *state);
    let memory = Some(now.memory_state).filter(|state| before.memory_state != *state);
    let started = (process == Some(ProcessState::Running)).then_some(ModelStarted);
    let in_memory = match memory {
        Some(MemoryState::Loading) => Some(ModelLoading),
        Some(MemoryState::Loaded) => Some(ModelLoaded),
        Some(MemoryState::Unloaded) if before.memory_state.holds_memory() => Some(ModelUnloaded),
        _ => None,
    };
    let ended = match (process, memory) {
        (Some(ProcessState::Failed), _) | (_, Some(MemoryState::Failed)) => Some(ModelFailed),
        (Some(ProcessState::Stopped), _) => Some(ModelStopped),
        _ => None,
    };
    let (model, error) = (now.name.clone(), now.memory_last_error.clone());
    let names = [started, in_memory, ended].into_iter().flatten();
    names.map(move |name| {
        Event::of_model(
            name,
            ModelEvent {
                model: model.clone(),
                error: error.clone().filter(|_| name == ModelFailed),
                seconds: took.filter(|_| name == ModelLoaded),
            },
        )
    })
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
