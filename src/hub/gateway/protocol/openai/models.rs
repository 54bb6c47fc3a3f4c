//! `GET /v1/models` and `GET /v1/models/{id}`: the models that take requests, started or starting, in
//! OpenAI's form. Looking loads nothing.

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::api::{ApiError, MemoryState, ModelFacts, ProcessState};
use crate::core::refusals::unknown_model;
use crate::hub::gateway::refusals;
use crate::hub::lifecycle::{Lifecycle, Model};

/// The list of models that take requests.
pub(crate) fn list(lifecycle: &Lifecycle) -> Value {
    let created = lifecycle.config().modified_at;
    let data: Vec<Value> = lifecycle
        .models()
        .iter()
        .filter_map(|model| entry_of(model, created))
        .collect();
    json!({"object": "list", "data": data})
}

/// One of them, by the name or path at the end of the request's path.
///
/// # Errors
/// 404 when there is none.
pub(crate) fn one(lifecycle: &Lifecycle, id: &str) -> Result<Value, ApiError> {
    let id = percent_decode_str(id).decode_utf8_lossy();
    let config = lifecycle.config();
    let model = lifecycle
        .find(&id)
        .ok_or_else(|| unknown_model(&id, &config))?;
    entry_of(&model, config.modified_at).ok_or_else(|| refusals::not_listed(&model.name))
}

/// `None` when the model takes no requests.
fn entry_of(model: &Model, created: u64) -> Option<Value> {
    let facts = model.facts.load();
    let takes_requests = matches!(
        facts.process_state,
        ProcessState::Starting | ProcessState::Running
    );
    takes_requests.then(|| {
        entry(
            &facts,
            model.gate.active(),
            model.gate.last_used_at(),
            created,
        )
    })
}

fn entry(facts: &ModelFacts, active: usize, last_request: Option<f64>, created: u64) -> Value {
    let status = match facts.memory_state {
        MemoryState::Loaded => "loaded",
        MemoryState::Loading => "loading",
        _ if facts.process_state == ProcessState::Starting => "loading",
        MemoryState::Unloaded | MemoryState::Unloading | MemoryState::Failed => "unloaded",
    };
    let loaded = facts.memory_state == MemoryState::Loaded;
    json!({
        "id": facts.name,
        "object": "model",
        "created": seconds(facts.started_at).unwrap_or(created),
        "owned_by": "local",
        "metadata": {
            "model_type": facts.model_type,
            "context_length": facts.context_length,
            "status": status,
            "vram_loaded": loaded,
            "vram_last_load_ts": seconds(facts.last_load_at),
            "vram_last_unload_ts": seconds(facts.last_unload_at),
            "vram_last_request_ts": seconds(last_request),
            "vram_load_error": facts.memory_last_error,
            "active_requests": active,
        },
    })
}

/// Whole Unix seconds, as OpenAI has them.
fn seconds(time: Option<f64>) -> Option<u64> {
    time.map(|time| time as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_fields_of_the_contract() {
        let mut facts = ModelFacts {
            name: "alpha".to_owned(),
            model_type: "lm".into(),
            context_length: 32768,
            memory_state: MemoryState::Loaded,
            started_at: Some(1_764_000_000.9),
            last_load_at: Some(1_764_000_001.5),
            ..ModelFacts::default()
        };
        let expected = json!({
            "id": "alpha", "object": "model", "created": 1_764_000_000, "owned_by": "local",
            "metadata": {
                "model_type": "lm", "context_length": 32768, "status": "loaded", "vram_loaded": true,
                "vram_last_load_ts": 1_764_000_001, "vram_last_unload_ts": null,
                "vram_last_request_ts": 1_764_000_002, "vram_load_error": null, "active_requests": 2,
            },
        });
        assert_eq!(entry(&facts, 2, Some(1_764_000_002.0), 7), expected);

        facts.memory_state = MemoryState::Failed;
        facts.memory_last_error = Some("no memory".to_owned());
        facts.started_at = None;
        let failed = entry(&facts, 0, None, 7);
        assert_eq!(failed["created"], 7);
        assert_eq!(failed["metadata"]["status"], "unloaded");
        assert_eq!(failed["metadata"]["vram_load_error"], "no memory");
    }

    #[test]
    fn a_model_that_starts_is_shown_as_loading() {
        use {MemoryState as Memory, ProcessState as Process};
        for (process_state, memory_state, status) in [
            (Process::Starting, Memory::Loading, "loading"),
            // A JIT model whose worker comes up, and one that waits for memory.
            (Process::Starting, Memory::Unloaded, "loading"),
            (Process::Running, Memory::Loading, "loading"),
            (Process::Running, Memory::Unloading, "unloaded"),
            (Process::Running, Memory::Unloaded, "unloaded"),
        ] {
            let facts = ModelFacts {
                process_state,
                memory_state,
                ..ModelFacts::default()
            };
            let shown = entry(&facts, 0, None, 7);
            assert_eq!(
                shown["metadata"]["status"], status,
                "{process_state:?} {memory_state:?}"
            );
            assert_eq!(shown["metadata"]["vram_loaded"], false);
        }
    }
}
