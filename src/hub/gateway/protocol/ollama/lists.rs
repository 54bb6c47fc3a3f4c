//! Ollama's lists of the models: those that take requests, those that are in memory, and one of
//! them. Looking loads nothing.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::fields::Field;
use super::request::model;
use crate::api::{ApiError, MemoryState, ModelFacts};
use crate::core::refusals::unknown_model;
use crate::hub::lifecycle::{Lifecycle, Model};

/// A version whose clients find all that they need.
const VERSION: &str = "0.13.0";

/// Of a model that stays until it is asked to go.
const FOR_EVER: &str = "2318-01-01T00:00:00Z";

pub(in crate::hub::gateway) fn version() -> Value {
    json!({"version": VERSION})
}

/// The models that take requests.
pub(in crate::hub::gateway) fn tags(lifecycle: &Lifecycle) -> Value {
    let modified_at = written(lifecycle.config().modified_at);
    let models: Vec<Value> = started(lifecycle)
        .map(|model| {
            let mut entry = entry(&model.facts.load(), bytes(&model));
            entry["modified_at"] = json!(modified_at);
            entry
        })
        .collect();
    json!({"models": models})
}

/// Those that are in memory.
pub(in crate::hub::gateway) fn running(lifecycle: &Lifecycle) -> Value {
    let models: Vec<Value> = started(lifecycle)
        .filter(|model| model.facts.load().memory_state == MemoryState::Loaded)
        .map(|model| {
            let facts = model.facts.load();
            let mut entry = entry(&facts, bytes(&model));
            entry["size_vram"] = entry["size"].clone();
            let wished = model.keep_alive(&facts);
            entry["expires_at"] = json!(expires_at(&facts, model.gate.last_used_at(), wished));
            entry["context_length"] = json!(facts.context_length);
            entry
        })
        .collect();
    json!({"models": models})
}

/// All that is known of one.
///
/// # Errors
/// 400 for what is no request, 404 for a model that there is not.
pub(in crate::hub::gateway) fn show(
    lifecycle: &Lifecycle,
    body: &Value,
) -> Result<Value, ApiError> {
    let field = Field::root(body);
    field.object()?;
    let name = model(&field)?;
    let config = lifecycle.config();
    let model = lifecycle
        .find(name)
        .ok_or_else(|| unknown_model(name, &config))?;
    let facts = model.facts.load();
    let capabilities: &[&str] = match &*facts.model_type {
        "lm" => &["completion", "tools"],
        "multimodal" => &["completion", "tools", "vision"],
        "embeddings" => &["embedding"],
        _ => &[],
    };
    Ok(json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(),
        "model_info": {
            "general.architecture": "mlx",
            "general.basename": facts.name,
            "mlx.context_length": facts.context_length,
        },
        "capabilities": capabilities,
        "modified_at": written(config.modified_at),
    }))
}

fn started(lifecycle: &Lifecycle) -> impl Iterator<Item = std::sync::Arc<Model>> {
    let models = lifecycle.models().into_iter();
    models.filter(|model| model.facts.load().is_started())
}

fn entry(facts: &ModelFacts, bytes: u64) -> Value {
    json!({
        "name": facts.name,
        "model": facts.name,
        "size": bytes,
        "digest": digest(&facts.name),
        "details": details(),
    })
}

/// The most that it has held, as its size on the disk is nobody's business here.
fn bytes(model: &Model) -> u64 {
    let activity = model.activity();
    activity.memory_bytes.or(activity.peak_bytes).unwrap_or(0)
}

/// Clients tell models apart by it, and show how it begins.
fn digest(name: &str) -> String {
    let mut digest: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    digest.truncate(64);
    format!("{digest:0<64}")
}

fn details() -> Value {
    let mut details = Map::new();
    for key in [
        "parent_model",
        "family",
        "parameter_size",
        "quantization_level",
    ] {
        details.insert(key.to_owned(), json!(""));
    }
    details.insert("format".to_owned(), json!("mlx"));
    details.insert("families".to_owned(), json!([]));
    Value::Object(details)
}

/// By what hub.yaml says, or the last client `wished`, in seconds, whichever is earlier.
fn expires_at(facts: &ModelFacts, last_used: Option<f64>, wished: Option<f64>) -> String {
    let since = last_used
        .unwrap_or(0.0)
        .max(facts.last_load_at.unwrap_or(0.0));
    let own = facts.auto_unload_minutes.map(|it| f64::from(it) * 60.0);
    let wished = wished.filter(|seconds| *seconds >= 0.0);
    let stays = [own, wished].into_iter().flatten().reduce(f64::min);
    match stays.filter(|_| facts.jit_enabled) {
        Some(seconds) => written((since + seconds) as u64),
        None => FOR_EVER.to_owned(),
    }
}

fn written(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| FOR_EVER.to_owned(), |time| time.to_string())
}
