//! The request that loads a worker which is up without its model.

use bytes::Bytes;
use http::StatusCode;

use crate::engine::{Engine, Request};
use crate::upstream::{Upstream, UpstreamError};

/// Sends it.
pub(super) async fn ask_to_load(
    upstream: &Upstream,
    engine: &Engine,
) -> Result<(StatusCode, Bytes), UpstreamError> {
    match &engine.load {
        Some(Request::Get(path)) => upstream.get(path).await,
        Some(Request::Post(path, body)) => upstream.post(path, body.clone()).await,
        // The file has changed under a worker that an earlier hub left.
        None => Ok((StatusCode::OK, Bytes::new())),
    }
}

/// The reason why a worker that was asked to load has not; `None` if it has.
pub(super) fn refusal(answer: Result<(StatusCode, Bytes), UpstreamError>) -> Option<String> {
    match answer {
        Ok((StatusCode::OK, _)) => None,
        Ok((status, body)) => {
            let body = String::from_utf8_lossy(&body);
            Some(format!("the worker answered {status}: {}", body.trim()))
        }
        Err(error) => Some(format!("the worker gave no answer: {error}")),
    }
}
