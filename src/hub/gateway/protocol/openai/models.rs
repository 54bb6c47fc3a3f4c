//! `GET /v1/models` and `GET /v1/models/{id}` in OpenAI's form, with what other programs look for in it:
//! `max_model_len` is vLLM's, `max_context_length` and `type` are LM Studio's, `metadata` is Create-hub's.

use serde_json::{Value, json};

use super::codex;
use crate::api::{MemoryState, ModelFacts, ProcessState};
use crate::hub::gateway::catalogue::{CatalogueEntry, Status};

/// The list, and beside it the same models as Codex reads them.
pub(crate) fn list(entries: &[CatalogueEntry]) -> Value {
    let data: Vec<Value> = entries.iter().map(one).collect();
    json!({"object": "list", "data": data, "models": codex::models(entries)})
}

/// One of its lines.
pub(crate) fn one(entry: &CatalogueEntry) -> Value {
    let mut shown = json!({
        "id": entry.id,
        "object": "model",
        "created": entry.created,
        "owned_by": "local",
        "type": entry.kind(),
    });
    if let Some(description) = &entry.description {
        shown["description"] = json!(description);
    }
    shown["status"] = json!(entry.status().map(word));
    match entry.status() {
        Some(Status::Loading(left)) => shown["expected_seconds"] = json!(left),
        Some(Status::Blocked(why)) => shown["blocked_reason"] = json!(why),
        _ => {}
    }
    if let (Some(length), Some(max)) = (entry.context_length(), entry.max_context_length()) {
        shown["context_length"] = json!(length);
        shown["max_model_len"] = json!(length);
        shown["max_context_length"] = json!(max);
    }
    if let Some(facts) = &entry.facts {
        shown["metadata"] = metadata(facts, entry.active_requests(), entry.last_used_at());
    }
    shown
}

fn word(status: &Status) -> &'static str {
    match status {
        Status::Loaded => "loaded",
        Status::Loading(_) => "loading",
        Status::Loadable => "loadable",
        Status::Blocked(_) => "blocked",
    }
}

/// As the contract has it.
fn metadata(facts: &ModelFacts, active: usize, last_request: Option<f64>) -> Value {
    let status = match facts.memory_state {
        MemoryState::Loaded => "loaded",
        MemoryState::Loading => "loading",
        _ if facts.process_state == ProcessState::Starting => "loading",
        MemoryState::Unloaded | MemoryState::Unloading | MemoryState::Failed => "unloaded",
    };
    json!({
        "model_type": facts.model_type,
        "context_length": facts.context_length,
        "status": status,
        "vram_loaded": facts.memory_state == MemoryState::Loaded,
        "vram_last_load_ts": seconds(facts.last_load_at),
        "vram_last_unload_ts": seconds(facts.last_unload_at),
        "vram_last_request_ts": seconds(last_request),
        "vram_load_error": facts.memory_last_error,
        "active_requests": active,
    })
}

/// Whole Unix seconds, as OpenAI has them.
fn seconds(time: Option<f64>) -> Option<u64> {
    time.map(|time| time as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alpha() -> ModelFacts {
        ModelFacts {
            name: "alpha".to_owned(),
            model_type: "lm".into(),
            context_length: 32_768,
            memory_state: MemoryState::Loaded,
            started_at: Some(1_764_000_000.9),
            last_load_at: Some(1_764_000_001.5),
            ..ModelFacts::default()
        }
    }

    #[test]
    fn a_line_has_the_fields_of_the_contract_and_those_that_other_programs_look_for() {
        let entry = CatalogueEntry::of_facts(alpha(), Status::Loaded).made_for(262_144);
        let expected = json!({
            "id": "alpha", "object": "model", "created": 1_764_000_000, "owned_by": "local",
            "type": "llm", "status": "loaded",
            "context_length": 32_768, "max_model_len": 32_768, "max_context_length": 262_144,
            "metadata": {
                "model_type": "lm", "context_length": 32_768, "status": "loaded", "vram_loaded": true,
                "vram_last_load_ts": 1_764_000_001, "vram_last_unload_ts": null,
                "vram_last_request_ts": null, "vram_load_error": null, "active_requests": 0,
            },
        });
        assert_eq!(one(&entry), expected);

        let mut facts = alpha();
        facts.memory_state = MemoryState::Failed;
        facts.memory_last_error = Some("no memory".to_owned());
        let failed = metadata(&facts, 2, Some(1_764_000_002.0));
        assert_eq!(failed["status"], "unloaded");
        assert_eq!(failed["vram_load_error"], "no memory");
        assert_eq!(
            (&failed["active_requests"], &failed["vram_last_request_ts"]),
            (&json!(2), &json!(1_764_000_002))
        );
    }

    #[test]
    fn each_status_has_its_word_and_its_reason() {
        for (status, shown) in [
            (Status::Loading(Some(30)), json!(["loading", 30, null])),
            (Status::Loading(None), json!(["loading", null, null])),
            (Status::Loadable, json!(["loadable", null, null])),
            (
                Status::Blocked("full".to_owned()),
                json!(["blocked", null, "full"]),
            ),
        ] {
            let line = one(&CatalogueEntry::of_facts(alpha(), status));
            let fields = ["status", "expected_seconds", "blocked_reason"];
            assert_eq!(json!(fields.map(|field| &line[field])), shown);
        }
        let loadable = one(&CatalogueEntry::of_facts(alpha(), Status::Loadable));
        assert!(loadable.get("blocked_reason").is_none());
    }

    #[test]
    fn a_name_of_which_no_more_is_known_claims_nothing() {
        let expected = json!({
            "id": "auto", "object": "model", "created": 7, "owned_by": "local", "type": "llm",
            "description": "the smallest that fits", "status": null,
        });
        assert_eq!(
            one(&CatalogueEntry::of_name("auto", "the smallest that fits")),
            expected
        );
    }

    #[test]
    fn metadata_shows_a_model_that_starts_as_loading() {
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
            let shown = metadata(&facts, 0, None);
            assert_eq!(
                shown["status"], status,
                "{process_state:?} {memory_state:?}"
            );
            assert_eq!(shown["vram_loaded"], false);
        }
    }
}
