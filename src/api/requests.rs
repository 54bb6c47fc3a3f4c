//! The requests in flight and those that ended last: the answer of `GET /hub/requests`, and what the status page
//! lists.

use serde::{Deserialize, Serialize};

/// The requests in flight, and some of the last ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestsReport {
    /// Those that have no whole answer yet.
    pub in_flight: Vec<RequestInFlight>,
    /// Those that have ended, the oldest first.
    pub requests: Vec<EndedRequest>,
}

/// A request that has no whole answer yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestInFlight {
    /// Its number among these; it keeps it.
    pub number: u64,
    /// Its `X-Request-ID`, by which it is cancelled.
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
    /// The model that it goes to, or names.
    pub model: Option<String>,
    /// Its stage.
    pub stage: Stage,
}

/// The stage of a request in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is read, judged, or waits for its turn or its model.
    #[default]
    Waiting,
    /// A worker has it and has not begun to answer.
    Sent,
    /// The worker's answer passes through.
    Answering,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Waiting, Self::Sent, Self::Answering];
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
    /// True if somebody cancelled it.
    pub cancelled: bool,
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
