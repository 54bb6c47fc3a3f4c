//! The list of models as Codex reads it, in `models` of the answer: one whose provider has `auth` asks for it, and
//! takes names, context lengths and what a model can do from there.
//!
//! Its fields are those of `ModelInfo` in `codex-rs/protocol/src/openai_models.rs` of Codex that have no default
//! there. Codex gives models of such a list no prompt of its own, so the list brings one; a user's
//! `model_instructions_file` replaces it.

use serde_json::{Value, json};

use crate::hub::gateway::catalogue::CatalogueEntry;

/// The agent's prompt.
const INSTRUCTIONS: &str = include_str!("codex_instructions.md");

/// Bytes of a tool's output that Codex sends to a model: its own limit for models that it does not know.
const TOOL_OUTPUT: u64 = 10_000;

/// Those that answer chats, in the list's order.
pub(super) fn models(entries: &[CatalogueEntry]) -> Vec<Value> {
    let models = entries.iter().filter(|entry| entry.chats());
    models
        .enumerate()
        .map(|(place, entry)| one(place, entry))
        .collect()
}

fn one(place: usize, entry: &CatalogueEntry) -> Value {
    let reads: &[&str] = match entry.kind() {
        "vlm" => &["text", "image"],
        _ => &["text"],
    };
    json!({
        "slug": entry.id,
        "display_name": entry.id,
        "description": entry.description,
        "supported_reasoning_levels": [],
        "shell_type": "default",
        "visibility": "list",
        "supported_in_api": true,
        "priority": place,
        "availability_nux": null,
        "upgrade": null,
        "base_instructions": INSTRUCTIONS,
        "support_verbosity": false,
        "default_verbosity": null,
        "apply_patch_tool_type": null,
        "truncation_policy": {"mode": "bytes", "limit": TOOL_OUTPUT},
        "supports_parallel_tool_calls": false,
        "context_window": entry.context_length(),
        "max_context_window": entry.context_length(),
        "experimental_supported_tools": [],
        "input_modalities": reads,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ModelFacts;
    use crate::hub::gateway::catalogue::Status;

    #[test]
    fn models_that_chat_are_listed_with_what_they_read_and_how_much_of_it() {
        let entry = |name: &str, model_type: &'static str| {
            let facts = ModelFacts {
                name: name.to_owned(),
                model_type: model_type.into(),
                context_length: 32_768,
                ..ModelFacts::default()
            };
            CatalogueEntry::of_facts(facts, Status::Loadable)
        };
        let entries = [
            entry("embedder", "embeddings"),
            entry("text", "lm"),
            entry("eyes", "multimodal"),
            CatalogueEntry::of_name("auto", "the smallest that fits"),
        ];
        let shown = models(&entries);
        let of = |place: usize| {
            let fields = [
                "slug",
                "priority",
                "context_window",
                "input_modalities",
                "description",
            ];
            json!(fields.map(|field| &shown[place][field]))
        };
        assert_eq!(shown.len(), 3);
        assert_eq!(of(0), json!(["text", 0, 32_768, ["text"], null]));
        assert_eq!(of(1), json!(["eyes", 1, 32_768, ["text", "image"], null]));
        assert_eq!(
            of(2),
            json!(["auto", 2, null, ["text"], "the smallest that fits"])
        );
    }
}
