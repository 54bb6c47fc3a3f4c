//! Requests with a wrong base URL or a wrong method: the answer names the right one, before a worker is loaded
//! for them.

use std::sync::Arc;

use http::header::{ALLOW, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

use super::area::Area;
use crate::api::{ApiError, shown};
use crate::config::Config;
use crate::hub::gateway::{Body, error_at};

/// The routes behind `/v1/` that clients use, the longer first.
const ROUTES: [&str; 15] = [
    "chat/completions",
    "completions",
    "responses",
    "embeddings",
    "models",
    "messages/count_tokens",
    "messages",
    "images/generations",
    "images/edits",
    "audio/transcriptions",
    "audio/translations",
    "audio/speech",
    "moderations",
    "rerank",
    "queue/stats",
];

/// The surplus parts of wrong base URLs.
const BASES: [&str; 5] = ["v1", "V1", "api", "openai", "hub"];

/// Ollama's routes behind `/api/`.
const OLLAMA: [&str; 15] = [
    "chat",
    "generate",
    "tags",
    "show",
    "ps",
    "version",
    "embed",
    "embeddings",
    "pull",
    "create",
    "copy",
    "delete",
    "push",
    "blobs",
    "v0",
];

/// The answer to a request for an unknown path.
pub(super) fn answer(
    parts: &Parts,
    area: Area,
    config: impl FnOnce() -> Arc<Config>,
) -> Option<Response<Body>> {
    let (method, path) = (&parts.method, parts.uri.path());
    if matches!(*method, Method::CONNECT | Method::TRACE) {
        let error = ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("This hub does not answer {method}: it is no proxy for it"),
        );
        let mut response = error_at(path, &error);
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        response.headers_mut().insert(ALLOW, allowed);
        return Some(response);
    }
    let meant = meant(path, area)?;
    let host = parts.uri.authority().map(|authority| authority.as_str());
    let host = host.or_else(|| parts.headers.get(HOST)?.to_str().ok());
    let host = match host {
        Some(host) if !host.is_empty() => shown(host).into_owned(),
        _ => format!("localhost:{}", config().port),
    };
    let (method, written) = (shown(method.as_str()), shown(path));
    let Meant::Route(route) = meant;
    let base = match route.starts_with("messages") {
        true => format!("http://{host}"),
        false => format!("http://{host}/v1"),
    };
    let route = format!("/v1/{route}");
    let message = format!(
        "{method} {written} is not a route of this hub: the client's base URL is wrong. Set it to `{base}`; \
         this request then goes to {}.",
        shown(&route)
    );
    // The client speaks the API of the route that it means.
    let error = ApiError::new(StatusCode::NOT_FOUND, message);
    Some(error_at(&route, &error))
}

/// The probable target of such a request.
#[derive(Debug, PartialEq, Eq)]
enum Meant {
    /// A route behind `/v1/`.
    Route(String),
}

/// `None` for a path that is right, or that nothing is known about.
fn meant(path: &str, area: Area) -> Option<Meant> {
    match area {
        Area::Workers if !path.starts_with("/api") => {
            let rest = path.strip_prefix("/v1/")?;
            // Nearly every request returns here.
            if ROUTES.contains(&rest) {
                return None;
            }
            let first = rest.split('/').next().unwrap_or_default();
            let is_base = first.is_empty() || BASES.contains(&first);
            let has_more = rest.bytes().filter(|byte| *byte == b'/').count() >= 2;
            let is_wrong = (is_base && rest.len() > first.len()) || (has_more && is_doubled(rest));
            is_wrong.then(|| Meant::Route(without_base(rest)))
        }
        Area::Hub => {
            let rest = path.strip_prefix("/hub/")?;
            let rest = rest.strip_prefix("v1/").unwrap_or(rest);
            ROUTES
                .contains(&rest)
                .then(|| Meant::Route(rest.to_owned()))
        }
        Area::Workers | Area::Public => {
            let other = path.strip_prefix("/api/").map(first);
            if other.is_some_and(|route| OLLAMA.contains(&route)) {
                return None;
            }
            let below_v1 = path.to_ascii_lowercase().contains("/v1/");
            let route = without_base(path);
            let is_known = ROUTES
                .iter()
                .any(|known| route == *known || (*known == "models" && is_below(&route, known)));
            (is_known || (below_v1 && !route.is_empty())).then_some(Meant::Route(route))
        }
    }
}

/// The first part of a path.
fn first(path: &str) -> &str {
    path.split('/').next().unwrap_or_default()
}

/// True if a route occurs twice: the client was given the route as its base URL.
fn is_doubled(rest: &str) -> bool {
    ROUTES.iter().any(|first| {
        // Below these are other routes of hubs and workers.
        !matches!(*first, "models" | "responses" | "messages")
            && is_below(rest, first)
            && ROUTES.iter().any(|second| ends_with(rest, second))
    })
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn ends_with(path: &str, route: &str) -> bool {
    path.strip_suffix(route)
        .is_some_and(|before| before.ends_with('/'))
}

/// A path without the surplus part of its base.
fn without_base(path: &str) -> String {
    if let Some(route) = ROUTES.iter().find(|route| ends_with(path, route)) {
        return (*route).to_owned();
    }
    let mut segments = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .peekable();
    while segments
        .next_if(|segment| BASES.contains(segment))
        .is_some()
    {}
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_route_below_a_wrong_base_is_recognized() {
        for (path, route) in [
            ("//v1/chat/completions", "chat/completions"),
            ("//v1//models", "models"),
            ("/v1/v1/chat/completions", "chat/completions"),
            ("/v1/v1/other", "other"),
            ("/v1//chat/completions", "chat/completions"),
            ("/v1/api/v1/embeddings", "embeddings"),
            ("/v1/chat/completions/chat/completions", "chat/completions"),
            ("/v1/chat/completions/v1/models", "models"),
            ("/chat/completions", "chat/completions"),
            ("/completions", "completions"),
            ("/models", "models"),
            ("/models/alpha", "models/alpha"),
            ("/api/v1/chat/completions", "chat/completions"),
            ("/api/v1/models", "models"),
            ("/api/v1/other", "other"),
            ("/openai/v1/responses", "responses"),
            ("/openai/deployments/a/chat/completions", "chat/completions"),
            ("/V1/chat/completions", "chat/completions"),
            ("/messages", "messages"),
            ("/v1/v1/messages", "messages"),
            ("/hub/v1/chat/completions", "chat/completions"),
            ("/hub/models", "models"),
        ] {
            assert_eq!(
                meant(path, Area::of(path)),
                Some(Meant::Route(route.to_owned())),
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_right_or_unknown_is_let_be() {
        for path in [
            "/v1",
            "/v1/",
            "/v1/v1",
            "/v1/chat/completions",
            "/v1/models",
            "/v1/models/",
            "/v1/models/models",
            "/v1/models/org/completions/models",
            "/v1/responses/r1/cancel",
            "/v1/messages/count_tokens",
            "/v1/files",
            "/v1/threads/t/messages",
            "/v1/audio/voices",
            "/upstream/a/v1/v1/models",
            "/upstream/a//x",
            "/hub",
            "/hub/status",
            "/hub/reload",
            "/hub/models/a/load",
            "/health",
            "/",
            "/nosuch",
            "/api/nosuch",
            "/api/chat",
            "/api/tags",
            "/api/v0/chat/completions",
            "*",
        ] {
            assert_eq!(meant(path, Area::of(path)), None, "{path}");
        }
    }

    fn told(request: http::request::Builder) -> (StatusCode, String) {
        let parts = request.body(()).unwrap().into_parts().0;
        let config = "models: [{name: a, model_path: org/a}]";
        let config = Config::parse(std::path::Path::new("/hub.yaml"), config);
        let area = Area::of(parts.uri.path());
        let response = answer(&parts, area, || Arc::new(config.unwrap())).unwrap();
        let status = response.status();
        let body = match response.into_body() {
            Body::Full(body) => body,
            other => panic!("{other:?}"),
        };
        let body = futures_util::FutureExt::now_or_never(http_body_util::BodyExt::collect(body));
        let json: serde_json::Value =
            serde_json::from_slice(&body.unwrap().unwrap().to_bytes()).unwrap();
        (
            status,
            json["error"]["message"].as_str().unwrap().to_owned(),
        )
    }

    #[test]
    fn each_is_told_the_base_url_as_it_reached_the_hub() {
        let at = |path: &str| Request::post(path).header(HOST, "studio.local:8000");
        let texts = [
            at("//v1/chat/completions"),
            at("/api/v1/models"),
            at("/v1/v1/messages"),
            Request::post("/chat/completions"),
        ]
        .map(|request| {
            let (status, text) = told(request);
            assert_eq!(status, StatusCode::NOT_FOUND);
            text
        });
        insta::assert_snapshot!(texts.join("\n"), @r"
        POST //v1/chat/completions is not a route of this hub: the client's base URL is wrong. Set it to `http://studio.local:8000/v1`; this request then goes to /v1/chat/completions.
        POST /api/v1/models is not a route of this hub: the client's base URL is wrong. Set it to `http://studio.local:8000/v1`; this request then goes to /v1/models.
        POST /v1/v1/messages is not a route of this hub: the client's base URL is wrong. Set it to `http://studio.local:8000`; this request then goes to /v1/messages.
        POST /chat/completions is not a route of this hub: the client's base URL is wrong. Set it to `http://localhost:8000/v1`; this request then goes to /v1/chat/completions.
        ");
    }

    #[test]
    fn connect_and_trace_are_for_proxies() {
        for method in [Method::CONNECT, Method::TRACE] {
            for path in ["/v1/x?model=a", "/hub", "/"] {
                let (status, _) = told(Request::builder().method(method.clone()).uri(path));
                assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            }
        }
    }
}
