//! A client's socket, wrapped for hyper: it holds back hyper's own refusals, and notices that a client has left
//! while hyper does not read.
//!
//! hyper answers a head that it cannot read by itself, without a body, and closes. [`Socket`] swallows
//! that answer, and its [`Leftover`] lets the server send a better one when hyper has finished with the
//! connection. No byte need be parsed to recognise it: hyper writes nothing else while it waits for a head and
//! all earlier answers are out.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf, copy, sink};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::head_timer::HeadTimer;
use crate::hub::gateway::ReadPause;

/// A client that has ended its side looks like one that has gone. One that still reads gets the answers that are
/// ready within this time: the hub's own, and not those of models.
const PATIENCE: Duration = Duration::from_millis(25);

/// A client's socket in hyper's hands.
#[derive(Debug)]
pub(super) struct Socket {
    /// Taken when it is dropped.
    stream: Option<TcpStream>,
    heads: HeadTimer,
    read_pause: ReadPause,
    /// The first byte that the client sent.
    first_byte: Option<u8>,
    /// True if hyper has nothing left to write: it flushes only then.
    is_flushed: bool,
    /// The status of hyper's own answer, which was not sent.
    refused: Option<StatusCode>,
    /// True if hyper has ended the hub's side.
    is_shut: bool,
    /// True if the client has ended its side.
    has_ended: bool,
    /// Runs from the client's end on.
    patience: Option<Pin<Box<Sleep>>>,
    heir: Option<oneshot::Sender<Leftover>>,
}

/// The rest of a connection that hyper has finished with.
#[derive(Debug)]
pub(super) struct Leftover {
    stream: TcpStream,
    /// The first byte that the client ever sent.
    pub(super) first_byte: Option<u8>,
    /// True if all answers have been written; otherwise nothing may follow.
    pub(super) is_flushed: bool,
    /// The status of the refusal that the client did not get.
    pub(super) refused: Option<StatusCode>,
    /// True if the hub has ended its side, and the client has not.
    is_half_closed: bool,
}

impl Leftover {
    /// Sends the last answer and ends the hub's side.
    pub(super) async fn end_with(&mut self, answer: &[u8]) -> io::Result<()> {
        self.stream.write_all(answer).await?;
        self.is_half_closed = true;
        self.stream.shutdown().await
    }

    /// Reads until the client ends its side too. Closing the connection earlier would lose the answer that the
    /// client has not read yet.
    pub(super) async fn linger(mut self) {
        if self.is_half_closed {
            // An error makes no difference any more.
            let _ = copy(&mut self.stream, &mut sink()).await;
        }
    }
}

impl Socket {
    /// `heads` is the connection's timer, `read_pause` that of its request. The receiver gets the rest of the
    /// connection when hyper drops the socket.
    pub(super) fn new(
        stream: TcpStream,
        heads: HeadTimer,
        read_pause: ReadPause,
    ) -> (Self, oneshot::Receiver<Leftover>) {
        let (heir, leftover) = oneshot::channel();
        let socket = Self {
            stream: Some(stream),
            heads,
            read_pause,
            first_byte: None,
            is_flushed: true,
            refused: None,
            is_shut: false,
            has_ended: false,
            patience: None,
            heir: Some(heir),
        };
        (socket, leftover)
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("only a drop takes it"))
    }

    /// Tells hyper of the client's end after [`PATIENCE`]; hyper then drops the current request.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.heads.is_waited_for() {
            return Poll::Ready(Ok(()));
        }
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        patience.as_mut().poll(cx).map(Ok)
    }

    /// True if the client has ended its side, also behind unread bytes.
    fn has_been_left(&mut self, cx: &mut Context<'_>) -> bool {
        let ready = pin!(self.stream().get_mut().ready(Interest::READABLE)).poll(cx);
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Fails where the client of a cancelled request does not read: it would not be told anyway.
    fn unless_cancelled<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_pending() && self.read_pause.is_cancelled() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        polled
    }

    /// True if hyper writes an answer of its own, which begins with `bytes`.
    fn swallows(&mut self, bytes: &[u8]) -> bool {
        if self.refused.is_none() && self.is_flushed && self.heads.is_waited_for() {
            self.refused = Some(status_of(bytes));
        }
        self.is_flushed = false;
        self.refused.is_some()
    }
}

/// The status in the first line of an answer.
fn status_of(answer: &[u8]) -> StatusCode {
    let digits = answer
        .get("HTTP/1.1 ".len()..)
        .and_then(|rest| rest.get(..3));
    digits
        .and_then(|digits| StatusCode::from_bytes(digits).ok())
        .unwrap_or(StatusCode::BAD_REQUEST)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = self.stream().poll_read(cx, buffer);
        if self.first_byte.is_none() {
            self.first_byte = buffer.filled().first().copied();
        }
        let is_end = matches!(polled, Poll::Ready(Ok(())))
            && buffer.filled().is_empty()
            && buffer.remaining() > 0;
        if is_end {
            self.has_ended = true;
            return self.poll_end(cx);
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallows(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let polled = self.stream().poll_write(cx, bytes);
        self.unless_cancelled(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.swallows(slices.first().map_or(&[], |slice| slice)) {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let polled = self.stream().poll_write_vectored(cx, slices);
        self.unless_cancelled(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream
            .as_ref()
            .is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_flushed = true;
        // hyper flushes whenever it is polled.
        if self.read_pause.is_set() && self.has_been_left(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.is_shut = true;
        self.stream().poll_shutdown(cx)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let (Some(stream), Some(heir)) = (self.stream.take(), self.heir.take()) {
            // Nothing waits for a socket that has become a tunnel.
            let _ = heir.send(Leftover {
                stream,
                first_byte: self.first_byte,
                is_flushed: self.is_flushed,
                refused: self.refused,
                is_half_closed: self.is_shut && !self.has_ended,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::rt::Timer as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;

    use super::*;

    const REFUSAL: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n";

    #[tokio::test]
    async fn only_what_is_written_for_a_head_with_nothing_before_it_left_is_swallowed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, server) = tokio::join!(client, listener.accept());
        let heads = HeadTimer::default();
        let (mut socket, leftover) =
            Socket::new(server.unwrap().0, heads.clone(), ReadPause::default());

        // An answer, whose end comes when hyper already waits for the next head.
        socket.write_all(b"answer ").await.unwrap();
        let _wait = heads.sleep(Duration::from_secs(75));
        socket.write_all(b"its end ").await.unwrap();
        socket.write_all(REFUSAL).await.unwrap();
        socket.flush().await.unwrap();
        // Now it can only be hyper's own answer.
        socket.write_all(REFUSAL).await.unwrap();
        socket.shutdown().await.unwrap();
        drop(socket);

        let mut left = leftover.await.unwrap();
        let too_large = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        assert_eq!(left.refused, Some(too_large));
        left.end_with(b"the last").await.unwrap();
        drop(left);
        let mut read = Vec::new();
        client.unwrap().read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [b"answer its end ", REFUSAL, b"the last"].concat());
    }
}
