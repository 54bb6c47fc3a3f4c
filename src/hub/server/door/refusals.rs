//! The errors for refused requests, with the setting that would allow them.

use std::time::Duration;

use http::StatusCode;

use super::Area;
use crate::api::{ApiError, shown};

/// A page of `origin` makes a request that it may not; `None` if the origin cannot be read.
pub(super) fn foreign_origin(area: Area, origin: Option<&str>) -> ApiError {
    let what = what(area);
    let message = match origin {
        Some(origin) if origin.contains("://") => {
            let origin = shown(origin);
            format!(
                "Pages of `{origin}` may not {what}; to let them, add it to `allowed_origins` in hub.yaml"
            )
        }
        Some(origin) => {
            let origin = shown(origin);
            format!(
                "A page whose origin is `{origin}` may not {what}; serve it at an address of its own, and add \
                 that to `allowed_origins` in hub.yaml"
            )
        }
        None => format!("A page that does not say whose it is may not {what}"),
    };
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// A request of another site's page that names no origin, as for an image.
pub(super) fn another_site(area: Area) -> ApiError {
    let what = what(area);
    let message = format!(
        "A page of another site may not {what}; to let it, add its origin to `allowed_origins` in hub.yaml and \
         let it ask with `fetch`, which names the origin"
    );
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// A browser's GET that does not say which page asks.
pub(super) fn silent_browser() -> ApiError {
    let message = "A browser that does not say which page asks may only list the models: over plain HTTP any page \
                   can make it ask. Use `http://localhost` on the hub's own machine, or another program such as \
                   curl";
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// Two `Origin` headers are ambiguous.
pub(super) fn two_origins() -> ApiError {
    let message = "The request has two `Origin` headers. Send one, as browsers do.";
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// Two `Host` headers are ambiguous (RFC 9112, 3.2).
pub(super) fn two_hosts() -> ApiError {
    let message = "The request has two `Host` headers. Send one.";
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

/// The hub does not answer to this name.
pub(super) fn strange_host(host: Option<&str>) -> ApiError {
    let host = shown(host.unwrap_or_default());
    let message = format!(
        "This hub does not answer to the host name `{host}`; \
         to let it, add it to `allowed_hosts` in hub.yaml"
    );
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, message)
}

/// A request without a key.
pub(super) fn no_key() -> ApiError {
    unauthorized(
        "This hub wants an API key. Send it as `Authorization: Bearer KEY` or as `x-api-key: KEY`; \
         `mlx-openai-server-hub key add NAME` makes one.",
    )
}

/// A key that the hub does not know.
pub(super) fn wrong_key() -> ApiError {
    unauthorized(
        "The API key is none of this hub's. `mlx-openai-server-hub key list` shows their names.",
    )
}

/// A key that was good.
pub(super) fn expired_key(name: &str) -> ApiError {
    unauthorized(&format!(
        "The API key `{name}` has expired. Set another `expires` in hub.yaml, or make a new key with \
         `mlx-openai-server-hub key add`."
    ))
}

/// Too many wrong keys at the login; so long is left.
pub(super) fn too_many_tries(left: Duration) -> ApiError {
    let seconds = left.as_secs_f64().ceil() as u64;
    let message = format!("Too many wrong keys came from this address. Try again in {seconds} s.");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message).with_retry_after(seconds)
}

/// The system gives no random numbers.
pub(super) fn no_random_numbers(error: &getrandom::Error) -> ApiError {
    let message = format!("Nobody can log in: the system has no random numbers: {error}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// The body of a login is not what it should be.
pub(super) fn no_login() -> ApiError {
    let message =
        "Send a login as JSON, `{\"key\": \"KEY\"}`, with `Content-Type: application/json`.";
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

/// A key that may use the models only.
pub(super) fn may_not_control(name: &str) -> ApiError {
    let message = format!(
        "The API key `{name}` may use the models of this hub and not control it; to let it, write \
         `may: [use, control]` in its entry in hub.yaml"
    );
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// 401 with OpenAI's own word.
fn unauthorized(message: &str) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message).with_code("invalid_api_key")
}

fn what(area: Area) -> &'static str {
    match area {
        Area::Hub => "control this hub",
        Area::Workers | Area::Public => "use the models of this hub",
    }
}
