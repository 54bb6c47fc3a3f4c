//! The answer to an unreadable head: without a request no router can answer, so the server itself sends an error
//! in the usual form, and closes the connection.

use std::fmt::Write as _;

use http::{Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use super::socket::Leftover;
use crate::api::ApiError;

/// The first byte of a TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// The error for a head that hyper rejected with `error`; `None` when the client cannot receive one: it has
/// gone, or is in the middle of another answer.
pub(super) fn reason(error: &hyper::Error, left: &Leftover) -> Option<ApiError> {
    if error.is_parse_version_h2() && left.is_flushed {
        return Some(ApiError::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "This port speaks HTTP/1.1, and the client began with HTTP/2. Let it use HTTP/1.1.",
        ));
    }
    let status = left.refused?;
    let message = match status {
        _ if left.first_byte == Some(TLS_HANDSHAKE) => {
            "This port speaks plain HTTP, and the client began with TLS. Use `http://` in its URL, or \
             put a proxy that adds TLS before the hub."
        }
        StatusCode::URI_TOO_LONG => {
            "The URL of the request is longer than 64 KiB. Send what is long in the body."
        }
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "The head of the request is larger than 64 KiB or has more than 100 headers. Send fewer \
             and shorter ones; what is long belongs in the body."
        }
        _ => explain(&error.to_string()),
    };
    Some(ApiError::new(status, message))
}

/// The fault of a head, from hyper's message, with the correction.
fn explain(cause: &str) -> &'static str {
    let known = [
        (
            "header parsed",
            "A header of the request cannot be read. Each is one line `name: value`: nothing before the \
             name, no space in it or after it, and no control characters.",
        ),
        (
            "content-length",
            "The `Content-Length` of the request is not one plain number.",
        ),
        (
            "transfer-encoding",
            "The `Transfer-Encoding` of the request cannot be read. Only `chunked` is, in HTTP/1.1.",
        ),
        (
            "URI",
            "The URL of the request cannot be read. It is a path like `/v1/models`, or a whole URL.",
        ),
        (
            "version",
            "The first line of the request does not end with `HTTP/1.1`. It is one like `POST \
             /v1/chat/completions HTTP/1.1`, and a space within the URL is `%20`.",
        ),
    ];
    let known = known.iter().find(|(word, _)| cause.contains(word));
    known.map_or(
        "The first line is not that of an HTTP request. It is one like `POST /v1/chat/completions \
         HTTP/1.1`.",
        |(_, text)| text,
    )
}

/// The bytes of the answer.
pub(super) fn to_bytes(response: &Response<String>) -> String {
    let (status, body) = (response.status(), response.body());
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in response.headers() {
        // The server's own values are plain text.
        let value = value.to_str().unwrap_or_default();
        let _ = write!(text, "{name}: {value}\r\n");
    }
    if let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&Timestamp::now()) {
        let _ = write!(text, "date: {date}\r\n");
    }
    let length = body.len();
    let _ = write!(
        text,
        "content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    text
}
