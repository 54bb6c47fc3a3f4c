//! Finds the part of the gateway that answers a path under `/v1` or `/upstream`.

use std::borrow::Cow;

use http::Method;

use super::COMPLETIONS;
use crate::hub::gateway::protocol::{Door, lm_studio, ollama};

const POST: &str = "POST";
const GET: &str = "GET, HEAD";

/// The routes of OpenAI's API, and of what grew around it, that are known, and their methods. Others
/// go to the worker of the model they name, whatever the method.
const WORKER_ROUTES: [(&str, &str); 11] = [
    ("/v1/chat/completions", POST),
    (COMPLETIONS, POST),
    ("/v1/embeddings", POST),
    ("/v1/images/generations", POST),
    ("/v1/images/edits", POST),
    ("/v1/audio/transcriptions", POST),
    ("/v1/audio/translations", POST),
    ("/v1/audio/speech", POST),
    ("/v1/moderations", POST),
    ("/v1/rerank", POST),
    ("/v1/queue/stats", GET),
];

/// The routes that clients ask most besides those.
const OTHER_ROUTES: [&str; 7] = [
    "/v1/models",
    "/v1/messages",
    "/v1/responses",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/tags",
];

/// The path, for longer than its request: without a copy if it is known.
pub(crate) fn shared(path: &str) -> Cow<'static, str> {
    let mut routes = (WORKER_ROUTES.iter().map(|(route, _)| *route)).chain(OTHER_ROUTES);
    match routes.find(|route| *route == path) {
        Some(route) => Cow::Borrowed(route),
        None => Cow::Owned(path.to_owned()),
    }
}

/// The part that answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// The hub: the list of models.
    Models,
    /// The hub: one model, by its percent-encoded name or path.
    Model(&'a str),
    /// A worker, on a route that is known.
    Worker,
    /// A worker, perhaps by way of another protocol.
    Door(Door),
    /// Ollama's API.
    Ollama(ollama::routes::Route),
    /// LM Studio's.
    LmStudio(lm_studio::Route<'a>),
    /// The hub: how many tokens a request to that door takes.
    CountTokens(Door),
    /// The worker of the model that made the response of that id.
    Made(&'a str),
    /// The worker of the model of that percent-encoded name or path, on a route of its own.
    Upstream(&'a str),
    /// A worker, on a route that perhaps only it knows.
    Unknown,
    /// Nobody: the route has only these methods.
    NotAllowed(&'static str),
}

impl<'a> Target<'a> {
    pub(crate) fn of(method: &Method, path: &'a str) -> Self {
        let (allowed, target) =
            if let Some((_, allowed)) = WORKER_ROUTES.iter().find(|(route, _)| *route == path) {
                (*allowed, Self::Worker)
            } else if path == "/v1/messages" {
                (POST, Self::Door(Door::Messages))
            } else if path == "/v1/responses" {
                (POST, Self::Door(Door::Responses))
            } else if path == "/v1/messages/count_tokens" {
                (POST, Self::CountTokens(Door::Messages))
            } else if path == "/v1/responses/input_tokens" {
                (POST, Self::CountTokens(Door::Responses))
            } else if path == "/v1/models" || path == "/v1/models/" {
                (GET, Self::Models)
            } else if let Some(id) = path.strip_prefix("/v1/models/") {
                (GET, Self::Model(id))
            } else if let Some(name) = path.strip_prefix("/upstream/").map(first)
                && !name.is_empty()
            {
                return Self::Upstream(name);
            } else if let Some(id) = path.strip_prefix("/v1/responses/").map(first)
                && !id.is_empty()
            {
                return Self::Made(id);
            } else if path.starts_with("/api/") {
                return match lm_studio::Route::of(method, path) {
                    Some(route) => Self::LmStudio(route),
                    None => Self::Ollama(ollama::routes::Route::of(method, path)),
                };
            } else {
                return Self::Unknown;
            };
        let method = method.as_str();
        if allowed == method || allowed.split(", ").any(|allowed| allowed == method) {
            target
        } else {
            Self::NotAllowed(allowed)
        }
    }
}

/// The first part of a path.
fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// The worker's path for one below `/upstream/{name}`.
pub(crate) fn own_route(path: &str) -> &str {
    let below = path.strip_prefix("/upstream/").unwrap_or(path);
    below.find('/').map_or("/", |at| &below[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_target() {
        let of = |method: Method, path| Target::of(&method, path);
        assert_eq!(of(Method::POST, "/v1/chat/completions"), Target::Worker);
        assert_eq!(of(Method::HEAD, "/v1/queue/stats"), Target::Worker);
        assert_eq!(of(Method::GET, "/v1/models"), Target::Models);
        assert_eq!(of(Method::GET, "/v1/models/a/b"), Target::Model("a/b"));
        assert_eq!(of(Method::POST, "/v1/rerank"), Target::Worker);
        let door = Target::Door(Door::Messages);
        assert_eq!(of(Method::POST, "/v1/messages"), door);
        assert_eq!(of(Method::GET, "/v1/messages"), Target::NotAllowed(POST));
        assert_eq!(of(Method::PATCH, "/v1/files"), Target::Unknown);
        assert_eq!(of(Method::GET, "/v1"), Target::Unknown);
        assert_eq!(of(Method::POST, "/v1/models"), Target::NotAllowed(GET));
        assert_eq!(of(Method::GET, "/v1/embeddings"), Target::NotAllowed(POST));
        for path in ["/v1/responses/r1", "/v1/responses/r1/cancel"] {
            assert_eq!(of(Method::GET, path), Target::Made("r1"));
        }
        assert_eq!(of(Method::GET, "/v1/responses/"), Target::Unknown);
        for path in ["/upstream/a", "/upstream/a/", "/upstream/a/b/c"] {
            assert_eq!(of(Method::PUT, path), Target::Upstream("a"));
        }
        assert_eq!(of(Method::GET, "/upstream/"), Target::Unknown);
    }

    #[test]
    fn the_worker_sees_what_stands_behind_its_name() {
        for (path, seen) in [
            ("/upstream/a", "/"),
            ("/upstream/a/", "/"),
            ("/upstream/a%2Fb/metrics/x", "/metrics/x"),
            ("/upstream/a//x", "//x"),
        ] {
            assert_eq!(own_route(path), seen, "{path}");
        }
    }
}
