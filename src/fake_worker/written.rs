//! Streams that a test has written down: their bytes, cut as it says.

use std::convert::Infallible;
use std::path::Path;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Deserialize;

use super::http::{Answer, ModelCall, json_answer};
use super::story;

/// A file of the folder.
#[derive(Deserialize)]
struct Written {
    pieces: Vec<Vec<u8>>,
    /// Whether the connection ends before the answer does.
    breaks_off: bool,
}

/// The stream of the file that the prompt names.
pub(super) fn stream(folder: &Path, call: ModelCall) -> Answer {
    let file = folder.join(story::prompt(call.json()).trim());
    let written = std::fs::read(file).map_err(|error| error.to_string());
    let written =
        written.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    let Written { pieces, breaks_off } = match written {
        Ok(written) => written,
        Err(error) => return json_answer(StatusCode::NOT_FOUND, &error.into()),
    };
    let length: usize = pieces.iter().map(Vec::len).sum();
    let busy = call.busy;
    let pieces = stream::iter(pieces).then(move |piece| {
        let _busy = &busy;
        async {
            // Each is sent before the next is looked at.
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))
        }
    });
    let mut answer = Response::new(StreamBody::new(pieces).boxed_unsync());
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    if breaks_off {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length + 1));
    }
    answer
}
