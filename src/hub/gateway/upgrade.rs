//! WebSocket: once client and worker have agreed to leave HTTP, their bytes pass both ways until one
//! of them closes.
//!
//! The lease is held that long, and so is the account. Other protocols are not offered to workers: a
//! request that proposes one is a plain request.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, copy, split};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::answer::account::Account;
use super::answer::body::Body;
use super::answer::kind::AnswerKind;
use super::forward;
use super::refusals;
use crate::api::ApiError;
use crate::config::Limits;
use crate::hub::lifecycle::{Grant, Lease};
use crate::upstream::{RequestBody, Switch};

/// Time for the other side to close after the first one has.
const FAREWELL: Duration = Duration::from_secs(5);

/// True if a client asks for WebSocket.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|protocols| {
        let protocols = protocols.to_str().unwrap_or_default();
        let mut protocols = protocols.split(',');
        protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
    })
}

/// Sends the request, which has lost the headers of its connection, and passes on what follows in
/// a task of `tunnels`.
///
/// # Errors
/// 400 when the client's connection cannot be switched; 502 when the worker does not answer, 504 when
/// not in time.
pub(super) async fn forward(
    grant: Grant,
    model: &str,
    mut request: Request<RequestBody>,
    limits: Limits,
    account: &mut Account,
    tunnels: &TaskTracker,
) -> Result<Response<Body>, ApiError> {
    let Some(client) = request.extensions_mut().remove::<OnUpgrade>() else {
        return Err(refusals::no_websocket());
    };
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let Grant { lease, upstream } = grant;
    account.sent();
    let limit = match limits.first_byte {
        Duration::ZERO => Duration::MAX,
        limit => limit,
    };
    let answer = timeout(limit, upstream.switch(request))
        .await
        .map_err(|_| refusals::no_answer_in_time(model, limit))?
        .map_err(|error| refusals::no_answer(model, &error, limits))?;
    match answer {
        Switch::Refused(answer) => {
            let (mut head, body) = answer.into_parts();
            forward::remove_hop_by_hop(&mut head.headers);
            forward::remove_cors(&mut head.headers);
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                head.status = StatusCode::BAD_GATEWAY;
            }
            account.answered(&mut head, AnswerKind::default());
            account.completed();
            drop(account.take());
            Ok(Response::from_parts(head, Body::full(body)))
        }
        Switch::Agreed(answer, worker) => {
            let (mut head, ()) = answer.into_parts();
            forward::remove_cors(&mut head.headers);
            account.answered(&mut head, AnswerKind::default());
            tunnels.spawn(carry(client, worker, lease, account.take()));
            Ok(Response::from_parts(head, Body::full("")))
        }
    }
}

/// Passes bytes both ways until a side closes.
async fn carry(client: OnUpgrade, worker: TokioIo<Upgraded>, lease: Lease, mut account: Account) {
    let client = match client.await {
        Ok(client) => TokioIo::new(client),
        Err(error) => {
            debug!(%error, "a client has left before its WebSocket began");
            return;
        }
    };
    let flight = account.flight().cloned();
    let cancelled = poll_fn(|cx| match &flight {
        Some(flight) => flight.poll_cancelled(cx),
        None => Poll::Pending,
    });
    tokio::select! {
        () = both_ways(client, worker) => account.completed(),
        () = cancelled => {}
    }
    // Either side may stay silent: the worker owed no answer.
    drop(lease);
}

async fn both_ways(one: impl AsyncRead + AsyncWrite, two: impl AsyncRead + AsyncWrite) {
    let ((mut from_one, mut to_one), (mut from_two, mut to_two)) = (split(one), split(two));
    // An error is an end like any other.
    let there = async {
        let _ = copy(&mut from_one, &mut to_two).await;
        let _ = to_two.shutdown().await;
    };
    let back = async {
        let _ = copy(&mut from_two, &mut to_one).await;
        let _ = to_one.shutdown().await;
    };
    let (mut there, mut back) = (std::pin::pin!(there), std::pin::pin!(back));
    tokio::select! {
        () = &mut there => drop(timeout(FAREWELL, back).await),
        () = &mut back => drop(timeout(FAREWELL, there).await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_websocket_is_passed_on() {
        for (protocols, wanted) in [
            ("websocket", true),
            ("WebSocket", true),
            ("h2c, websocket", true),
            ("h2c", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static(protocols));
            assert_eq!(is_wanted(&headers), wanted, "{protocols}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
