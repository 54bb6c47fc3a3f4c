//! LM Studio's REST API (`/api/v0`). Its chats and embeddings are OpenAI's under another path; what it has of
//! its own is the list of models with their states. Looking loads nothing.

use http::uri::PathAndQuery;
use http::{Method, Uri};
use serde_json::{Value, json};

use super::Protocol;
use super::openai::OPENAI;
use crate::hub::gateway::catalogue::CatalogueEntry;

/// Begin of its routes' paths.
pub(super) const ROOT: &str = "/api/v0/";

/// OpenAI's under another name: its errors and streams are the same.
pub(super) const LM_STUDIO: Protocol = Protocol {
    name: "lm_studio",
    ..OPENAI
};

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

/// The list.
pub(in crate::hub::gateway) fn list(entries: &[CatalogueEntry]) -> Value {
    let data: Vec<Value> = entries.iter().map(one).collect();
    json!({"object": "list", "data": data})
}

/// One of its lines.
pub(in crate::hub::gateway) fn one(entry: &CatalogueEntry) -> Value {
    let capabilities: &[&str] = if entry.chats() { &["tool_use"] } else { &[] };
    let path = entry.facts.as_ref().map_or("", |facts| &facts.model_path);
    let publisher = path.split_once('/').map_or("", |(publisher, _)| publisher);
    let mut shown = json!({
        "id": entry.id,
        "object": "model",
        "type": entry.kind(),
        "publisher": publisher,
        "arch": "",
        "compatibility_type": "mlx",
        "quantization": "",
        "state": if entry.is_loaded() { "loaded" } else { "not-loaded" },
        "capabilities": capabilities,
    });
    if let Some(max) = entry.max_context_length() {
        shown["max_context_length"] = json!(max);
    }
    if let Some(length) = entry.context_length().filter(|_| entry.is_loaded()) {
        shown["loaded_context_length"] = json!(length);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MemoryState, ModelFacts};
    use crate::hub::gateway::catalogue::Status;

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
    fn a_line_says_what_it_is_and_whether_it_is_loaded() {
        let mut facts = ModelFacts {
            name: "alpha".to_owned(),
            model_path: "org/alpha".to_owned(),
            model_type: "multimodal".into(),
            context_length: 4096,
            ..ModelFacts::default()
        };
        let shown = one(&CatalogueEntry::of_facts(facts.clone(), Status::Loadable).made_for(8192));
        assert_eq!(
            (&shown["state"], &shown["type"]),
            (&json!("not-loaded"), &json!("vlm"))
        );
        assert_eq!(
            (&shown["publisher"], &shown["max_context_length"]),
            (&json!("org"), &json!(8192))
        );
        assert!(shown.get("loaded_context_length").is_none());
        facts.memory_state = MemoryState::Loaded;
        let shown = one(&CatalogueEntry::of_facts(facts, Status::Loaded).made_for(8192));
        assert_eq!(
            (&shown["state"], &shown["loaded_context_length"]),
            (&json!("loaded"), &json!(4096))
        );
        let name = one(&CatalogueEntry::of_name("auto", ""));
        assert_eq!(
            (&name["type"], &name["state"]),
            (&json!("llm"), &json!("not-loaded"))
        );
    }
}
