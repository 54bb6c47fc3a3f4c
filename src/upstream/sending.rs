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

/// Pieces per system call.
const MAX_PIECES: usize = 16;

/// Bytes taken from the client that may wait to be written.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// Bytes of a request that are kept in case it has to be sent again.
const MAX_KEPT_BYTES: usize = 256 * 1024;

const END_OF_CHUNK: Bytes = Bytes::from_static(b"\r\n");
const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");

/// A request that is being sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// The written pieces that are kept, then the unwritten ones.
    out: VecDeque<Bytes>,
    /// Number of written pieces in `out`.
    done: usize,
    /// Written bytes of the next piece.
    done_of_next: usize,
    /// Number of unwritten bytes.
    waiting: usize,
    /// Length of `out`.
    length: usize,
    /// True if written pieces are kept.
    keeps: bool,
    body: RequestBody,
    framing: Framing,
    state: SendState,
    has_ended: bool,
    has_begun: bool,
    /// Number of interim answers to it.
    pub(super) interim: u32,
    pub(super) for_head: bool,
    /// The header map of the request, reused for the answer.
    pub(super) headers: HeaderMap,
}

#[derive(Debug, PartialEq, Eq)]
enum SendState {
    /// More of the body is to come.
    Reading,
    /// The unwritten rest is in `out`.
    Ending,
    /// All of it is written.
    Over,
    /// The worker does not take the rest.
    Stopped,
}

/// The reason why a request cannot be sent further.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its body failed.
    Body(BoxError),
    /// The connection broke.
    Connection(io::Error),
}

impl Sending {
    /// Prepares `request` to `host`; writes nothing yet.
    pub(super) fn new(request: Request<RequestBody>, host: &HeaderValue) -> Self {
        let (mut parts, mut body) = request.into_parts();
        let (head, framing) = head::encode(&parts, host, body.size_hint().exact());
        // The chunks that have arrived follow the head as they are, unless the framing is chunked.
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
        // The buffer that they are slices of can be reused for the next request.
        parts.headers.clear();
        out.push_front(head);
        Self {
            out,
            done: 0,
            done_of_next: 0,
            waiting,
            length: waiting,
            keeps: false,
            state: SendState::Reading,
            body,
            framing,
            has_ended: false,
            has_begun: false,
            interim: 0,
            for_head: parts.method == Method::HEAD,
            headers: parts.headers,
        }
    }

    /// Keeps what is written from now on, up to [`MAX_KEPT_BYTES`], as the worker may have closed the
    /// connection.
    pub(super) fn keep(&mut self) {
        self.keeps = self.length <= MAX_KEPT_BYTES;
    }

    /// Keeps no more written pieces.
    pub(super) fn let_go(&mut self) {
        self.keeps = false;
        let written = self.out.drain(..self.done);
        self.length -= written.map(|piece| piece.len()).sum::<usize>();
        self.done = 0;
    }

    /// Returns to its beginning, for another connection, if all of it is still kept.
    pub(super) fn begin_again(&mut self) -> bool {
        if self.has_begun && !self.keeps {
            return false;
        }
        (self.done, self.done_of_next) = (0, 0);
        self.waiting = self.length;
        self.has_begun = false;
        self.state = if self.has_ended {
            SendState::Ending
        } else {
            SendState::Reading
        };
        true
    }

    /// True if any of it may have reached the worker.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// True if nothing more is written.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, SendState::Over | SendState::Stopped)
    }

    /// True if the worker has been sent all of it.
    pub(super) fn is_complete(&self) -> bool {
        self.state == SendState::Over
    }

    /// Sends no more.
    pub(super) fn stop(&mut self) {
        self.state = SendState::Stopped;
        self.waiting = 0;
        if !self.keeps {
            self.out.clear();
            self.length = 0;
        }
    }

    /// Writes as much as the socket takes. Ready when nothing is left.
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
            if read.is_pending() && self.waiting > waited && self.waiting < MAX_WAITING_BYTES {
                // More has often arrived by now; each write wakes the worker, so few large ones are much cheaper.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.waiting == 0 {
                ready!(read).map_err(Stopped::Body)?;
                self.state = SendState::Over;
                return Poll::Ready(Ok(()));
            }
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            let unwritten = self.out.range(self.done..);
            let count = unwritten.len().min(MAX_PIECES);
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

    /// Reads the body until enough bytes wait to be written. Ready at its end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        while self.state == SendState::Reading && self.waiting < MAX_WAITING_BYTES {
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
        if self.state == SendState::Reading {
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
        if self.keeps && self.length > MAX_KEPT_BYTES {
            self.let_go();
        }
    }

    fn end(&mut self) -> Result<(), BoxError> {
        match self.framing {
            Framing::Length(0) => {}
            Framing::Length(_) => return Err("it is shorter than its Content-Length".into()),
            Framing::Chunked => self.queue(LAST_CHUNK),
        }
        self.state = SendState::Ending;
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
