//! Asks for a key, where hub.yaml has any.
//!
//! The requests of workers and the loads of models need a key that may use the hub; those that control it, and `/metrics`, one that may
//! control it. The rest is open. Clients send a key as `Authorization: Bearer` or as `x-api-key`; the status page has
//! a cookie, which counts for requests of the hub's own pages alone.

use std::sync::Arc;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};

use super::super::member;
use super::caller::{Caller, Site};
use super::sessions::Sessions;
use super::{Area, refusals};
use crate::api::ApiError;
use crate::config::{ApiKey, Config, KeyDigest, web};

/// The files that the page of the login needs.
const LOGIN_ASSETS: [&str; 2] = ["/hub/assets/hub.css", "/hub/assets/login.js"];

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Use,
    Control,
}

/// The judgement of a request.
#[derive(Debug)]
pub(in crate::hub::server) enum Pass {
    /// It goes its way, with its key if it needs one.
    On(Option<Arc<ApiKey>>),
    /// It is a login.
    LogIn,
    /// It is the end of a session.
    LogOut,
}

/// Lets a request to `area` of a hub with keys pass.
///
/// # Errors
/// 401 without a key, or with one that is not of this hub or has expired; 403 with one that may not do this.
pub(in crate::hub::server) fn pass(
    parts: &Parts,
    area: Area,
    config: &Config,
    sessions: &Sessions,
) -> Result<Pass, ApiError> {
    let path = parts.uri.path();
    match (&parts.method, path) {
        (&Method::POST, "/hub/login") => return Ok(Pass::LogIn),
        (&Method::POST, "/hub/logout") => return Ok(Pass::LogOut),
        (&Method::GET | &Method::HEAD, path) if LOGIN_ASSETS.contains(&path) => {
            return Ok(Pass::On(None));
        }
        _ => {}
    }
    let Some(right) = needed(area, path) else {
        return Ok(Pass::On(None));
    };
    let mut is_sent = false;
    for sent in sent(&parts.headers) {
        is_sent = true;
        let Some(key) = config.api_key(&KeyDigest::of(sent)) else {
            continue;
        };
        return may(key, right);
    }
    if !is_sent
        && let Some(digest) = sessions.key_of(&parts.headers, config.port)
        && is_of_own_page(parts, area)
        && let Some(key) = config.api_key(&digest)
    {
        return may(key, right);
    }
    Err(match is_sent {
        true => refusals::wrong_key(),
        false => refusals::no_key(),
    })
}

/// Lets a request with that key pass, if it has the right.
fn may(key: &Arc<ApiKey>, right: Right) -> Result<Pass, ApiError> {
    if key.is_expired() {
        return Err(refusals::expired_key(&key.name));
    }
    match right {
        Right::Control if !key.may_control => Err(refusals::may_not_control(&key.name)),
        Right::Control | Right::Use => Ok(Pass::On(Some(Arc::clone(key)))),
    }
}

/// True if a browser sends the request for a page of the hub's own, or for its user. Browsers send a cookie to all
/// ports of a host, and with whatever a page of another port asks for.
fn is_of_own_page(parts: &Parts, area: Area) -> bool {
    let caller = Caller::of(&parts.headers);
    match caller.site {
        Site::Own => return !caller.has_two_origins,
        Site::Same | Site::Cross => return false,
        // Over plain HTTP browsers say it to this machine only.
        Site::Unsaid => {}
    }
    let own = super::own_origin(parts, &caller);
    let is_own = |origin: Option<String>| origin.is_some() && origin == own;
    if let Some(origin) = caller.origin {
        let origin = origin.to_str().ok().and_then(web::origin);
        return !caller.has_two_origins && is_own(origin);
    }
    if let Some(referer) = caller.referer {
        return is_own(referer.to_str().ok().and_then(web::origin_of_url));
    }
    // A line in the address bar. Of models a GET may ask something.
    area != Area::Workers && parts.method.is_safe()
}

/// True for a person who would see the page of the login.
pub(in crate::hub::server) fn wants_login_page(parts: &Parts, config: &Config) -> bool {
    let accepts = parts
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok());
    config.enable_status_page
        && matches!(parts.method, Method::GET | Method::HEAD)
        && matches!(parts.uri.path(), "/hub" | "/hub/")
        && accepts.is_some_and(|accepts| accepts.contains("text/html"))
}

/// The key in the body of a login.
///
/// # Errors
/// 400 for any other body.
pub(in crate::hub::server) fn key_of_login(parts: &Parts, body: &[u8]) -> Result<String, ApiError> {
    // A form of another site cannot say so.
    let kind = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
    let login = serde_json::from_slice::<serde_json::Value>(body).ok();
    let key = login.as_ref().and_then(|login| login.get("key")?.as_str());
    match key {
        Some(key) if is_json => Ok(key.to_owned()),
        _ => Err(refusals::no_login()),
    }
}

/// The right that a request needs.
fn needed(area: Area, path: &str) -> Option<Right> {
    match area {
        Area::Workers => Some(Right::Use),
        Area::Hub => Some(Right::Control),
        Area::Public if path == "/metrics" => Some(Right::Control),
        Area::Public => member::is_about(path).then_some(Right::Use),
    }
}

/// The keys that a request has. Some programs send two: their own, and one of the environment.
fn sent(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(bearer);
    let key = headers.get("x-api-key").map(HeaderValue::as_bytes);
    let key = key.map(<[u8]>::trim_ascii);
    let all = [bearer, key].into_iter().flatten();
    all.filter(|key| !key.is_empty())
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
    is_bearer.then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_key_is_sent_in_either_header_or_in_both() {
        for (headers, keys) in [
            (&[][..], &[][..]),
            (&[("authorization", "Bearer one")], &["one"]),
            (&[("authorization", "bearer  one ")], &["one"]),
            (&[("authorization", "Bearer ")], &[]),
            (&[("authorization", "Bearer")], &[]),
            (&[("authorization", "Basic b25l")], &[]),
            (&[("x-api-key", " two")], &["two"]),
            (&[("x-api-key", "")], &[]),
            (
                &[("x-api-key", "two"), ("authorization", "Bearer one")],
                &["one", "two"],
            ),
        ] {
            let mut request = Request::get("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            let found: Vec<_> = sent(&parts.headers).collect();
            let keys: Vec<_> = keys.iter().map(|key| key.as_bytes()).collect();
            assert_eq!(found, keys, "{headers:?}");
        }
    }

    #[test]
    fn a_cookie_counts_for_the_hubs_own_pages_alone() {
        const OWN: &str = "http://box.local:8000";
        const OTHER: &str = "http://box.local:3000";
        let counts = |method: &str, path: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(method).uri(path);
            request = request.header("host", "box.local:8000");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            is_of_own_page(&parts, Area::of(path))
        };
        let other = format!("{OTHER}/page");
        for (method, path, headers, may) in [
            ("GET", "/hub", &[][..], true),
            ("GET", "/hub", &[("sec-fetch-site", "none")], true),
            ("GET", "/metrics", &[], true),
            ("POST", "/hub/reload", &[], false),
            ("POST", "/hub/reload", &[("origin", OWN)], true),
            (
                "POST",
                "/hub/reload",
                &[("sec-fetch-site", "same-origin")],
                true,
            ),
            // A proxy that adds TLS changes the origin.
            (
                "POST",
                "/hub/reload",
                &[
                    ("origin", "https://hub.example"),
                    ("sec-fetch-site", "same-origin"),
                ],
                true,
            ),
            ("POST", "/hub/reload", &[("origin", OTHER)], false),
            (
                "POST",
                "/hub/reload",
                &[("origin", OTHER), ("sec-fetch-site", "same-site")],
                false,
            ),
            (
                "POST",
                "/hub/reload",
                &[("origin", OWN), ("origin", OTHER)],
                false,
            ),
            ("POST", "/hub/reload", &[("origin", "null")], false),
            (
                "GET",
                "/hub/status",
                &[("sec-fetch-site", "same-site")],
                false,
            ),
            (
                "GET",
                "/hub/status",
                &[("sec-fetch-site", "cross-site")],
                false,
            ),
            ("GET", "/hub/status", &[("referer", &other)], false),
            ("GET", "/v1/models", &[], false),
            (
                "GET",
                "/v1/models",
                &[("referer", "http://box.local:8000/hub")],
                true,
            ),
            ("GET", "/v1/models", &[("referer", &other)], false),
            ("POST", "/v1/chat/completions", &[("origin", OWN)], true),
            ("POST", "/v1/chat/completions", &[("origin", OTHER)], false),
            ("POST", "/v1/chat/completions", &[], false),
        ] {
            assert_eq!(
                counts(method, path, headers),
                may,
                "{method} {path} {headers:?}"
            );
        }
    }

    #[test]
    fn all_but_health_and_the_like_needs_a_key() {
        for (path, right) in [
            ("/v1/models", Some(Right::Use)),
            ("/v1/nosuch", Some(Right::Use)),
            ("/upstream/a/x", Some(Right::Use)),
            ("/api/tags", Some(Right::Use)),
            ("/hub", Some(Right::Control)),
            ("/hub/events", Some(Right::Control)),
            ("/hub/nosuch", Some(Right::Control)),
            ("/metrics", Some(Right::Control)),
            ("/health", None),
            ("/", None),
            ("/openapi.json", None),
        ] {
            assert_eq!(needed(Area::of(path), path), right, "{path}");
        }
    }
}
