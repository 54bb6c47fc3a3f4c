//! The bodies of a request and its answer, where the hub keeps them: the answer of
//! `GET /hub/requests/{id}/capture`.

use serde::{Deserialize, Serialize};

/// A request whose bodies are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CapturedRequest {
    /// Its `X-Request-ID`.
    pub id: String,
    /// When it arrived, Unix seconds.
    pub time: f64,
    /// The body that the client sent, as far as the hub has read it.
    pub request: CapturedBody,
    /// The status of the answer; none before its head.
    pub status: Option<u16>,
    /// The body that the client was sent, as far as there is one.
    pub answer: CapturedBody,
}

/// A body, as far as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CapturedBody {
    /// Its `Content-Type`.
    pub content_type: Option<String>,
    /// Its length so far, in bytes.
    pub bytes: u64,
    /// Its text. Long runs of base64, as of images, are replaced by their length.
    pub text: String,
    /// One sentence about the part that is not in the text, if there is one.
    pub cut: Option<String>,
}
