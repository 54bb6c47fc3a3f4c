//! A worker's stream on its way to a client of another protocol.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::chat::Translate;
use super::door::Answering;
use crate::api::ApiError;

/// The stream, as far as it has come.
#[derive(Debug)]
pub(crate) struct Translation {
    stream: Box<dyn Translate>,
    /// For the pieces that are written.
    out: Vec<u8>,
}

impl Translation {
    /// Of the answer with this head, which is made that of the client's protocol. `model` is what the client
    /// calls its model.
    pub(in super::super) fn new(
        answering: Answering,
        model: String,
        headers: &mut HeaderMap,
    ) -> Self {
        headers.remove(CONTENT_LENGTH);
        for (name, value) in [
            (CONTENT_TYPE, answering.stream_type()),
            (CACHE_CONTROL, "no-cache"),
            // nginx would keep events to itself.
            (HeaderName::from_static("x-accel-buffering"), "no"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Self {
            stream: answering.stream(model),
            out: Vec::new(),
        }
    }

    /// The client's bytes for the next chunk; perhaps none.
    pub(in super::super) fn feed(&mut self, chunk: &[u8]) -> Bytes {
        self.stream.feed(chunk, &mut self.out);
        self.written()
    }

    /// The worker has no more to say. `broke_off` is for a stream that is not complete.
    pub(in super::super) fn end(&mut self, broke_off: &ApiError) -> Bytes {
        self.stream.end(broke_off, &mut self.out);
        self.written()
    }

    /// Something went wrong.
    pub(in super::super) fn fail(&mut self, error: &ApiError) -> Bytes {
        self.stream.fail(error, &mut self.out);
        self.written()
    }

    /// The status of the error with which it failed, if it has: then nothing follows.
    pub(in super::super) fn failure(&self) -> Option<u16> {
        self.stream.failure()
    }

    fn written(&mut self) -> Bytes {
        let written = Bytes::copy_from_slice(&self.out);
        self.out.clear();
        written
    }
}
