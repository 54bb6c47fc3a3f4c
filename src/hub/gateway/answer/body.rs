//! The body of every answer under `/v1`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::Full;

use super::leased_body::LeasedBody;
use super::loading_stream::LoadingStream;
use crate::hub::lifecycle::Capture;
use crate::upstream::{BoxError, ResponseBody};

/// The body of the hub's own answer, or of a worker's.
#[derive(Debug)]
pub enum Body {
    /// Written by the hub.
    Full(Full<Bytes>),
    /// A worker's.
    Leased(Box<LeasedBody>),
    /// A stream that begins before its worker can answer.
    Loading(Box<LoadingStream>),
    /// Another hub's.
    Passed(Box<ResponseBody>),
    /// One whose pieces are noted as they pass.
    Captured(Box<CapturedAnswer>),
}

/// A body, and who notes it.
#[derive(Debug)]
pub struct CapturedAnswer {
    body: Body,
    capture: Arc<Capture>,
}

impl Body {
    /// The body of the hub's own answer.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(Full::new(bytes.into()))
    }
}

/// The answer; its body is noted as it passes, if somebody wants that.
pub(crate) fn noted(answer: Response<Body>, capture: Option<Arc<Capture>>) -> Response<Body> {
    let Some(capture) = capture else {
        return answer;
    };
    capture.answered(answer.status(), answer.headers());
    answer.map(|body| Body::Captured(Box::new(CapturedAnswer { body, capture })))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Full(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Leased(body) => Pin::new(body).poll_frame(cx),
            Self::Loading(body) => Pin::new(body).poll_frame(cx),
            Self::Passed(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Self::Captured(captured) => {
                let frame = ready!(Pin::new(&mut captured.body).poll_frame(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    captured.capture.of_answer(data);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body) => body.is_end_stream(),
            Self::Leased(body) => body.is_end_stream(),
            Self::Loading(body) => body.is_end_stream(),
            Self::Passed(body) => body.is_end_stream(),
            Self::Captured(captured) => captured.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body) => body.size_hint(),
            Self::Leased(body) => body.size_hint(),
            Self::Loading(body) => body.size_hint(),
            Self::Passed(body) => body.size_hint(),
            Self::Captured(captured) => captured.body.size_hint(),
        }
    }
}
