//! The routes of a worker program: those of the APIs that its engine says it has, else those that its
//! `/openapi.json` lists, else all but those that it is known to lack.
//!
//! They depend on the program and not on the model, so they are learned once. No such description lists
//! WebSocket routes. It knows nothing of its callers.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::engine::Api;

/// Prefix of the routes that clients use.
const API: &str = "/v1/";

/// The routes of one program, by their paths.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Routes {
    /// The routes it lists, with parameters in braces; `None` without a description.
    serves: Option<BTreeSet<String>>,
    /// The routes it was found to lack.
    lacks: BTreeSet<String>,
}

#[derive(Deserialize)]
struct OpenApi {
    paths: BTreeMap<String, Value>,
}

impl Routes {
    /// The routes of an OpenAPI description; `None` if it describes another kind of API.
    pub fn of_openapi(json: &[u8]) -> Option<Self> {
        let described: OpenApi = serde_json::from_slice(json).ok()?;
        let paths: BTreeSet<String> = described.paths.into_keys().collect();
        let is_one = paths.iter().any(|path| path.starts_with(API));
        is_one.then_some(Self {
            serves: Some(paths),
            lacks: BTreeSet::new(),
        })
    }

    /// Those of an engine that says which APIs its programs have.
    pub fn of_apis(apis: &[Api]) -> Self {
        let paths = apis.iter().flat_map(|api| api.paths());
        let paths = paths.chain(&["/v1/models"]).map(|path| (*path).to_owned());
        Self {
            serves: Some(paths.collect()),
            lacks: BTreeSet::new(),
        }
    }

    /// True if all routes of the program are known.
    pub fn are_known(&self) -> bool {
        self.serves.is_some()
    }

    /// Notes that the program has no such path.
    pub fn note_missing(&mut self, path: &str) {
        self.lacks.insert(path.to_owned());
    }

    /// True if a request to this path can only be refused.
    pub fn lack(&self, path: &str) -> bool {
        match &self.serves {
            Some(serves) if serves.contains(path) => false,
            Some(serves) => {
                let path = percent_decode_str(path).decode_utf8_lossy();
                !serves.iter().any(|template| matches(template, &path))
            }
            None => self.lacks.contains(path),
        }
    }

    /// The known routes below `/v1`.
    pub fn served(&self) -> impl Iterator<Item = &str> {
        let paths = self.serves.iter().flatten().map(String::as_str);
        paths.filter(|path| path.starts_with(API))
    }
}

/// True if a path matches a template. A parameter at its end may match several segments, and a slash at the
/// end is ignored, as programs redirect for it.
fn matches(template: &str, path: &str) -> bool {
    let is_parameter = |part: &str| part.starts_with('{') && part.ends_with('}');
    let mut wanted = template.trim_end_matches('/').split('/').peekable();
    let mut parts = path.trim_end_matches('/').split('/');
    while let Some(part) = wanted.next() {
        let Some(here) = parts.next() else {
            return false;
        };
        if is_parameter(part) && wanted.peek().is_none() {
            return !here.is_empty();
        }
        let fits = part == here || is_parameter(part) && !here.is_empty();
        if !fits {
            return false;
        }
    }
    parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_by_the_description() {
        let json = br#"{"openapi": "3.1.0", "paths": {
            "/health": {"get": {}}, "/v1/chat/completions": {"post": {}},
            "/v1/responses": {"post": {}}, "/v1/responses/{id}": {"get": {}},
            "/v1/threads/{id}/runs": {"post": {}}, "/v1/files/{path}": {"get": {}}}}"#;
        let routes = Routes::of_openapi(json).unwrap();
        for path in [
            "/health",
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/chat%2Fcompletions",
            "/v1/%72esponses",
            "/v1/responses/resp_1",
            "/v1/threads/t1/runs",
            "/v1/files/a/b/c",
        ] {
            assert!(!routes.lack(path), "{path}");
        }
        for path in [
            "/v1/completions",
            "/v1/chat",
            "/v1/chat/completions/x",
            "/v1/threads/t1",
            "/v1/threads//runs",
            "/v1/files",
            "/v1",
            "/",
        ] {
            assert!(routes.lack(path), "{path}");
        }
        let served: Vec<_> = routes.served().collect();
        assert!(!served.contains(&"/health") && served.contains(&"/v1/chat/completions"));
    }

    #[test]
    fn what_describes_no_api_tells_nothing() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"paths": {}}"#,
            r#"{"paths": {"/metrics": {}}}"#,
        ] {
            assert_eq!(Routes::of_openapi(json.as_bytes()), None, "{json}");
        }
    }

    #[test]
    fn without_a_description_only_what_was_missing_is_lacked() {
        let mut routes = Routes::default();
        assert!(!routes.lack("/v1/completions") && !routes.are_known());
        routes.note_missing("/v1/completions");
        assert!(routes.lack("/v1/completions"));
        assert!(!routes.lack("/v1/chat/completions"));
    }
}
