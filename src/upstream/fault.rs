//! The faults of a worker's answer.

use std::io;

/// The reason why an answer cannot be used, or not further.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The worker closed the connection before its answer was complete.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// The bytes are not the head of an answer.
    #[error("this is no HTTP/1.1: {0}")]
    NotHttp(#[from] httparse::Error),
    /// The head is too long.
    #[error("the head of the answer is longer than {} KiB", super::head::MAX_HEAD_BYTES >> 10)]
    LongHead,
    /// There are too many interim answers (1xx).
    #[error("the worker sends interim answers (1xx) and no other")]
    Interim,
    /// The worker changed the protocol, which it was not asked to.
    #[error("the worker switched to another protocol")]
    Switched,
    /// There are several lengths, or an invalid one.
    #[error("the answer's Content-Length is not one number")]
    Length,
    /// A chunk does not begin or end as it must.
    #[error("a chunk of the answer is not framed as one")]
    Chunk,
}
