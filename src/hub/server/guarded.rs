//! An answer of the control API that ends once its request would no longer be let in: a page that is left open learns
//! nothing more when its key is taken away, has expired, or was logged out.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// The answer's body, asked about before each piece of it.
pub(super) struct Guarded<F> {
    pub(super) body: axum::body::Body,
    pub(super) may_go_on: F,
}

impl<F: Fn() -> bool + Unpin> Body for Guarded<F> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let piece = Pin::new(&mut self.body).poll_frame(context);
        match piece.is_ready() && !(self.may_go_on)() {
            true => Poll::Ready(None),
            false => piece,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
