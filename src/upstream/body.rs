//! The two bodies of an exchange with a worker: the request's and the response's.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::connection::Connection;
use super::fault::Fault;
use super::framing::Remaining;
use super::pool::Pool;

/// Any error, as `http-body`'s combinators have it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The unread rest of a request's body.
pub type Rest = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// A request's body: the chunks that have been read already, then the rest as it arrives. Nothing is
/// copied.
pub struct RequestBody {
    chunks: VecDeque<Bytes>,
    rest: Option<Rest>,
    /// Set once nothing more is to come from the client.
    is_here: Option<Arc<AtomicBool>>,
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self::new(VecDeque::new(), None)
    }

    /// `chunks`, then `rest`.
    pub fn new(chunks: VecDeque<Bytes>, rest: Option<Rest>) -> Self {
        let rest = rest.filter(|rest| !rest.is_end_stream());
        Self {
            chunks,
            rest,
            is_here: None,
        }
    }

    /// Its length in bytes; none while some of it is still to come.
    pub fn size(&self) -> Option<usize> {
        let held = || self.chunks.iter().map(Bytes::len).sum();
        self.rest.is_none().then(held)
    }

    /// The chunks that have been read already.
    pub fn pieces(&self) -> Vec<Bytes> {
        self.chunks.iter().cloned().collect()
    }

    /// The flag that is set at the end of the client's body; `None` if it has ended already.
    pub fn arrival(&mut self) -> Option<Arc<AtomicBool>> {
        self.rest.is_some().then(|| {
            let is_here = self.is_here.get_or_insert_default();
            Arc::clone(is_here)
        })
    }

    /// The chunks that have been read already.
    pub(super) fn take_chunks(&mut self) -> VecDeque<Bytes> {
        std::mem::take(&mut self.chunks)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(rest) = &mut self.rest else {
            return Poll::Ready(None);
        };
        // Trailers are dropped, since no worker reads them. They are the end.
        let frame = ready!(rest.as_mut().poll_frame(cx))
            .filter(|frame| !matches!(frame, Ok(frame) if frame.is_trailers()));
        if frame.is_none() || rest.is_end_stream() {
            self.rest = None;
            if let Some(is_here) = &self.is_here {
                is_here.store(true, Ordering::Relaxed);
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

/// A response's body. It owns its connection: at its end the connection goes back to the pool, and
/// dropped before, it is closed.
#[derive(Debug)]
pub struct ResponseBody {
    remaining: Remaining,
    keeps_alive: bool,
    connection: Option<Connection>,
    pool: Arc<Pool>,
}

impl ResponseBody {
    pub(super) fn new(
        remaining: Remaining,
        keeps_alive: bool,
        connection: Connection,
        pool: Arc<Pool>,
    ) -> Self {
        Self {
            remaining,
            keeps_alive,
            connection: Some(connection),
            pool,
        }
    }

    /// The response is complete.
    fn finish(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.keeps_alive
        {
            self.pool.put(connection);
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(None);
        };
        loop {
            if let Some(data) = self.remaining.take(connection.unread()).transpose() {
                return Poll::Ready(Some(data));
            }
            if self.remaining.is_over() {
                return Poll::Ready(None);
            }
            if ready!(connection.poll_fill(cx))? == 0 {
                return Poll::Ready(self.remaining.close().err().map(Err));
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let data = ready!(self.poll_data(cx));
        match &data {
            Some(Err(_)) => self.connection = None,
            None => self.finish(),
            Some(Ok(_)) if self.remaining.is_over() => self.finish(),
            Some(Ok(_)) => {}
        }
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining
            .length()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A body of known length is not polled beyond its last byte, and an empty one never.
        if self.remaining.is_over() {
            self.finish();
        }
    }
}
