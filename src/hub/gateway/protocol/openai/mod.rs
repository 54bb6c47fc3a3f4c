//! The words of OpenAI's API that the hub speaks itself: the answers under `/v1` that are not a
//! worker's. The only place that turns an [`ApiError`] into a response for `/v1`.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::Value;

use super::{EVENTS, Protocol};
use crate::api::{ApiError, shown};
use crate::hub::gateway::answer::body::Body;
use crate::hub::gateway::request::stream_flag::asks_for_stream;

mod codex;
pub(in crate::hub::gateway) mod models;
pub(in crate::hub::gateway) mod response_owners;
pub(in crate::hub::gateway) mod routes;

/// The route of plain completions. A chat cannot stand in for them.
pub(in crate::hub::gateway) const COMPLETIONS: &str = "/v1/completions";

pub(super) const OPENAI: Protocol = Protocol {
    // `RequestView::OPENAI`, of which adapters know nothing.
    name: "openai",
    asks_for_stream,
    error,
    error_event,
    only_event: error_event,
    notice: comment,
    stream_type: EVENTS,
};

/// The answer to a request that failed in the hub.
fn error(error: &ApiError) -> Response<Body> {
    error.to_response().map(Body::full)
}

/// The same in a stream.
fn error_event(error: &ApiError) -> Bytes {
    event(&error.to_json())
}

/// An event of a stream.
pub(in crate::hub::gateway) fn event(json: &Value) -> Bytes {
    format!("data: {json}\n\n").into()
}

/// A line of a stream that its reader skips.
fn comment(text: &str) -> Bytes {
    format!(": {text}\n\n").into()
}

/// A 200 with a JSON body.
pub(in crate::hub::gateway) fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(value.to_string()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// The answer to a method that the route does not have: 405, or for OPTIONS the list of those it has.
pub(in crate::hub::gateway) fn allowed_methods(
    protocol: &Protocol,
    method: &Method,
    path: &str,
    allowed: &'static str,
) -> Response<Body> {
    let mut response = if method == Method::OPTIONS {
        let mut response = Response::new(Body::full(Bytes::new()));
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        (protocol.error)(&ApiError::new(
            StatusCode::METHOD_NOT_ALLOWED,
            format!(
                "{} is not allowed on {}; use {allowed}",
                shown(method.as_str()),
                shown(path)
            ),
        ))
    };
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
