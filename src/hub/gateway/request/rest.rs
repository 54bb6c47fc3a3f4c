//! The unread rest of a request's body, decoded if it has a content coding, and searched on its way to the worker
//! for a second `model`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Limited;
use hyper::body::Incoming;

use super::coding::Decoder;
use super::scan::{ScanStep, Scanner};
use crate::hub::gateway::refusals;
use crate::hub::lifecycle::Capture;
use crate::upstream::BoxError;

/// Decoded bytes after which other tasks run.
const TURN: usize = 256 * 1024;

/// The rest that the client has yet to send.
#[derive(Debug)]
pub(crate) enum Rest {
    Plain(Limited<Incoming>),
    Coded(Box<Coded>),
    Captured(Box<CapturedRest>),
}

/// A body whose pieces are noted as they pass.
#[derive(Debug)]
pub(crate) struct CapturedRest {
    rest: Rest,
    capture: Arc<Capture>,
}

/// A body in content codings.
#[derive(Debug)]
pub(crate) struct Coded {
    body: Limited<Incoming>,
    /// The body itself is over.
    has_ended: bool,
    decoder: Decoder,
    /// The next piece, if it had to be read ahead.
    ahead: Option<Bytes>,
    /// True if everything received has been decoded.
    is_over: bool,
    /// Bytes decoded since other tasks ran.
    at_once: usize,
}

impl Rest {
    /// The same, to be decoded.
    pub(crate) fn decoded(self, decoder: Decoder) -> Self {
        match self {
            Self::Plain(body) => Self::Coded(Box::new(Coded {
                body,
                has_ended: false,
                decoder,
                ahead: None,
                is_over: false,
                at_once: 0,
            })),
            // What is noted is what can be read.
            Self::Captured(captured) => captured.rest.decoded(decoder).captured(captured.capture),
            coded => coded,
        }
    }

    /// The same, with its pieces noted.
    pub(crate) fn captured(self, capture: Arc<Capture>) -> Self {
        let rest = self;
        Self::Captured(Box::new(CapturedRest { rest, capture }))
    }
}

impl Body for Rest {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Coded(coded) => coded.poll_data(cx).map_ok(Frame::data),
            Self::Captured(captured) => {
                let frame = ready!(Pin::new(&mut captured.rest).poll_frame(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    captured.capture.of_request(data);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Coded(coded) => coded.is_over,
            Self::Captured(captured) => captured.rest.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Coded(_) => SizeHint::default(),
            Self::Captured(captured) => captured.rest.size_hint(),
        }
    }
}

impl Coded {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        while !self.is_over {
            if self.at_once >= TURN {
                self.at_once = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let piece = match self.ahead.take() {
                Some(piece) => Some(piece),
                None => self.decoder.next(self.has_ended)?,
            };
            if let Some(piece) = piece {
                if self.has_ended {
                    // A body whose end is known with its last piece is sent with its length.
                    self.ahead = self.decoder.next(true)?;
                    self.is_over = self.ahead.is_none();
                }
                self.at_once += piece.len();
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.has_ended {
                self.is_over = true;
                break;
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
            self.has_ended = frame.is_none() || self.body.is_end_stream();
            // Trailers are dropped: no worker reads them.
            let data = frame.and_then(|frame| frame.into_data().ok());
            self.decoder.push(&data.unwrap_or_default());
        }
        Poll::Ready(None)
    }
}

/// A rest whose beginning has been searched, and named the model.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) rest: Rest,
    pub(crate) scanner: Box<Scanner>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.rest).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && self.scanner.feed(data) == ScanStep::Twice
        {
            return Poll::Ready(Some(Err(refusals::model_twice().into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.size_hint()
    }
}
