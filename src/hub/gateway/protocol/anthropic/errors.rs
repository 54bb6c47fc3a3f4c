//! Errors in the form of Anthropic's API, and the event that keeps a stream alive.

use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};

use crate::api::ApiError;
use crate::hub::gateway::answer::body::Body;

/// The status that Anthropic's API has for a server with too much to do.
const OVERLOADED: u16 = 529;

/// Keeps a client waiting: it reads nothing else into it. The comment is for people who look.
pub(super) fn ping(text: &str) -> Bytes {
    format!(": {text}\nevent: ping\ndata: {{\"type\":\"ping\"}}\n\n").into()
}

/// The whole answer to a request that failed.
pub(super) fn error(error: &ApiError) -> Response<Body> {
    // What else is in the head, as when to ask again, is the same in both protocols.
    error
        .to_response()
        .map(|_| Body::full(body(error).to_string()))
}

/// The last event of a stream that fails.
pub(super) fn error_event(error: &ApiError) -> Bytes {
    format!("event: error\ndata: {}\n\n", body(error)).into()
}

fn body(error: &ApiError) -> Value {
    json!({
        "type": "error",
        "error": {"type": kind(error.status), "message": error.message},
    })
}

/// The type that belongs to a status.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 | 421 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        // Clients ask again after it.
        503 | OVERLOADED => "overloaded_error",
        504 => "timeout_error",
        500..=599 => "api_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn each_status_has_its_type() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (404, "not_found_error"),
            (405, "invalid_request_error"),
            (413, "request_too_large"),
            (422, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "api_error"),
            (502, "api_error"),
            (503, "overloaded_error"),
            (504, "timeout_error"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error_of = ApiError::new(status, "no `model`");
            let (answer, body) = (error(&error_of), body(&error_of));
            let expected =
                json!({"type": "error", "error": {"type": kind, "message": "no `model`"}});
            assert_eq!((answer.status(), body), (status, expected));
        }
    }

    #[test]
    fn what_says_when_to_ask_again_stays() {
        let full = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "full").with_code("group_full");
        assert_eq!(error(&full).headers()["x-should-retry"], "false");
        assert_eq!(
            error_event(&full),
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\
             \"message\":\"full\"}}\n\n"
        );
    }
}
