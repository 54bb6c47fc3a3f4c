//! The requests that ended last: the answer of `GET /hub/requests`, and what the status page lists.

use serde::{Deserialize, Serialize};

/// Some of the last requests, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestsReport {
    /// The requests.
    pub requests: Vec<EndedRequest>,
}

/// A request to a worker, or one that was refused. It has no text of the request or of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EndedRequest {
    /// Grows with every request that is listed.
    pub number: u64,
    /// Its `X-Request-ID`.
    pub id: String,
    /// When it arrived, Unix seconds.
    pub time: f64,
    /// The client's address.
    pub client: String,
    /// The API that the client speaks, as policies know it: `openai`, `anthropic`, …
    pub protocol: String,
    /// The method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The model that it went to; none if it was refused before.
    pub model: Option<String>,
    /// The status of the answer; 499 if the client left before it was complete.
    pub status: u16,
    /// True if the answer was a stream.
    pub stream: bool,
    /// Seconds from its arrival to the end of the answer.
    pub seconds: f64,
    /// Seconds of these in a queue, and while the model was loaded.
    pub wait_seconds: f64,
    /// Seconds to the first event of a stream.
    pub first_token_seconds: Option<f64>,
    /// Tokens of the request, if the worker told.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer, if the worker told.
    pub completion_tokens: Option<u64>,
    /// Tokens of a stream per second, if they can be measured.
    pub tokens_per_second: Option<f64>,
}
