//! A request that waits for its model's load, and the comments for its client meanwhile.
//!
//! Most wait in silence and get the answer's own status. A client of a stream would give up on a
//! silent connection: after a grace it gets the head of its stream, and comments in it
//! ([`LoadingStream`]). One that asked with `Prefer: wait=N` (RFC 7240) gets a 503 when that is over. The
//! gateway calls it off the hot path; it does not decide whether and when the model is loaded.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::timeout;

use super::answer::account::Account;
use super::answer::body::Body;
use super::answer::loading_stream::LoadingStream;
use super::answer::progress::Progress;
use super::protocol::Protocol;
use super::request::intake::Intake;
use super::translated::compute;
use super::{Addressed, Successor};
use crate::api::ApiError;
use crate::hub::lifecycle::{Grant, Model};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A future lease.
pub(super) type Acquiring = Pin<Box<dyn Future<Output = Result<Grant, ApiError>> + Send>>;

/// A request that waits.
pub(super) struct Waiting {
    pub(super) model: Arc<Model>,
    pub(super) grant: Acquiring,
    pub(super) request: Addressed,
    /// Time until the first comment, and between two; zero for none.
    pub(super) notice: Duration,
    /// The hub that may take over meanwhile.
    pub(super) successor: Successor,
}

impl Waiting {
    /// The answer, or the beginning of a stream that will be one.
    ///
    /// # Errors
    /// The error of the load; 503 with `Retry-After` when the client's patience is over; whatever
    /// the exchange with the worker fails with.
    pub(super) async fn answer(
        mut self,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Result<Response<Body>, ApiError> {
        account.waits("load");
        let progress = Progress::new(Arc::clone(&self.model));
        let headers = &self.request.view.parts.headers;
        let preferred = preferred_wait(headers);
        let accepts_events = accepts_events(headers);
        let silence = match preferred {
            Some(wait) => Some(wait),
            None => Some(self.notice).filter(|notice| !notice.is_zero()),
        };
        let waited = match silence {
            Some(silence) => timeout(silence, intake.while_waiting(&mut self.grant)).await,
            None => Ok(intake.while_waiting(&mut self.grant).await),
        };
        account.waited_for_load(progress.waited());
        match waited {
            Ok(grant) => self.go_on(grant, intake, account).await,
            Err(_) if preferred.is_some() => Err(progress.still_loading()),
            Err(_) if accepts_events || asks_for_stream(intake, account.protocol()).await => {
                Ok(self.begin_stream(progress, intake, account))
            }
            Err(_) => {
                let grant = intake.while_waiting(&mut self.grant).await;
                account.waited_for_load(progress.waited());
                self.go_on(grant, intake, account).await
            }
        }
    }

    /// With its lease to the worker, or without one to the hub that has taken over.
    async fn go_on(
        self,
        grant: Result<Grant, ApiError>,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Result<Response<Body>, ApiError> {
        match grant {
            Err(_) if self.successor.is_there() => {
                let view = self.request.into_sent(intake);
                self.successor.pass_on(view, intake, account).await
            }
            grant => {
                self.request
                    .forward(grant?, self.model, intake, account)
                    .await
            }
        }
    }

    /// The head of a stream; all that is still to be done goes on in its body.
    fn begin_stream(
        mut self,
        progress: Progress,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Response<Body> {
        let began = progress.began();
        let (grant, notice) = (
            std::mem::replace(&mut self.grant, Box::pin(std::future::pending())),
            self.notice,
        );
        let protocol = account.protocol();
        let flight = account.flight().cloned();
        let (mut intake, mut account) = (intake.take(), account.take());
        let mut headers = HeaderMap::new();
        account.write_timing(&mut headers);
        let work = async move {
            let grant = intake.while_waiting(grant).await;
            account.waited_for_load(began.elapsed());
            let answer = self.go_on(grant, &mut intake, &mut account).await;
            if let Err(error) = &answer {
                account.ended_with(error.status);
            }
            answer
        };
        let body = LoadingStream::new(protocol, flight, Box::pin(work), progress, notice);
        let mut answer = Response::new(Body::Loading(Box::new(body)));
        for (name, value) in [
            (CONTENT_TYPE, protocol.stream_type),
            (CACHE_CONTROL, "no-cache"),
            // nginx would keep the comments to itself.
            (HeaderName::from_static("x-accel-buffering"), "no"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        *answer.headers_mut() = headers;
        answer
    }
}

/// True if the received part of the body asks for a stream.
async fn asks_for_stream(intake: &Intake, protocol: &Protocol) -> bool {
    let (asks, chunks) = (protocol.asks_for_stream, intake.chunks());
    compute(intake.held(), move || asks(&chunks)).await
}

/// N of `Prefer: wait=N`, in seconds.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(PREFER).iter();
    let mut preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']));
    let seconds = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        let value = value.trim().trim_matches('"');
        is_wait.then(|| value.parse::<u32>().ok()).flatten()
    })?;
    Some(Duration::from_secs(seconds.into()))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| memchr::memmem::find(value.as_bytes(), b"text/event-stream").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_wait_is_read_among_other_preferences() {
        for (value, seconds) in [
            ("wait=10", Some(10)),
            ("respond-async, WAIT = 3", Some(3)),
            ("handling=lenient; wait=\"7\"", Some(7)),
            ("wait=soon", None),
            ("respond-async", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(PREFER, HeaderValue::from_static("return=minimal"));
            headers.append(PREFER, HeaderValue::from_static(value));
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(preferred_wait(&headers), expected, "{value}");
        }
        assert_eq!(preferred_wait(&HeaderMap::new()), None);
    }
}
