//! What a client has sent, or is still sending, and nobody has read.
//!
//! A client that is answered in the middle of its body would lose the answer together with the connection, and
//! its next request too, if the connection ended without a word. So what is left is read, for a while; and
//! where it cannot be, the answer says that it is the last.

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

/// How long a client may go on sending.
const LIMIT: Duration = Duration::from_secs(10);

/// Reads what is left of `body`, and says in the `headers` of its answer if that is not all.
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

/// A body that comes back when those who got it want no more of it.
#[derive(Debug)]
pub(super) struct Lent {
    body: Option<Incoming>,
    left: Left,
}

/// Where a [`Lent`] body comes back.
#[derive(Debug, Clone, Default)]
pub(super) struct Left(Arc<Mutex<Option<Incoming>>>);

impl Left {
    /// What nobody has read, if there is any.
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
