//! The unread rest of a client's body.
//!
//! If the connection were closed in the middle of a body, the client would lose the answer, and its next request
//! too. So the rest is read, for a while; if it is too long, the answer announces that the connection closes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;

/// Time for the rest of a body.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads the rest of `body`, and sets `Connection: close` in the answer's `headers` if it is too long.
pub(super) async fn discard(mut body: Incoming, headers: &mut HeaderMap) {
    let rest = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return false,
                None => return true,
            }
        }
    };
    let is_read = tokio::time::timeout(LIMIT, rest).await;
    if is_read != Ok(true) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// A body that returns to its owner when its reader drops it.
#[derive(Debug)]
pub(super) struct Lent {
    body: Option<Incoming>,
    left: Left,
}

/// The place to which a [`Lent`] body returns.
#[derive(Debug, Clone, Default)]
pub(super) struct Left(Arc<Mutex<Option<Incoming>>>);

impl Left {
    /// The unread rest, if there is any.
    pub(super) fn take(&self) -> Option<Incoming> {
        self.0.lock().take().filter(|body| !body.is_end_stream())
    }
}

impl Lent {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body: Some(body),
            left: Left::default(),
        }
    }

    pub(super) fn left(&self) -> Left {
        self.left.clone()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.left.0.lock() = self.body.take();
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(Incoming::size_hint);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}
