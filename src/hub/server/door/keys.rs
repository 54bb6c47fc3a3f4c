//! Asks for a key, where hub.yaml has any.
//!
//! The requests of workers need a key that may use the hub; those that control it, and `/metrics`, one that may
//! control it. The rest is open. Clients send a key as `Authorization: Bearer` or as `x-api-key`.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};

use super::{Area, refusals};
use crate::api::ApiError;
use crate::config::{ApiKey, Config, KeyDigest};

/// The purpose of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    Use,
    Control,
}

/// The key of a request to `area`; `None` if it needs none.
///
/// # Errors
/// 401 without a key, or with one that is not of this hub or has expired; 403 with one that may not do this.
pub(in crate::hub::server) fn key_of(
    parts: &Parts,
    area: Area,
    config: &Config,
) -> Result<Option<Arc<ApiKey>>, ApiError> {
    let Some(right) = needed(area, parts.uri.path()) else {
        return Ok(None);
    };
    if config.api_keys.is_empty() {
        return Ok(None);
    }
    let mut is_sent = false;
    for sent in sent(&parts.headers) {
        is_sent = true;
        let Some(key) = config.api_key(&KeyDigest::of(sent)) else {
            continue;
        };
        if key.is_expired() {
            return Err(refusals::expired_key(&key.name));
        }
        return match right {
            Right::Control if !key.may_control => Err(refusals::may_not_control(&key.name)),
            Right::Control | Right::Use => Ok(Some(Arc::clone(key))),
        };
    }
    Err(match is_sent {
        true => refusals::wrong_key(),
        false => refusals::no_key(),
    })
}

/// The right that a request needs.
fn needed(area: Area, path: &str) -> Option<Right> {
    match area {
        Area::Workers => Some(Right::Use),
        Area::Hub => Some(Right::Control),
        Area::Public => (path == "/metrics").then_some(Right::Control),
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
