//! `/fleet/{model}`: the address of one model, for gateways that keep one model for an address.
//!
//! What lies below `v1/` there is the same as below `/v1`, but refused while the hub is drained. What a gateway asks
//! about a model, rather than of it, is answered by the control API and loads nothing.

use http::request::Parts;
use http::uri::{PathAndQuery, Uri};

const ROOT: &str = "/fleet/";

/// The routes below `/fleet/{model}/v1/` that are about the model.
const ABOUT: [&str; 2] = ["/v1/models", "/v1/loads"];

/// True for a request to a model at its address; its target is that of `/v1` from then on.
pub(super) fn strip(parts: &mut Parts) -> bool {
    let begin = match split(parts.uri.path()) {
        Some((begin, route)) if route.starts_with("/v1/") && !ABOUT.contains(&route) => begin,
        _ => return false,
    };
    let target = parts.uri.path_and_query();
    let target = target.and_then(|target| PathAndQuery::try_from(&target.as_str()[begin..]).ok());
    let mut uri = parts.uri.clone().into_parts();
    uri.path_and_query = target;
    match Uri::from_parts(uri) {
        Ok(uri) => {
            parts.uri = uri;
            true
        }
        Err(_) => false,
    }
}

/// True for what a gateway asks about a model there, besides its health: of a hub with keys it is for those who
/// may use the models.
pub(super) fn is_about(path: &str) -> bool {
    split(path).is_some_and(|(_, route)| ABOUT.contains(&route))
}

/// The route below the address of a model, and the place in the path at which it begins.
fn split(path: &str) -> Option<(usize, &str)> {
    let (model, _) = path.strip_prefix(ROOT)?.split_once('/')?;
    let begin = ROOT.len() + model.len();
    (!model.is_empty()).then(|| (begin, &path[begin..]))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn stripped(target: &str) -> Option<String> {
        let request = Request::builder().uri(target).body(()).unwrap();
        let mut parts = request.into_parts().0;
        strip(&mut parts).then(|| parts.uri.to_string())
    }

    #[test]
    fn requests_to_a_model_become_those_of_v1() {
        for (target, becomes) in [
            ("/fleet/a/v1/chat/completions", "/v1/chat/completions"),
            (
                "/fleet/a.b-c/v1/responses/x?y=/fleet/z",
                "/v1/responses/x?y=/fleet/z",
            ),
            (
                "http://hub:1/fleet/a/v1/embeddings",
                "http://hub:1/v1/embeddings",
            ),
            ("/fleet/a/v1/models/a", "/v1/models/a"),
        ] {
            assert_eq!(stripped(target).as_deref(), Some(becomes), "{target}");
        }
    }

    #[test]
    fn questions_about_a_model_and_other_paths_stay() {
        for target in [
            "/fleet/a/health",
            "/fleet/a/v1/models",
            "/fleet/a/v1/loads?include=core",
            "/fleet/a/v1",
            "/fleet/a",
            "/fleet//v1/chat/completions",
            "/fleet/v1/chat/completions",
            "/fleet/a/hub/v1/x",
            "/fleets/a/v1/x",
            "/v1/chat/completions",
            "*",
        ] {
            assert_eq!(stripped(target), None, "{target}");
        }
        for (path, about) in [
            ("/fleet/a/v1/loads", true),
            ("/fleet/a/v1/models", true),
            ("/fleet/a/health", false),
            ("/fleet/a/b/v1/models", false),
            ("/fleet//v1/models", false),
            ("/v1/models", false),
        ] {
            assert_eq!(is_about(path), about, "{path}");
        }
    }
}
