//! Ollama's routes.

use http::Method;

/// Ways to change which models there are: hub.yaml does that here.
const CHANGES: [&str; 5] = [
    "/api/pull",
    "/api/create",
    "/api/copy",
    "/api/delete",
    "/api/push",
];

/// The requested operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::gateway) enum Route {
    Version,
    Tags,
    Running,
    Show,
    Chat,
    Generate,
    Embed,
    Embeddings,
    /// An operation that the hub does not support.
    Change,
    /// The route has only this method.
    NotAllowed(&'static str),
    Unknown,
}

impl Route {
    pub(in crate::hub::gateway) fn of(method: &Method, path: &str) -> Self {
        let (allowed, route) = match path {
            "/api/version" => ("GET, HEAD", Self::Version),
            "/api/tags" => ("GET, HEAD", Self::Tags),
            "/api/ps" => ("GET, HEAD", Self::Running),
            "/api/show" => ("POST", Self::Show),
            "/api/chat" => ("POST", Self::Chat),
            "/api/generate" => ("POST", Self::Generate),
            "/api/embed" => ("POST", Self::Embed),
            "/api/embeddings" => ("POST", Self::Embeddings),
            _ if CHANGES.contains(&path) || path.starts_with("/api/blobs/") => return Self::Change,
            _ => return Self::Unknown,
        };
        if allowed
            .split(", ")
            .any(|allowed| allowed == method.as_str())
        {
            route
        } else {
            Self::NotAllowed(allowed)
        }
    }
}
