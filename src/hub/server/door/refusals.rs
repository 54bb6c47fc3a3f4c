//! What those are told who may not come in, and what would let them.

use http::StatusCode;

use super::Room;
use crate::api::{ApiError, shown};

/// A page of `origin` asks for what it may not; `None` for one whose origin cannot be read.
pub(super) fn foreign_origin(room: Room, origin: Option<&str>) -> ApiError {
    let what = what(room);
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

/// A request of another site's page, as an image's, says no more than that.
pub(super) fn another_site(room: Room) -> ApiError {
    let what = what(room);
    let message = format!(
        "A page of another site may not {what}; to let it, add its origin to `allowed_origins` in hub.yaml and \
         let it ask with `fetch`, which names the origin"
    );
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// Of two origins nobody knows which holds.
pub(super) fn two_origins() -> ApiError {
    let message = "The request has two `Origin` headers. Send one, as browsers do.";
    ApiError::new(StatusCode::FORBIDDEN, message)
}

/// Of two hosts nobody knows which holds (RFC 9112, 3.2).
pub(super) fn two_hosts() -> ApiError {
    let message = "The request has two `Host` headers. Send one.";
    ApiError::new(StatusCode::BAD_REQUEST, message)
}

/// The hub has no such name.
pub(super) fn strange_host(host: Option<&str>) -> ApiError {
    let host = shown(host.unwrap_or_default());
    let message = format!(
        "This hub does not answer to the host name `{host}`; \
         to let it, add it to `allowed_hosts` in hub.yaml"
    );
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, message)
}

fn what(room: Room) -> &'static str {
    match room {
        Room::Hub => "control this hub",
        Room::Workers | Room::Hall => "use the models of this hub",
    }
}
