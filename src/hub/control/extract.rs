//! Raw input of the control API, checked once: the model's name, the caller, and an ignored body.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;

use serde_json::Value;

use super::error::bad_path;
use crate::api::ApiError;

/// No request of the control API needs more than a few bytes.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

/// `{name}` of the path, percent-decoded and trimmed; not empty.
#[derive(Debug)]
pub(super) struct ModelName(pub(super) String);

/// The answer to a path without a model name.
pub(super) fn empty_name() -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "Model name cannot be empty")
}

impl<S: Send + Sync> FromRequestParts<S> for ModelName {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(raw) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| bad_path(&rejection))?;
        let name = raw.trim();
        if name.is_empty() {
            return Err(empty_name());
        }
        Ok(Self(name.to_owned()))
    }
}

/// A request body of any type, read to its end and dropped. Reading it keeps the connection usable
/// for the client's next request.
#[derive(Debug)]
pub(super) struct IgnoredBody;

impl<S: Send + Sync> FromRequest<S> for IgnoredBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state)
            .await
            .map(|_| Self)
            .map_err(|rejection| body_error(&rejection))
    }
}

/// The caller of a verb, for the history of decisions: a command, the status page, or another program. The body
/// is read to its end, as [`IgnoredBody`] is, and has no effect.
#[derive(Debug)]
pub(super) struct Caller(pub(super) &'static str);

impl<S: Send + Sync> FromRequest<S> for Caller {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let agent = request.headers().get(USER_AGENT);
        let is_command = agent.is_some_and(|agent| agent.as_bytes().starts_with(OWN_AGENT));
        let body = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| body_error(&rejection))?;
        let said = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        Ok(Self(match said["reason"].as_str() {
            _ if is_command => "command",
            Some("dashboard") => "status page",
            _ => "control API",
        }))
    }
}

/// The name that the commands give themselves.
const OWN_AGENT: &[u8] = concat!(env!("CARGO_PKG_NAME"), "/").as_bytes();

fn body_error(rejection: &BytesRejection) -> ApiError {
    let message = match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            format!("The request body is larger than {BODY_LIMIT} bytes")
        }
        _ => rejection.body_text(),
    };
    ApiError::new(rejection.status(), message)
}
