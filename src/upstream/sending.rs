//! A request on its way to a worker: its head, then its body as it arrives. No body is copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::head::{self, Framing};
use super::{BoxError, RequestBody};

/// So many pieces are handed to the system at once.
const MOST_PIECES: usize = 16;

/// No more than this is taken from the client before it is written.
const MOST_BYTES: usize = 256 * 1024;

/// So much of a request is kept in case it has to be sent again.
const MOST_KEPT: usize = 256 * 1024;

const END_OF_CHUNK: Bytes = Bytes::from_static(b"\r\n");
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// A request that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// What has been written and is kept, then what is to be written next.
    out: VecDeque<Bytes>,
    /// So many pieces of `out` have been written.
    done: usize,
    /// And so much of the next.
    done_of_next: usize,
    /// Length of what is to be written.
    waiting: usize,
    /// Length of `out`.
    length: usize,
    /// Whether what has been written is kept.
    keeps: bool,
    body: RequestBody,
    framing: Framing,
    state: State,
    has_ended: bool,
    has_begun: bool,
    /// Interim answers to it.
    pub(super) interim: u32,
    pub(super) for_head: bool,
    /// The memory of the request's headers, for those of the answer.
    pub(super) headers: HeaderMap,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// There is more of the body to come.
    Reading,
    /// All that is left is in `out`.
    Ending,
    /// All of it is written.
    Over,
    /// The worker does not take the rest.
    Stopped,
}

/// Why a request cannot be sent further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its body failed.
    Body(BoxError),
    /// The connection broke.
    Connection(io::Error),
}

impl Sending {
    /// Of `request` to `host`. Nothing is sent yet.
    pub(super) fn new(request: Request<RequestBody>, host: &HeaderValue) -> Self {
        let (mut parts, mut body) = request.into_parts();
        let (head, framing) = head::encode(&parts, host, body.size_hint().exact());
        // What has arrived already follows the head as it is, unless it becomes chunks.
        let mut out = match framing {
            Framing::Length(_) => body.take_chunks(),
            Framing::Chunked => VecDeque::with_capacity(4),
        };
        let here = out.iter().map(Bytes::len).sum::<usize>();
        let framing = match framing {
            Framing::Length(length) => Framing::Length(length.saturating_sub(here as u64)),
            Framing::Chunked => Framing::Chunked,
        };
        let waiting = head.len() + here;
        // What they were a part of can be used for the next request.
        parts.headers.clear();
        out.push_front(head);
        Self {
            out,
            done: 0,
            done_of_next: 0,
            waiting,
            length: waiting,
            keeps: false,
            state: State::Reading,
            body,
            framing,
            has_ended: false,
            has_begun: false,
            interim: 0,
            for_head: parts.method == Method::HEAD,
            headers: parts.headers,
        }
    }

    /// Keeps what is written from now on, as long as that is little: the connection may be one that the
    /// worker has closed.
    pub(super) fn keep(&mut self) {
        self.keeps = self.length <= MOST_KEPT;
    }

    /// Keeps nothing more of what is written.
    pub(super) fn let_go(&mut self) {
        self.keeps = false;
        let written = self.out.drain(..self.done);
        self.length -= written.map(|piece| piece.len()).sum::<usize>();
        self.done = 0;
    }

    /// Goes back to its beginning, for another connection, if all of it is still there.
    pub(super) fn begin_again(&mut self) -> bool {
        if self.has_begun && !self.keeps {
            return false;
        }
        (self.done, self.done_of_next) = (0, 0);
        self.waiting = self.length;
        self.has_begun = false;
        self.state = if self.has_ended {
            State::Ending
        } else {
            State::Reading
        };
        true
    }

    /// Whether any of it may have reached the worker.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Whether nothing more is written.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over | State::Stopped)
    }

    /// Whether the worker has been sent all of it.
    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Over
    }

    /// Sends no more.
    pub(super) fn stop(&mut self) {
        self.state = State::Stopped;
        self.waiting = 0;
        if !self.keeps {
            self.out.clear();
            self.length = 0;
        }
    }

    /// Writes what can be written now. Ready when that was all.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Stopped>> {
        loop {
            let waited = self.waiting;
            let read = self.poll_read(cx);
            if let Poll::Ready(Err(error)) = read {
                return Poll::Ready(Err(Stopped::Body(error)));
            }
            if read.is_pending() && self.waiting > waited && self.waiting < MOST_BYTES {
                // More has often arrived by now. Each write wakes the worker, and few are much cheaper.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.waiting == 0 {
                ready!(read).map_err(Stopped::Body)?;
                self.state = State::Over;
                return Poll::Ready(Ok(()));
            }
            let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
            let unwritten = self.out.range(self.done..);
            let count = unwritten.len().min(MOST_PIECES);
            for (piece, bytes) in pieces.iter_mut().zip(unwritten) {
                *piece = IoSlice::new(bytes);
            }
            if let Some(next) = self.out.get(self.done) {
                pieces[0] = IoSlice::new(&next[self.done_of_next..]);
            }
            let stream = Pin::new(&mut *stream);
            let written = ready!(stream.poll_write_vectored(cx, &pieces[..count]));
            match written.map_err(Stopped::Connection)? {
                0 => return Poll::Ready(Err(Stopped::Connection(io::ErrorKind::WriteZero.into()))),
                written => self.written(written),
            }
        }
    }

    /// Takes more of the body, until enough waits to be written. Ready when the body is over.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        while self.state == State::Reading && self.waiting < MOST_BYTES {
            if self.body.is_end_stream() {
                self.end()?;
                break;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(frame) => {
                    // There are no trailers among them.
                    self.push(frame?.into_data().unwrap_or_default())?;
                }
                None => self.end()?,
            }
        }
        if self.state == State::Reading {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn push(&mut self, data: Bytes) -> Result<(), BoxError> {
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left
                    .checked_sub(data.len() as u64)
                    .ok_or("it is longer than its Content-Length")?;
                self.queue(data);
            }
            Framing::Chunked => {
                self.queue(format!("{:x}\r\n", data.len()).into());
                self.queue(data);
                self.queue(END_OF_CHUNK);
            }
        }
        Ok(())
    }

    fn queue(&mut self, bytes: Bytes) {
        self.waiting += bytes.len();
        self.length += bytes.len();
        self.out.push_back(bytes);
        if self.keeps && self.length > MOST_KEPT {
            self.let_go();
        }
    }

    fn end(&mut self) -> Result<(), BoxError> {
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err("it is shorter than its Content-Length".into()),
            Framing::Chunked => self.queue(LAST_CHUNK),
        }
        self.state = State::Ending;
        self.has_ended = true;
        Ok(())
    }

    fn written(&mut self, mut count: usize) {
        self.has_begun = true;
        self.waiting -= count;
        while let Some(next) = self.out.get(self.done) {
            let left = next.len() - self.done_of_next;
            if count < left {
                self.done_of_next += count;
                return;
            }
            count -= left;
            self.done_of_next = 0;
            if self.keeps {
                self.done += 1;
            } else {
                self.length -= next.len();
                self.out.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn sending(headers: &[(&str, &'static str)], chunks: &[&'static str]) -> Sending {
        let mut request = Request::post("/v1/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let chunks = chunks.iter().map(|&chunk| Bytes::from(chunk)).collect();
        let request = request.body(RequestBody::new(chunks, None)).unwrap();
        Sending::new(request, &HeaderValue::from_static("worker:1"))
    }

    /// Takes a few bytes at a time.
    #[derive(Default)]
    struct Narrow(Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(3);
            self.0.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn all_of_a_request_is_written_in_order_however_little_is_taken_at_once() {
        let mut sending = sending(&[("x-a", "1")], &["{\"model\":", "\"alpha\"}"]);
        let mut worker = Narrow::default();
        assert!(!sending.has_begun());
        poll_fn(|cx| sending.poll(cx, &mut worker)).await.unwrap();
        assert!(sending.has_begun() && sending.is_over());
        let text = String::from_utf8(worker.0).unwrap();
        insta::assert_snapshot!(text.replace('\r', ""), @r#"
        POST /v1/x HTTP/1.1
        host: worker:1
        x-a: 1
        content-length: 17

        {"model":"alpha"}
        "#);
    }

    #[tokio::test]
    async fn a_body_that_is_shorter_than_announced_is_no_request() {
        let mut sending = sending(&[("content-length", "5")], &["ok"]);
        let mut worker = Narrow::default();
        let stopped = poll_fn(|cx| sending.poll(cx, &mut worker)).await;
        let Err(Stopped::Body(error)) = stopped else {
            panic!("{stopped:?}");
        };
        assert_eq!(error.to_string(), "it is shorter than its Content-Length");
        assert!(!sending.has_begun());
    }
}
