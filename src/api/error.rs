//! The one error form every HTTP answer of the hub uses, under `/v1` and `/hub` alike:
//! `{"error": {"message", "type", "param", "code"}}`.
//!
//! Lua verdicts (`hub.reject`), refusals of the lifecycle and errors of the gateway and the control
//! API are all values of [`ApiError`]; the two HTTP surfaces turn it into a response.

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// The code of a 429 that does not pass with time: a user has to free memory first.
pub const GROUP_FULL: &str = "group_full";

/// The code of a request that somebody cancelled: sent again, it would come back.
pub const CANCELLED: &str = "request_cancelled";

/// The header by which the clients of OpenAI and of Anthropic decide whether to retry.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// `Retry-After` of a 429 that has none of its own, in seconds.
const SOON: u64 = 5;

/// An error as a client sees it: an HTTP status and the four fields of OpenAI's error object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// The failure, its subject, and the remedy.
    pub message: String,
    /// OpenAI's `type`; by default derived from the status.
    pub kind: String,
    /// OpenAI's `code`: its own word where it has one, otherwise the status as a string.
    pub code: String,
    /// The request field that is at fault, if one is.
    pub param: Option<String>,
    /// Seconds for the `Retry-After` header.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error with the type and code that belong to `status`.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            message: message.into(),
            kind: kind_of(status.as_u16()).to_owned(),
            code: status.as_u16().to_string(),
            param: None,
            retry_after: None,
        }
    }

    /// 400: the model must be started first. `create_hub.lua` says it in the same words.
    pub fn not_started(model: &str) -> Self {
        let message = format!("Model `{model}` is not started. {}", start_it(model));
        Self::new(StatusCode::BAD_REQUEST, message).with_param("model")
    }

    /// 503: the model is on its way out. `create_hub.lua` says it in the same words.
    pub fn being_stopped(model: &str) -> Self {
        let message = format!("Model `{model}` is being stopped. {}", start_it(model));
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).with_param("model")
    }

    /// 503: the hub takes no more orders.
    pub fn shutting_down() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The hub is shutting down. Try again once it runs.",
        )
    }

    /// The same with OpenAI's own word as `code`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// The same with the request field that is at fault.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same with a `Retry-After` of so many seconds.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The HTTP status; 500 when a policy named one that does not exist.
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body of the answer.
    pub fn to_json(&self) -> Value {
        json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }})
    }

    /// The whole answer: status, JSON body and whether and when to ask again, where there is a word
    /// about that. Every 429 has one, as clients send it again by themselves, and in silence.
    pub fn to_response(&self) -> Response<String> {
        let mut response = Response::new(self.to_json().to_string());
        *response.status_mut() = self.status_code();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let is_429 = self.status == StatusCode::TOO_MANY_REQUESTS;
        let is_final = is_429 && self.code == GROUP_FULL || self.code == CANCELLED;
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        } else if is_final {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        } else if is_429 {
            headers.insert(RETRY_AFTER, HeaderValue::from(SOON));
        }
        response
    }
}

fn start_it(model: &str) -> String {
    format!(
        "Start it with `mlx-openai-server-hub start-model {model}` or POST /hub/models/{model}/start."
    )
}

/// A text that a client wrote, as an error may repeat it: no longer than can be read, and without what
/// a terminal would obey.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    /// In characters.
    const MAX_CHARS: usize = 200;
    let is_plain = |char: char| !char.is_control() && !is_invisible(char);
    let end = text.char_indices().nth(MAX_CHARS).map(|(at, _)| at);
    if end.is_none() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for char in text[..end.unwrap_or(text.len())].chars() {
        if is_plain(char) {
            shown.push(char);
        } else {
            shown.extend(char.escape_default());
        }
    }
    if end.is_some() {
        shown.push('…');
    }
    Cow::Owned(shown)
}

/// True if it turns the direction of a line, or ends it, and is not seen itself.
fn is_invisible(char: char) -> bool {
    matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// OpenAI's error type for a status.
pub fn kind_of(status: u16) -> &'static str {
    match status {
        403 => "permission_error",
        429 => "rate_limit_error",
        502..=504 => "service_unavailable",
        500..=599 => "server_error",
        _ => "invalid_request_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_follows_the_status() {
        for (status, kind) in [
            (400, "invalid_request_error"),
            (404, "invalid_request_error"),
            (405, "invalid_request_error"),
            (413, "invalid_request_error"),
            (421, "invalid_request_error"),
            (403, "permission_error"),
            (429, "rate_limit_error"),
            (500, "server_error"),
            (502, "service_unavailable"),
            (503, "service_unavailable"),
            (504, "service_unavailable"),
        ] {
            assert_eq!(kind_of(status), kind, "{status}");
        }
    }

    #[test]
    fn what_a_client_wrote_is_repeated_as_text_and_in_part() {
        for (text, as_shown) in [
            ("org/Qwen3-30B `é` 模型", "org/Qwen3-30B `é` 模型"),
            ("a\x1b[31m\r\nb", "a\\u{1b}[31m\\r\\nb"),
            ("a\u{202e}b\u{9b}", "a\\u{202e}b\\u{9b}"),
        ] {
            assert_eq!(shown(text), as_shown);
        }
        assert_eq!(shown(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(shown(&"é".repeat(201)), format!("{}…", "é".repeat(200)));
    }

    #[test]
    fn the_code_is_a_string() {
        let error = ApiError::new(StatusCode::NOT_FOUND, "no").with_code("model_not_found");
        assert_eq!(error.to_json()["error"]["code"], "model_not_found");
        let error = ApiError::new(StatusCode::BAD_REQUEST, "no");
        assert_eq!(error.to_json()["error"]["code"], "400");
        assert_eq!(error.to_json()["error"]["param"], Value::Null);
    }

    #[test]
    fn every_429_says_whether_and_when_to_ask_again() {
        let refused = |code: &str, retry_after| {
            let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "no").with_code(code);
            error.retry_after = retry_after;
            let headers = error.to_response().into_parts().0.headers;
            [RETRY_AFTER, SHOULD_RETRY].map(|name| {
                let value = headers.get(name)?;
                value.to_str().ok().map(str::to_owned)
            })
        };
        let told = |value: &str| Some(value.to_owned());
        assert_eq!(refused("group_full", None), [None, told("false")]);
        // A policy knows when there will be room.
        assert_eq!(refused("group_full", Some(60)), [told("60"), None]);
        assert_eq!(refused("429", Some(7)), [told("7"), None]);
        assert_eq!(refused("429", None), [told("5"), None]);
        let other = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no").to_response();
        assert!(!other.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn the_response_carries_status_type_and_retry_after() {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "full").with_retry_after(7);
        let response = error.to_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(response.headers()[RETRY_AFTER], "7");
        assert!(response.body().contains(r#""type":"rate_limit_error""#));
    }
}
