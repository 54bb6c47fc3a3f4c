//! LM Studio's REST API (`/api/v0`). Its chats and embeddings are OpenAI's under another path; what it has of
//! its own is the list of models with their states. Looking loads nothing.

use http::uri::PathAndQuery;
use http::{Method, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use crate::api::{ApiError, MemoryState, ModelFacts};
use crate::core::refusals::unknown_model;
use crate::hub::lifecycle::Lifecycle;

/// Begin of its routes' paths.
const ROOT: &str = "/api/v0/";

/// Routes that OpenAI's API has under `/v1`.
const SHARED: [&str; 3] = ["chat/completions", "completions", "embeddings"];

/// The requested operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::gateway) enum Route<'a> {
    Models,
    /// By its percent-encoded name or path.
    Model(&'a str),
    /// OpenAI's route of the same name.
    Shared,
    NotAllowed(&'static str),
}

impl<'a> Route<'a> {
    /// `None` for a path that is none of its.
    pub(in crate::hub::gateway) fn of(method: &Method, path: &'a str) -> Option<Self> {
        let route = path.strip_prefix(ROOT)?;
        let (allowed, route) = match route {
            "models" => ("GET, HEAD", Self::Models),
            _ if SHARED.contains(&route) => ("POST", Self::Shared),
            _ => ("GET, HEAD", Self::Model(route.strip_prefix("models/")?)),
        };
        let is_allowed = allowed
            .split(", ")
            .any(|allowed| allowed == method.as_str());
        Some(if is_allowed {
            route
        } else {
            Self::NotAllowed(allowed)
        })
    }
}

/// The same below `/v1`.
pub(in crate::hub::gateway) fn shared(uri: &Uri) -> Uri {
    let route = uri.path().strip_prefix(ROOT).unwrap_or_default();
    let mut path = format!("/v1/{route}");
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    // A part of a path is one.
    path.parse::<PathAndQuery>()
        .map_or_else(|_| uri.clone(), Uri::from)
}

/// The hub's own answer, or the methods that the route has.
pub(in crate::hub::gateway) fn answer(
    route: Route<'_>,
    lifecycle: &Lifecycle,
) -> Result<Result<Value, ApiError>, &'static str> {
    match route {
        Route::Models => Ok(Ok(list(lifecycle))),
        Route::Model(id) => Ok(one(lifecycle, id)),
        Route::NotAllowed(allowed) => Err(allowed),
        Route::Shared => Err("POST"),
    }
}

/// The models that take requests.
fn list(lifecycle: &Lifecycle) -> Value {
    let models = lifecycle.models().into_iter();
    let data: Vec<Value> = models
        .map(|model| model.facts.load_full())
        .filter(|facts| facts.is_started())
        .map(|facts| entry(&facts))
        .collect();
    json!({"object": "list", "data": data})
}

/// One of them.
///
/// # Errors
/// 404 when there is none.
fn one(lifecycle: &Lifecycle, id: &str) -> Result<Value, ApiError> {
    let id = percent_decode_str(id).decode_utf8_lossy();
    let config = lifecycle.config();
    let model = lifecycle.find(&id);
    let model = model.ok_or_else(|| unknown_model(&id, &config))?;
    Ok(entry(&model.facts.load()))
}

fn entry(facts: &ModelFacts) -> Value {
    let (kind, capabilities): (&str, &[&str]) = match &*facts.model_type {
        "multimodal" => ("vlm", &["tool_use"]),
        "embeddings" => ("embeddings", &[]),
        _ => ("llm", &["tool_use"]),
    };
    let is_loaded = facts.memory_state == MemoryState::Loaded;
    let mut entry = json!({
        "id": facts.name,
        "object": "model",
        "type": kind,
        "publisher": facts.model_path.split_once('/').map_or("", |(publisher, _)| publisher),
        "arch": "",
        "compatibility_type": "mlx",
        "quantization": "",
        "state": if is_loaded { "loaded" } else { "not-loaded" },
        "max_context_length": facts.context_length,
        "capabilities": capabilities,
    });
    if is_loaded {
        entry["loaded_context_length"] = json!(facts.context_length);
    }
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_route() {
        let of = |method: Method, path| Route::of(&method, path);
        assert_eq!(of(Method::GET, "/api/v0/models"), Some(Route::Models));
        assert_eq!(
            of(Method::GET, "/api/v0/models/a/b"),
            Some(Route::Model("a/b"))
        );
        assert_eq!(of(Method::POST, "/api/v0/embeddings"), Some(Route::Shared));
        assert_eq!(
            of(Method::POST, "/api/v0/models"),
            Some(Route::NotAllowed("GET, HEAD"))
        );
        assert_eq!(
            of(Method::GET, "/api/v0/chat/completions"),
            Some(Route::NotAllowed("POST"))
        );
        assert_eq!(of(Method::GET, "/api/v0/nosuch"), None);
        assert_eq!(of(Method::GET, "/api/tags"), None);
        let uri = shared(&Uri::from_static("/api/v0/chat/completions?a=b"));
        assert_eq!(uri, "/v1/chat/completions?a=b");
    }

    #[test]
    fn an_entry_says_what_it_is_and_whether_it_is_loaded() {
        let mut facts = ModelFacts {
            name: "alpha".to_owned(),
            model_path: "org/alpha".to_owned(),
            model_type: "multimodal".into(),
            context_length: 4096,
            ..ModelFacts::default()
        };
        let shown = entry(&facts);
        assert_eq!(
            (&shown["state"], &shown["type"]),
            (&json!("not-loaded"), &json!("vlm"))
        );
        assert_eq!(
            (&shown["publisher"], &shown["max_context_length"]),
            (&json!("org"), &json!(4096))
        );
        assert!(shown.get("loaded_context_length").is_none());
        facts.memory_state = MemoryState::Loaded;
        let shown = entry(&facts);
        assert_eq!(
            (&shown["state"], &shown["loaded_context_length"]),
            (&json!("loaded"), &json!(4096))
        );
    }
}
