//! What can be wrong with a worker's answer.

use std::io;

/// Why an answer cannot be used, or not further.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The worker closed the connection before its answer was complete.
    #[error("the connection was closed before the answer was complete")]
    Closed,
    /// What came is not the head of an answer.
    #[error("this is no HTTP/1.1: {0}")]
    NotHttp(#[from] httparse::Error),
    /// The head goes on and on.
    #[error("the head of the answer is longer than {} KiB", super::head::LONGEST >> 10)]
    LongHead,
    /// One interim answer (1xx) follows the other.
    #[error("the worker sends interim answers (1xx) and no other")]
    Interim,
    /// The worker changed the protocol, which it was not asked to.
    #[error("the worker switched to another protocol")]
    Switched,
    /// There are several lengths, or one is no number.
    #[error("the answer's Content-Length is not one number")]
    Length,
    /// Where a chunk should begin or end there is something else.
    #[error("a chunk of the answer is not framed as one")]
    Chunk,
}
