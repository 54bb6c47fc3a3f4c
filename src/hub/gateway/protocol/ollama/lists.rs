//! Ollama's lists of the models: all that can be asked for, those that are in memory, and one of them.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::super::fields::Field;
use super::request::model;
use crate::api::{ApiError, ModelFacts};
use crate::core::refusals::model_required;
use crate::hub::gateway::catalogue::CatalogueEntry;

/// A version whose clients find all that they need.
const VERSION: &str = "0.13.0";

/// The time for a model that stays until it is asked to go.
const FOR_EVER: &str = "2318-01-01T00:00:00Z";

pub(in crate::hub::gateway) fn version() -> Value {
    json!({"version": VERSION})
}

/// All of the list; hub.yaml is of that time, in Unix seconds.
pub(in crate::hub::gateway) fn tags(entries: &[CatalogueEntry], modified_at: u64) -> Value {
    let modified_at = written(modified_at);
    let models: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let mut line = line(entry);
            line["modified_at"] = json!(modified_at);
            line
        })
        .collect();
    json!({"models": models})
}

/// The models that are in memory.
pub(in crate::hub::gateway) fn running(entries: &[CatalogueEntry]) -> Value {
    let models: Vec<Value> = entries
        .iter()
        .filter(|entry| !entry.is_declared && entry.is_loaded())
        .map(|entry| {
            let mut line = line(entry);
            line["size_vram"] = line["size"].clone();
            let facts = entry.facts.as_ref();
            let expires_at =
                facts.map(|facts| expires_at(facts, entry.last_used_at(), entry.keep_alive()));
            line["expires_at"] = json!(expires_at.unwrap_or_else(|| FOR_EVER.to_owned()));
            line["context_length"] = json!(entry.context_length());
            line
        })
        .collect();
    json!({"models": models})
}

/// The name that `POST /api/show` asks about.
///
/// # Errors
/// 400 for what is no request, or names none.
pub(in crate::hub::gateway) fn asked(body: &Value) -> Result<&str, ApiError> {
    let field = Field::root(body);
    field.object()?;
    let asked = model(&field)?;
    match asked.trim().is_empty() {
        true => Err(model_required()),
        false => Ok(asked),
    }
}

/// All that is known of one; hub.yaml is of that time.
pub(in crate::hub::gateway) fn show(entry: &CatalogueEntry, modified_at: u64) -> Value {
    let mut capabilities = match entry.kind() {
        // Whether a chat template knows tools is not known here.
        "llm" => vec!["completion", "tools"],
        "vlm" => vec!["completion", "tools", "vision"],
        "embeddings" => vec!["embedding"],
        _ => Vec::new(),
    };
    if entry.chats() && entry.thinks {
        capabilities.push("thinking");
    }
    let mut info = json!({"general.architecture": "mlx", "general.basename": entry.id});
    if let Some(length) = entry.context_length() {
        info["mlx.context_length"] = json!(length);
    }
    json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": written(modified_at),
    })
}

fn line(entry: &CatalogueEntry) -> Value {
    json!({
        "name": entry.id,
        "model": entry.id,
        // Its size on the disk is nobody's business here.
        "size": entry.memory_bytes().unwrap_or(0),
        "digest": digest(&entry.id),
        "details": details(),
    })
}

/// Clients tell models apart by it, and show how it begins.
fn digest(name: &str) -> String {
    let digest = Sha256::digest(name);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
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
