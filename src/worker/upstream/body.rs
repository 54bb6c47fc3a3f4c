//! The two bodies of an exchange with a worker: what goes there and what comes back.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Limited;
use hyper::body::Incoming;

use super::pool::{Connection, Pool};

/// Any error, as `http-body`'s combinators have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request's body: the chunks that have been read already, then the rest as it arrives. Nothing is
/// copied.
#[derive(Debug)]
pub struct RequestBody {
    chunks: VecDeque<Bytes>,
    rest: Option<Limited<Incoming>>,
    /// Set once all of a body that was still arriving has been handed on.
    uploaded: Option<Arc<AtomicBool>>,
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self::new(VecDeque::new(), None)
    }

    /// `chunks`, then `rest`.
    pub fn new(chunks: VecDeque<Bytes>, rest: Option<Limited<Incoming>>) -> Self {
        let rest = rest.filter(|rest| !rest.is_end_stream());
        Self {
            uploaded: rest.is_some().then(Arc::default),
            chunks,
            rest,
        }
    }

    /// How far the body's way to the worker has come, also once hyper has the body.
    pub(super) fn upload(&self) -> Upload {
        Upload(self.uploaded.clone())
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        // Trailers are dropped, since no worker reads them. They are the end.
        let frame = ready!(Pin::new(&mut *rest).poll_frame(cx))
            .filter(|frame| !matches!(frame, Ok(frame) if frame.is_trailers()));
        if frame.is_none() || rest.is_end_stream() {
            self.rest = None;
            if let Some(uploaded) = &self.uploaded {
                uploaded.store(true, Ordering::Release);
            }
        }
        Poll::Ready(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.chunks.pop_front() {
            Some(chunk) => Poll::Ready(Some(Ok(Frame::data(chunk)))),
            None => self.poll_rest(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.is_empty() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let Some(rest) = &self.rest else {
            return SizeHint::with_exact(held);
        };
        match rest.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(held + rest),
            None => SizeHint::default(),
        }
    }
}

/// How far a request's body has come; `None` when all of it was there from the start.
pub(super) struct Upload(Option<Arc<AtomicBool>>);

impl Upload {
    /// Whether all of it has been handed on.
    pub(super) fn is_over(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|uploaded| uploaded.load(Ordering::Acquire))
    }
}

/// A response's body. It owns its connection: at its end the connection goes back to the pool, and
/// dropped before, it is closed.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl ResponseBody {
    pub(super) fn new(incoming: Incoming, connection: Connection, pool: Arc<Pool>) -> Self {
        Self {
            incoming,
            connection: Some(connection),
            pool,
        }
    }

    /// The response is complete.
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self {
            incoming,
            connection,
            ..
        } = &mut *self;
        let mut next = |cx: &mut Context<'_>| Pin::new(&mut *incoming).poll_frame(cx);
        let frame = ready!(match connection {
            Some(connection) => connection.poll(cx, next),
            None => next(cx),
        });
        match &frame {
            Some(Err(_)) => self.connection = None,
            None => self.finish(),
            Some(Ok(_)) if self.incoming.is_end_stream() => self.finish(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body of known length is not polled beyond its last byte, and an empty one never.
        if self.incoming.is_end_stream() {
            self.finish();
        }
    }
}
