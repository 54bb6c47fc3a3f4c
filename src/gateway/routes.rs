//! Which part of the gateway answers a path under `/v1`.

use http::Method;

const POST: &str = "POST";
const GET: &str = "GET, HEAD";

/// The routes of OpenAI's API that are known, and their methods. Others go to the worker of the model
/// they name, whatever the method.
const WORKER_ROUTES: [(&str, &str); 8] = [
    ("/v1/chat/completions", POST),
    ("/v1/completions", POST),
    ("/v1/responses", POST),
    ("/v1/embeddings", POST),
    ("/v1/images/generations", POST),
    ("/v1/images/edits", POST),
    ("/v1/audio/transcriptions", POST),
    ("/v1/queue/stats", GET),
];

/// Who answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// The hub: the list of models.
    Models,
    /// The hub: one model, by its percent-encoded name or path.
    Model(&'a str),
    /// A worker, on a route that is known.
    Worker,
    /// A worker, on a route that perhaps only it knows.
    Unknown,
    /// Nobody: the route has only these methods.
    NotAllowed(&'static str),
}

impl<'a> Target<'a> {
    pub(super) fn of(method: &Method, path: &'a str) -> Self {
        let (allowed, target) =
            if let Some((_, allowed)) = WORKER_ROUTES.iter().find(|(route, _)| *route == path) {
                (*allowed, Self::Worker)
            } else if path == "/v1/models" || path == "/v1/models/" {
                (GET, Self::Models)
            } else if let Some(id) = path.strip_prefix("/v1/models/") {
                (GET, Self::Model(id))
            } else {
                return Self::Unknown;
            };
        if allowed
            .split(", ")
            .any(|allowed| allowed == method.as_str())
        {
            target
        } else {
            Self::NotAllowed(allowed)
        }
    }
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
        assert_eq!(of(Method::PATCH, "/v1/rerank"), Target::Unknown);
        assert_eq!(of(Method::GET, "/v1"), Target::Unknown);
        assert_eq!(of(Method::POST, "/v1/models"), Target::NotAllowed(GET));
        assert_eq!(of(Method::GET, "/v1/embeddings"), Target::NotAllowed(POST));
    }
}
