//! Ends a request that somebody has cancelled before its answer begins. Afterwards the answer's body does it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use http::header::CONNECTION;
use http::{HeaderValue, Response};

use super::answer::body::Body;
use super::protocol::Protocol;
use super::refusals;
use crate::hub::lifecycle::Flight;

/// The answer, or the refusal of a cancelled request.
pub(super) async fn unless_cancelled(
    flight: Option<Arc<Flight>>,
    protocol: &Protocol,
    mut answering: Pin<Box<impl Future<Output = Response<Body>>>>,
) -> Response<Body> {
    let answer = poll_fn(|cx| match (answering.as_mut().poll(cx), &flight) {
        (Poll::Ready(answer), _) => Poll::Ready(Some(answer)),
        (Poll::Pending, Some(flight)) => flight.poll_cancelled(cx).map(|()| None),
        (Poll::Pending, None) => Poll::Pending,
    });
    answer.await.unwrap_or_else(|| {
        let mut answer = (protocol.error)(&refusals::cancelled());
        // Some of the request may be unread.
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
        answer
    })
}
