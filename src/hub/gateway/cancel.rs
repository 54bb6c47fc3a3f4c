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

/// The answer, or the refusal of a cancelled request. `answering` stays where it is: it is large, and this is called for
/// every request.
pub(super) async fn unless_cancelled(
    flight: Option<Arc<Flight>>,
    protocol: &Protocol,
    mut answering: Pin<&mut impl Future<Output = Response<Body>>>,
) -> Response<Body> {
    let answer = poll_fn(|cx| match &flight {
        Some(flight) if flight.poll_cancelled(cx).is_ready() => Poll::Ready(None),
        _ => answering.as_mut().poll(cx).map(Some),
    });
    answer.await.unwrap_or_else(|| {
        let mut answer = (protocol.error)(&refusals::cancelled());
        // Some of the request may be unread.
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(CONNECTION, close);
        answer
    })
}
