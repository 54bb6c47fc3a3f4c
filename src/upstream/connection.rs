//! One connection to a worker, and the exchanges on it, one after the other (HTTP/1.1 without
//! pipelining).
//!
//! It has no task of its own: the task that waits for the answer moves the bytes, so that a request, its
//! answer and the client's connection are one task and nothing has to be woken. The two ends of hyper's
//! client talk through channels, which cost a small request a seventh of its instructions, and an open
//! stream 12 KiB. It connects to the hub's own workers only.

use std::io::ErrorKind;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::debug;

use super::fault::Fault;
use super::head::{self, Head};
use super::sending::{Sending, Stopped};
use super::{BoxError, Idle, UpstreamError};

/// Bytes of the first reads: small answers and the events of streams fit.
const MIN_READ: usize = 4 * 1024;

/// Bytes of the reads of a large answer. More would hold more memory without being faster.
const MAX_READ: usize = 64 * 1024;

/// Size of the socket's send buffer. The system's own grows to megabytes: by the time a worker reads those
/// they have left the processor's caches, and a body of 5 MB takes half as long again.
const SEND_BUFFER: usize = 256 * 1024;

/// One connection. Dropping it closes the socket at once, whatever is in flight on it.
#[derive(Debug)]
pub(super) struct Connection {
    /// The runtime that it was opened on, and is used on.
    pub(super) home: runtime::Id,
    pub(super) idle_since: Instant,
    stream: Stream,
    unread: BytesMut,
    /// Bytes of the next read.
    read_size: usize,
    /// The idle timer of the current answer.
    idle: Idle,
}

/// The owner of the socket.
#[derive(Debug)]
enum Stream {
    Whole(TcpStream),
    /// A task writes: see [`Connection::send_on`].
    Shared {
        reads: OwnedReadHalf,
        _writes: AbortOnDropHandle<()>,
    },
    /// No owner: it is being handed over.
    None,
}

/// The reason why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// None came in time.
    Silent,
    /// The body of the request failed.
    Body(BoxError),
    /// The connection broke, or the answer is invalid.
    Fault(Fault),
}

/// A socket that is connected to a worker.
pub(super) async fn connect(authority: &Arc<str>) -> Result<TcpStream, UpstreamError> {
    let connected = TcpStream::connect(&**authority).await;
    let stream = connected
        // Otherwise a token waits for the acknowledgement of the one before.
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|source| UpstreamError::Connect {
            authority: Arc::clone(authority),
            source,
        })?;
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
        debug!(%authority, %error, "the send buffer stays as it is");
    }
    Ok(stream)
}

impl Connection {
    /// A new one.
    pub(super) async fn open(authority: &Arc<str>) -> Result<Self, UpstreamError> {
        let stream = connect(authority).await?;
        Ok(Self {
            home: Handle::current().id(),
            idle_since: Instant::now(),
            stream: Stream::Whole(stream),
            unread: BytesMut::new(),
            read_size: MIN_READ,
            idle: Idle::default(),
        })
    }

    /// True if it can take a request: the worker has neither closed it nor said anything unasked.
    pub(super) fn is_fresh(&self) -> bool {
        let Stream::Whole(stream) = &self.stream else {
            return false;
        };
        let read = stream.try_read(&mut [0]);
        self.unread.is_empty() && read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// True if no byte of an answer has come; `sending` counts the interim ones.
    pub(super) fn is_silent(&self) -> bool {
        self.unread.is_empty()
    }

    /// True if it can take another request after a complete exchange: not if the worker answered before it
    /// had read the whole request.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.stream, Stream::Whole(_)) && self.unread.is_empty()
    }

    /// Gives back memory that only a large answer needed.
    pub(super) fn rest(&mut self) {
        self.idle_since = Instant::now();
        if self.read_size > MIN_READ {
            self.read_size = MIN_READ;
            self.unread = BytesMut::new();
        }
    }

    /// Begins to wait for an answer for up to `patience`; zero is for ever.
    pub(super) fn begin(&mut self, patience: Duration) {
        self.idle.begin(patience);
    }

    /// Moves the bytes of a request and of its answer as far as possible; ready with the answer's head.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<Head, Failure>> {
        if let Err(error) = self.send(cx, sending) {
            return Poll::Ready(Err(error));
        }
        match self.poll_head(cx, sending) {
            Poll::Ready(head) => Poll::Ready(head.map_err(Failure::Fault)),
            Poll::Pending => self.idle.poll(cx).map(|()| Err(Failure::Silent)),
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, sending: &mut Sending) -> Result<(), Failure> {
        let Stream::Whole(stream) = &mut self.stream else {
            return Ok(());
        };
        if sending.is_over() {
            return Ok(());
        }
        match sending.poll(cx, stream) {
            Poll::Pending | Poll::Ready(Ok(())) => Ok(()),
            Poll::Ready(Err(Stopped::Body(error))) => Err(Failure::Body(error)),
            Poll::Ready(Err(Stopped::Connection(error))) if !sending.has_begun() => {
                Err(Failure::Fault(error.into()))
            }
            // The worker may have answered why it reads no more.
            Poll::Ready(Err(Stopped::Connection(error))) => {
                debug!(%error, "a worker does not take the rest of a request");
                sending.stop();
                Ok(())
            }
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        sending: &mut Sending,
    ) -> Poll<Result<Head, Fault>> {
        loop {
            let Sending {
                for_head,
                headers,
                interim,
                ..
            } = sending;
            let head = head::take(&mut self.unread, *for_head, headers, interim);
            if let Some(head) = head.transpose() {
                return Poll::Ready(head);
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Err(Fault::Closed));
            }
        }
    }

    /// Sends the rest of a request that is answered already in a task of `tasks`, independent of the reader
    /// of the answer. The connection takes no further request.
    pub(super) fn send_on(&mut self, mut sending: Sending, tasks: &TaskTracker) {
        let stream = match std::mem::replace(&mut self.stream, Stream::None) {
            Stream::Whole(stream) => stream,
            shared => {
                self.stream = shared;
                return;
            }
        };
        let (reads, mut writes) = stream.into_split();
        let task = tasks.spawn(async move {
            let sent = std::future::poll_fn(|cx| sending.poll(cx, &mut writes)).await;
            if let Err(error) = sent {
                debug!(?error, "a worker does not get the rest of a request");
                return;
            }
            // The worker would take the end of what it reads for the end of the connection, and its
            // answer is not over.
            writes.forget();
        });
        self.stream = Stream::Shared {
            reads,
            _writes: AbortOnDropHandle::new(task),
        };
    }

    /// The bytes of the answer that have been read and not taken.
    pub(super) fn unread(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    /// Reads more; ready with 0 when the worker has closed the connection.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        match &mut self.stream {
            Stream::Whole(stream) => fill(stream, &mut self.unread, &mut self.read_size, cx),
            Stream::Shared { reads, .. } => fill(reads, &mut self.unread, &mut self.read_size, cx),
            Stream::None => Poll::Ready(Ok(0)),
        }
    }
}

fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    unread: &mut BytesMut,
    read_size: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    if unread.capacity() - unread.len() < *read_size / 4 {
        unread.reserve(*read_size);
    }
    let count = ready!(poll_read_buf(Pin::new(stream), cx, unread))?;
    // A full buffer: there may be much more.
    if count >= *read_size {
        *read_size = (*read_size * 4).min(MAX_READ);
    }
    Poll::Ready(Ok(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a size of its own a connection within one machine has megabytes on Linux.
    #[tokio::test]
    async fn little_of_an_upload_is_left_with_the_system() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let stream = connect(&authority.into()).await.unwrap();
        let size = SockRef::from(&stream).send_buffer_size().unwrap();
        // Linux counts its own overhead in, as much again.
        assert!(size <= 2 * SEND_BUFFER, "{size}");
    }
}
