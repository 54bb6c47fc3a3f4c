//! The facts about a model, derived from the machine, and the events of their changes.

use super::machine::Entry;
use crate::api::{MemoryState, ModelFacts, ProcessState};
use crate::config::{Config, ModelConfig};
use crate::core::interface::event::{Event, EventName, ModelEvent};

/// Derives the facts about a model that hub.yaml names.
pub(crate) fn of(entry: &Entry, model: &ModelConfig, config: &Config) -> ModelFacts {
    ModelFacts {
        process_state: entry.process_state(),
        memory_state: entry.memory_state(),
        memory_last_transition_at: entry.times.memory_changed,
        memory_last_error: entry.error.clone(),
        last_load_at: entry.times.loaded,
        last_unload_at: entry.times.unloaded,
        load_seconds: entry.times.load_took,
        pid: entry.pid,
        started_at: entry.times.started,
        stopped_at: entry.times.stopped,
        exit_code: entry.exit_code,
        loaded_since: entry.times.loaded_since,
        ..ModelFacts::configured(model, &config.log_path)
    }
}

/// The events of a change, in the order in which it happens: up from the process, down to it.
/// A load that has ended took so many seconds, if this hub began it. `time` is Unix time.
pub(crate) fn events(
    before: &ModelFacts,
    now: &ModelFacts,
    took: Option<f64>,
    time: f64,
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
            time,
        )
    })
}

/// Derives those about a model that hub.yaml no longer names and that has ended; `None` if its end is known.
pub(crate) fn of_gone(before: &ModelFacts) -> Option<ModelFacts> {
    let was_up = matches!(
        before.process_state,
        ProcessState::Running | ProcessState::Starting | ProcessState::Stopping
    );
    was_up.then(|| ModelFacts {
        process_state: ProcessState::Stopped,
        memory_state: MemoryState::Unloaded,
        pid: None,
        loaded_since: None,
        ..before.clone()
    })
}
