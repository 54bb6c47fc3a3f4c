//! One exchange with a worker: the request without the headers of the client's connection, and the answer
//! without those of the worker's.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, ORIGIN, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Limited};

use super::answer::account::Account;
use super::answer::body::Body;
use super::answer::kind::AnswerKind;
use super::answer::leased_body::{LeasedBody, Shape};
use super::answer::model_name::NameRewriter;
use super::protocol::{Answering, Translation};
use super::refusals;
use super::translated::compute;
use crate::api::ApiError;
use crate::config::Limits;
use crate::hub::lifecycle::{Grant, Lease, Model};
use crate::policy::RequestView;
use crate::upstream::RequestBody;

/// The header that names a request in the logs of client, hub and worker.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest whole answer that is translated.
const MAX_TRANSLATED: usize = 64 * 1024 * 1024;

/// Headers about one connection and not about the message.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers about the client that the hub itself has handled.
const NOT_FOR_WORKERS: [HeaderName; 2] = [
    // hyper has answered it to the client by itself.
    EXPECT,
    // The hub decides about pages: a worker that sees an origin would decide on its own.
    ORIGIN,
];

/// The model whose worker answers, and the client's name for it; empty if the client gave none.
pub(super) struct Named {
    pub(super) model: Arc<Model>,
    pub(super) written: String,
    /// The translation of the answer, if client and worker speak different protocols.
    pub(super) answering: Option<Answering>,
}

/// Sends the request to the worker and returns at the head of its answer; the body follows as it
/// comes, and takes the account with it. Dropping the future or the answer gives the lease back and
/// closes the worker's connection.
///
/// # Errors
/// 502 when the worker does not answer, 504 when not in time; 400 or 413 when the request's own body
/// fails.
pub(super) async fn forward(
    grant: Grant,
    named: Named,
    view: Box<RequestView>,
    body: RequestBody,
    limits: Limits,
    account: &mut Account,
) -> Result<Response<Body>, ApiError> {
    let Grant {
        mut lease,
        upstream,
    } = grant;
    let Named {
        model,
        written,
        answering,
    } = named;
    let mut body = body;
    let arrival = is_work(&view.parts.method).then(|| {
        lease.is_sent(body.size(), || body.pieces());
        body.arrival()
    });
    account.sent();
    let answer = {
        let exchange = pin!(upstream.send(outgoing(*view, body), limits.first_byte));
        match arrival.flatten() {
            None => exchange.await,
            Some(arrival) => once_it_is_here(&mut lease, &arrival, exchange).await,
        }
    };
    let answer = answer.map_err(|error| {
        if error.is_workers_fault() {
            lease.broke_off();
        }
        refusals::no_answer(&model.name, &error, limits)
    })?;
    let (mut parts, body) = answer.into_parts();
    lease.answered(parts.status.as_u16());
    remove_hop_by_hop(&mut parts.headers);
    remove_cors(&mut parts.headers);
    let kind = AnswerKind::of(&parts.headers);
    account.answered(&mut parts, kind);
    let (shape, whole) = match answering {
        Some(answering) if kind.events && parts.status.is_success() => {
            let translation = Translation::new(answering, written, &mut parts.headers);
            (Some(Shape::Translated(Box::new(translation))), None)
        }
        Some(answering) => {
            let model = Arc::clone(&model);
            let whole = Whole {
                answering,
                written,
                model,
            };
            (None, Some(whole))
        }
        None if body.is_end_stream() => (None, None),
        None => {
            let rewriter = NameRewriter::new(written, upstream, &mut parts, kind);
            (rewriter.map(|it| Shape::Renamed(Box::new(it))), None)
        }
    };
    let mut body = LeasedBody::new(
        body,
        lease,
        model,
        kind.events,
        limits.idle_stream,
        shape,
        account.take(),
    );
    match whole {
        None => Ok(Response::from_parts(parts, Body::Leased(Box::new(body)))),
        Some(whole) => {
            // Of a translated answer only the translation tells how it ended.
            body.hold_account();
            let answer = Box::pin(whole.answer(parts, &mut body)).await;
            *account = body.take_account();
            answer
        }
    }
}

/// An answer that is translated when it is complete.
struct Whole {
    answering: Answering,
    written: String,
    model: Arc<Model>,
}

impl Whole {
    /// The answer. Its status may be another one than the worker's, whose body is read for it.
    async fn answer(
        self,
        parts: response::Parts,
        body: &mut LeasedBody,
    ) -> Result<Response<Body>, ApiError> {
        let Self {
            answering,
            written,
            model,
        } = self;
        let body = Limited::new(body, MAX_TRANSLATED).collect().await;
        let body = body.map_err(|_| refusals::answer_broke_off(&model.name))?;
        let (body, status, model) = (body.to_bytes(), parts.status, model.name.clone());
        let length = body.len();
        let whole = move || answering.whole(status, &body, &model, &written);
        let mut answer = compute(length, whole).await?;
        for (name, value) in &parts.headers {
            if ![CONTENT_LENGTH, CONTENT_TYPE].contains(name) {
                answer.headers_mut().append(name, value.clone());
            }
        }
        Ok(answer)
    }
}

/// True if the model computes for such a request: others tell nothing about its health.
fn is_work(method: &Method) -> bool {
    !method.is_safe()
}

/// Awaits the answer. The worker's time runs from the moment at which all of the client's body `is_here`.
async fn once_it_is_here<T>(
    lease: &mut Lease,
    is_here: &AtomicBool,
    mut exchange: Pin<&mut impl Future<Output = T>>,
) -> T {
    poll_fn(|cx| {
        let answer = exchange.as_mut().poll(cx);
        if answer.is_pending() && is_here.load(Ordering::Relaxed) {
            lease.waits();
        }
        answer
    })
    .await
}

/// Adds a policy's headers, except those that frame the message.
pub(super) fn add_headers(headers: &mut HeaderMap, added: &[(HeaderName, HeaderValue)]) {
    for (name, value) in added {
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, HOST].contains(name) {
            headers.insert(name, value.clone());
        }
    }
}

/// The request for the worker.
pub(super) fn outgoing(view: RequestView, body: RequestBody) -> Request<RequestBody> {
    let RequestView { mut parts, id, .. } = view;
    // A client may write the whole URL, or speak HTTP/1.0; the worker gets a plain request.
    if parts.uri.authority().is_some() {
        let path = parts.uri.into_parts().path_and_query;
        parts.uri = Uri::from(path.unwrap_or(PathAndQuery::from_static("/")));
    }
    parts.version = Version::HTTP_11;
    remove_for_worker(&mut parts.headers);
    parts.headers.insert(REQUEST_ID, id);
    Request::from_parts(parts, body)
}

/// Removes the headers about one connection.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Mostly there is none: one pass is cheaper than a lookup of each.
    if headers.keys().any(|name| HOP_BY_HOP.contains(name)) {
        remove_all(headers, &[]);
    }
}

/// Removes those, and the headers that are not for workers.
fn remove_for_worker(headers: &mut HeaderMap) {
    let goes = |name| HOP_BY_HOP.contains(name) || NOT_FOR_WORKERS.contains(name);
    if headers.keys().any(goes) {
        remove_all(headers, &NOT_FOR_WORKERS);
    }
}

fn remove_all(headers: &mut HeaderMap, others: &[HeaderName]) {
    let listed: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|names| names.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // The length stays: without it the framing would change.
    let listed = listed.iter().filter(|name| **name != CONTENT_LENGTH);
    for name in listed.chain(&HOP_BY_HOP).chain(others) {
        headers.remove(name);
    }
}

/// Removes the worker's CORS headers: mlx-openai-server lets all web pages read its answers.
pub(super) fn remove_cors(headers: &mut HeaderMap) {
    let is_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
    if !headers.keys().any(|name| is_cors(&name)) {
        return;
    }
    let names: Vec<HeaderName> = headers.keys().filter(is_cors).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn headers_of_the_connection_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine, content-length"),
            ("connection", "x-second"),
            ("x-mine", "1"),
            ("x-second", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("content-length", "3"),
            ("authorization", "Bearer k"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "content-length"]);
    }

    #[test]
    fn what_a_worker_lets_pages_do_stays_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-credentials", "true"),
            ("access-control-some-day", "1"),
            ("access-control-expose-headers", "a"),
            ("access-control-expose-headers", "b"),
            ("content-type", "text/plain"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_cors(&mut headers);
        assert_eq!(headers.len(), 1);
        assert!(headers.contains_key(CONTENT_TYPE));
    }

    #[test]
    fn a_policy_cannot_change_the_framing() {
        let mut headers = HeaderMap::new();
        let one = HeaderValue::from_static("1");
        let added = [(CONTENT_LENGTH, one.clone()), (EXPECT, one)];
        add_headers(&mut headers, &added);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn the_worker_gets_a_plain_request() {
        let request = Request::get("http://hub:8000/v1/x?y=1")
            .version(Version::HTTP_10)
            .header(EXPECT, "100-continue")
            .header(ORIGIN, "http://localhost:3000")
            .body(())
            .unwrap();
        let (id, client) = (HeaderValue::from_static("r1"), ([127, 0, 0, 1], 1).into());
        let view = RequestView::of_head(request.into_parts().0, id, client);
        let request = outgoing(view, RequestBody::empty());
        assert_eq!(request.uri(), "/v1/x?y=1");
        assert_eq!(request.version(), Version::HTTP_11);
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()[REQUEST_ID], "r1");
    }
}
