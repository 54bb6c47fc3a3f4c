//! The hub that has replaced this one, for requests that still arrive here: on a connection that was already
//! open, or after a wait for a model.
//!
//! Server and gateway check for one, and forward to it the requests that they have not begun to answer. The
//! answer closes the connection, so that the client's next request reaches the other hub directly. That one
//! learns the client's address from a header with a proof that only hubs of one line of succession have.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::{CONNECTION, EXPECT, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, request};
use http_body_util::Limited;
use hyper::body::Incoming;

use super::answer::account::Account;
use super::answer::body::Body;
use super::forward::{REQUEST_ID, remove_hop_by_hop};
use super::protocol::Protocol;
use super::request::intake::Intake;
use super::upgrade;
use crate::api::ApiError;
use crate::policy::RequestView;
use crate::upstream::{Accepts, RequestBody, Upstream};

/// `PROOF ADDRESS`: the peer of the connection on which a request came that another hub forwards.
const CLIENT: HeaderName = HeaderName::from_static("x-mlx-hub-client");

/// A browser's headers about the page of a request: the hub that received it has checked them.
const ABOUT_THE_PAGE: [&str; 5] = [
    "referer",
    "sec-fetch-site",
    "sec-fetch-mode",
    "sec-fetch-dest",
    "sec-fetch-user",
];

/// The hub that took over, once one has. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Successor(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_there: AtomicBool,
    hub: ArcSwapOption<Upstream>,
    proof: OnceLock<String>,
}

impl Successor {
    /// True after another hub has taken over.
    pub fn is_there(&self) -> bool {
        self.0.is_there.load(Ordering::Acquire)
    }

    /// Notes that another hub has taken over, with its address for this machine.
    pub fn set(&self, address: SocketAddr) {
        let host = address.ip().to_string();
        let hub = Upstream::new(&host, address.port(), Accepts::Any);
        self.0.hub.store(Some(Arc::new(hub)));
        self.0.is_there.store(true, Ordering::Release);
    }

    /// The proof of a request forwarded by another hub of this line; the first value counts.
    pub fn prove_by(&self, proof: String) -> &str {
        self.0.proof.get_or_init(|| proof)
    }

    /// The sender of a request: the one that a forwarding hub names, or else the peer.
    pub(crate) fn client(&self, headers: &mut HeaderMap, connected: SocketAddr) -> SocketAddr {
        let Some(proof) = self.0.proof.get() else {
            return connected;
        };
        let Some(value) = headers.get(CLIENT) else {
            return connected;
        };
        let said = value.to_str().ok().and_then(|value| {
            let (shown, client) = value.split_once(' ')?;
            (shown == proof).then(|| client.parse().ok())?
        });
        headers.remove(CLIENT);
        said.unwrap_or(connected)
    }

    /// Its answer to an unread request.
    pub(crate) async fn answer(
        &self,
        parts: request::Parts,
        body: Incoming,
        client: SocketAddr,
        id: &HeaderValue,
    ) -> Response<Body> {
        let body = RequestBody::new(
            VecDeque::new(),
            Some(Box::pin(Limited::new(body, usize::MAX))),
        );
        self.told(parts, body, client, id).await
    }

    /// Its answer to a request whose body does not matter.
    pub(crate) async fn answer_empty(
        &self,
        parts: request::Parts,
        client: SocketAddr,
        id: &HeaderValue,
    ) -> Response<Body> {
        self.told(parts, RequestBody::empty(), client, id).await
    }

    async fn told(
        &self,
        parts: request::Parts,
        body: RequestBody,
        client: SocketAddr,
        id: &HeaderValue,
    ) -> Response<Body> {
        let protocol = Protocol::spoken(&parts);
        let answer = self.ask(parts, body, client, id).await;
        answer.unwrap_or_else(|error| {
            let mut answer = (protocol.error)(&error);
            close(answer.headers_mut());
            answer
        })
    }

    /// Its answer to a request as the client sent it.
    ///
    /// # Errors
    /// 503 when it cannot be reached.
    pub(super) async fn pass_on(
        &self,
        view: RequestView,
        intake: &mut Intake,
        account: &mut Account,
    ) -> Result<Response<Body>, ApiError> {
        let RequestView {
            mut parts,
            id,
            client,
            via,
            credential,
            ..
        } = view;
        if let Some(credential) = credential {
            credential.restore(&mut parts.headers);
        }
        account.passed_on();
        account.propagate(&mut parts.headers);
        let body = intake.take_body();
        self.ask(parts, body, via.unwrap_or(client), &id).await
    }

    /// Its answer to a request, with a header that closes the connection.
    ///
    /// # Errors
    /// 503 when it cannot be reached.
    async fn ask(
        &self,
        mut parts: request::Parts,
        body: RequestBody,
        client: SocketAddr,
        id: &HeaderValue,
    ) -> Result<Response<Body>, ApiError> {
        let Some(hub) = self.0.hub.load_full() else {
            return Err(replaced());
        };
        if upgrade::is_wanted(&parts.headers) {
            return Err(replaced());
        }
        parts.version = Version::HTTP_11;
        remove_hop_by_hop(&mut parts.headers);
        parts.headers.remove(EXPECT);
        parts.headers.remove(ORIGIN);
        for name in ABOUT_THE_PAGE {
            parts.headers.remove(name);
        }
        parts.headers.insert(REQUEST_ID, id.clone());
        let proof = self.0.proof.get().map_or("", String::as_str);
        if let Ok(said) = HeaderValue::try_from(format!("{proof} {client}")) {
            parts.headers.insert(CLIENT, said);
        }
        let answer = hub
            .send(Request::from_parts(parts, body), Duration::ZERO)
            .await
            .map_err(|error| {
                tracing::warn!(%error, "a request could not be sent on to the hub that took over");
                replaced()
            })?;
        let (mut parts, body) = answer.into_parts();
        remove_hop_by_hop(&mut parts.headers);
        close(&mut parts.headers);
        Ok(Response::from_parts(parts, Body::Passed(Box::new(body))))
    }
}

/// Tells the client to come back on a new connection.
fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

fn replaced() -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The hub has just been replaced by a new one. Try again on a new connection.",
    )
    .with_retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_by(successor: &Successor, value: &str) -> (SocketAddr, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(CLIENT, HeaderValue::from_str(value).unwrap());
        let client = successor.client(&mut headers, ([127, 0, 0, 1], 1).into());
        (client, headers.contains_key(CLIENT))
    }

    #[test]
    fn a_client_is_believed_from_a_hub_of_the_same_line_alone() {
        let connected = ([127, 0, 0, 1], 1).into();
        let alone = Successor::default();
        assert_eq!(client_by(&alone, " 10.0.0.1:7"), (connected, true));
        let one = Successor::default();
        one.prove_by("secret".to_owned());
        assert_eq!(one.prove_by("other".to_owned()), "secret");
        for (value, client) in [
            ("secret 10.0.0.1:7", ([10, 0, 0, 1], 7).into()),
            ("secret [::1]:7", "[::1]:7".parse().unwrap()),
            ("guess 10.0.0.1:7", connected),
            (" 10.0.0.1:7", connected),
            ("secret", connected),
            ("secret nobody", connected),
        ] {
            assert_eq!(client_by(&one, value), (client, false), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_sent_on_is_told_to_come_again() {
        insta::assert_snapshot!(replaced().to_string(), @"The hub has just been replaced by a new one. Try again on a new connection.");
        assert_eq!(replaced().retry_after, Some(1));
    }
}
