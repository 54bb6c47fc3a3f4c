//! An event stream that begins before its worker can answer: notices while the model loads, then the
//! worker's own events.
//!
//! Its head has been sent with status 200, so any later error is sent as an event, and
//! ends the stream. Dropping it gives up the request at any point.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::Body;
use super::kind::AnswerKind;
use super::progress::Progress;
use crate::api::ApiError;
use crate::hub::gateway::protocol::chat::workers_error;
use crate::hub::gateway::protocol::{Protocol, openai};
use crate::hub::gateway::refusals;
use crate::hub::lifecycle::Flight;
use crate::upstream::BoxError;

/// Longest answer, other than a stream, that is sent as an event.
const MAX_ANSWER: usize = 1024 * 1024;

/// The work until there is an answer.
pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Response<Body>, ApiError>> + Send>>;

type Item = Option<Result<Frame<Bytes>, BoxError>>;

/// The stream.
pub struct LoadingStream {
    protocol: &'static Protocol,
    /// The request, unless its account was handed over.
    flight: Option<Arc<Flight>>,
    progress: Progress,
    every: Duration,
    next_notice: Pin<Box<Sleep>>,
    state: StreamState,
}

enum StreamState {
    Waiting(Work),
    /// The worker's events, or an error of the hub's own.
    Passing(Box<Body>),
    /// An answer that is not a stream, to be sent as one event.
    Gathering(Gathered),
}

struct Gathered {
    status: StatusCode,
    body: Box<Body>,
    bytes: BytesMut,
}

impl LoadingStream {
    /// A stream with a notice at once and then `every` so often, until `work` is done.
    pub(crate) fn new(
        protocol: &'static Protocol,
        flight: Option<Arc<Flight>>,
        work: Work,
        progress: Progress,
        every: Duration,
    ) -> Self {
        Self {
            protocol,
            flight,
            progress,
            every,
            next_notice: Box::pin(sleep_until(Instant::now())),
            state: StreamState::Waiting(work),
        }
    }

    fn poll_notice(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        ready!(self.next_notice.as_mut().poll(cx));
        let next = Instant::now() + self.every;
        self.next_notice.as_mut().reset(next);
        let notice = (self.protocol.notice)(&self.progress.text());
        Poll::Ready(Some(Ok(Frame::data(notice))))
    }
}

impl StreamState {
    fn after(protocol: &Protocol, answer: Result<Response<Body>, ApiError>) -> Self {
        match answer {
            Err(error) => Self::Passing(Box::new(Body::full((protocol.only_event)(&error)))),
            Ok(answer) => {
                let (head, body) = answer.into_parts();
                let body = Box::new(body);
                if head.status.is_success() && is_stream(protocol, &head.headers) {
                    return Self::Passing(body);
                }
                Self::Gathering(Gathered {
                    status: head.status,
                    body,
                    bytes: BytesMut::new(),
                })
            }
        }
    }
}

/// True if it is one in the client's form, or in that of the workers.
fn is_stream(protocol: &Protocol, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    AnswerKind::of(headers).events || kind == Some(protocol.stream_type.as_bytes())
}

impl Gathered {
    /// The answer as one event.
    fn poll(&mut self, protocol: &Protocol, model: &str, cx: &mut Context<'_>) -> Poll<Body> {
        while self.bytes.len() < MAX_ANSWER {
            match ready!(Pin::new(&mut *self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.bytes.extend_from_slice(data);
                    }
                }
                Some(Err(_)) | None => break,
            }
        }
        let json = serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&self.bytes).into_owned()));
        if self.status.is_success() {
            return Poll::Ready(event(&json));
        }
        let error = workers_error(self.status, &json, model);
        Poll::Ready(Body::full((protocol.only_event)(&error)))
    }
}

fn event(json: &Value) -> Body {
    Body::full(openai::event(json))
}

impl http_body::Body for LoadingStream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Item> {
        let this = &mut *self;
        if this
            .flight
            .as_ref()
            .is_some_and(|flight| flight.is_cancelled())
        {
            this.flight = None;
            // The worker's own stream tells it by itself.
            if !matches!(this.state, StreamState::Passing(_)) {
                let told = (this.protocol.only_event)(&refusals::cancelled());
                this.state = StreamState::Passing(Box::new(Body::full(told)));
            }
        }
        loop {
            match &mut this.state {
                StreamState::Passing(body) => return Pin::new(&mut **body).poll_frame(cx),
                StreamState::Gathering(gathered) => {
                    let body = ready!(gathered.poll(this.protocol, this.progress.model(), cx));
                    this.state = StreamState::Passing(Box::new(body));
                }
                StreamState::Waiting(work) => match work.as_mut().poll(cx) {
                    Poll::Ready(answer) => this.state = StreamState::after(this.protocol, answer),
                    Poll::Pending => return this.poll_notice(cx),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            StreamState::Passing(body) => body.is_end_stream(),
            StreamState::Waiting(_) | StreamState::Gathering(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl fmt::Debug for LoadingStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadingStream").finish_non_exhaustive()
    }
}
