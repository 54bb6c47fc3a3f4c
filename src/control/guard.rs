//! Which web pages and which host names may reach the hub.
//!
//! The server asks the [`Guard`] about every request before it goes anywhere. Under `/hub`, and under
//! `/upstream` where workers have routes of their own, it stops
//! two attacks a browser can be made to carry out: a strange page that posts to the hub (its
//! `Origin` gives it away), and a strange name that resolves to the hub's address (DNS rebinding:
//! its `Host` does). It also says who is told so by CORS. It knows nothing of routes or models.

use axum::http::header::{HOST, ORIGIN, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, Version};

use super::origin::{Authority, Origin, normal_name};
use crate::api_error::ApiError;
use crate::lifecycle::Lifecycle;

/// Applies the rules of the configuration in force, so that a reload changes them.
#[derive(Debug, Clone)]
pub struct Guard {
    lifecycle: Lifecycle,
    machine: String,
}

impl Guard {
    /// A guard that also knows this machine's own name.
    pub fn new(lifecycle: Lifecycle) -> Self {
        let machine = gethostname::gethostname().to_string_lossy().into_owned();
        Self { lifecycle, machine }
    }
}

impl crate::server::Guard for Guard {
    /// Lets a request in, with the value of `Access-Control-Allow-Origin` to answer it with, if any.
    ///
    /// # Errors
    /// Under `/hub` and `/upstream`: 421 for a `Host` the hub does not answer to, 403 for a change of state from
    /// another origin.
    fn check(&self, parts: &Parts) -> Result<Option<HeaderValue>, ApiError> {
        // Most requests are those of clients to `/v1`, which tell of no page.
        if !is_control(parts) && !parts.headers.contains_key(ORIGIN) {
            return Ok(None);
        }
        let config = self.lifecycle.config();
        let rules = Rules {
            allowed_origins: &config.allowed_origins,
            allowed_hosts: &config.allowed_hosts,
            machine: &self.machine,
        };
        rules.check(parts)
    }
}

/// What a worker has besides OpenAI's API is as much the owner's business as the hub itself.
fn is_control(parts: &Parts) -> bool {
    ["/hub", "/upstream"]
        .iter()
        .any(|root| is_under(parts.uri.path(), root))
}

/// The rules themselves.
#[derive(Debug, Clone, Copy)]
struct Rules<'a> {
    allowed_origins: &'a [String],
    allowed_hosts: &'a [String],
    machine: &'a str,
}

impl Rules<'_> {
    fn check(self, parts: &Parts) -> Result<Option<HeaderValue>, ApiError> {
        let is_control = is_control(parts);
        if is_control {
            self.check_host(reached_at(parts).as_ref(), parts)?;
        }
        let Some(value) = parts.headers.get(ORIGIN) else {
            return Ok(None);
        };
        let origin = value.to_str().ok().and_then(Origin::parse);
        let listed = origin.as_ref().is_some_and(|origin| self.lists(origin));
        let is_guarded = is_control && changes_state(&parts.method);
        // CORS does not keep a page from a WebSocket.
        if (is_guarded || parts.headers.contains_key(UPGRADE)) && !listed {
            // The hub itself speaks plain HTTP; behind a proxy that adds TLS the proxy's origin
            // has to be listed.
            let own = reached_at(parts).map(|authority| Origin::new("http", authority));
            if origin.is_none() || origin != own {
                return Err(foreign_origin(value));
            }
        }
        let speaks_cors = is_control || is_under(parts.uri.path(), "/v1");
        Ok((listed && speaks_cors).then(|| value.clone()))
    }

    fn lists(self, origin: &Origin) -> bool {
        self.allowed_origins
            .iter()
            .any(|allowed| Origin::parse(allowed).as_ref() == Some(origin))
    }

    fn check_host(self, authority: Option<&Authority>, parts: &Parts) -> Result<(), ApiError> {
        match authority {
            Some(authority) if self.answers_to(authority) => Ok(()),
            // Before HTTP/1.1 there was no `Host`; no browser speaks that any more.
            None if parts.version < Version::HTTP_11 && !parts.headers.contains_key(HOST) => Ok(()),
            _ => Err(strange_host(parts)),
        }
    }

    fn answers_to(self, authority: &Authority) -> bool {
        let host = authority.host.as_str();
        let machine = normal_name(self.machine);
        let short = machine.split('.').next().unwrap_or_default();
        authority.is_address()
            || host == "localhost"
            || host
                .strip_suffix(".local")
                .is_some_and(|name| !name.is_empty())
            || host == machine
            || host == short
            || self.allowed_hosts.iter().any(|allowed| {
                Authority::parse(allowed).is_some_and(|allowed| allowed.host == host)
            })
    }
}

/// Whether `path` is `root` or lies below it.
fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn changes_state(method: &Method) -> bool {
    matches!(
        *method,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    )
}

/// The host and port the client used. A target in absolute form outranks the header (RFC 9112,
/// 3.2.2); two headers count as none, since proxies disagree on which of them holds.
fn reached_at(parts: &Parts) -> Option<Authority> {
    if let Some(authority) = parts.uri.authority() {
        return Authority::parse(authority.as_str());
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return None;
    };
    Authority::parse(host.to_str().ok()?)
}

fn foreign_origin(origin: &HeaderValue) -> ApiError {
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let message = format!(
        "Pages of `{origin}` may not control this hub; \
         to let them, add it to `allowed_origins` in hub.yaml"
    );
    ApiError::new(StatusCode::FORBIDDEN, message)
}

fn strange_host(parts: &Parts) -> ApiError {
    let host = parts.uri.authority().map_or_else(
        || {
            let host = parts.headers.get(HOST).map(HeaderValue::as_bytes);
            String::from_utf8_lossy(host.unwrap_or_default()).into_owned()
        },
        |authority| authority.to_string(),
    );
    let message = format!(
        "This hub does not answer to the host name `{host}`; \
         to let it, add it to `allowed_hosts` in hub.yaml"
    );
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, message)
}

#[cfg(test)]
mod tests;
