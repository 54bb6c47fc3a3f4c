//! One request: its check at the door, its dispatch, and the headers that every answer has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use http::header::{CONTENT_LENGTH, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::Either;
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::ServiceExt as _;
use tracing::debug;
use uuid::Uuid;

use super::area::Area;
use super::door::{Pass, Sessions};
use super::guarded::Guarded;
use super::unread::{self, Lent};
use super::{astray, door, login, member};
use crate::api::ApiError;
use crate::config::Source;
use crate::hub::decimal;
use crate::hub::decimal::micros;
use crate::hub::gateway::{Arrived, Body, Gateway, ReadPause, error_to};
use crate::telemetry;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");

/// Longest id of a client, as it goes into logs and to the worker; a longer one is replaced.
const MAX_ID: usize = 128;

/// The gateway's answers without a box around each piece of a stream, or the router's.
type AnyBody = Either<Body, axum::body::Body>;

/// The destination of a request.
enum Destination {
    Gateway(Arrived),
    /// Off the hot path, and large.
    Elsewhere(Box<Elsewhere>),
}

/// The destination of any other request.
enum Elsewhere {
    /// None: this is the answer.
    Answered(Response<Body>),
    /// None either, for an admitted client: its body is read, so that its connection stays open.
    Astray(Response<Body>, Incoming),
    Hub(Request<Lent>, SocketAddr),
    /// The login of the status page.
    LogIn(Parts, Incoming, SocketAddr),
    /// The hub that has taken over.
    Successor(Request<Incoming>, SocketAddr),
}

/// A request with its area.
struct Inbound {
    parts: Parts,
    body: Incoming,
    area: Area,
    /// It came to the address of a model in a fleet.
    is_for_member: bool,
}

/// The state that the requests of a connection share.
pub(super) struct Front {
    gateway: Arc<Gateway>,
    hub: axum::Router,
    sessions: Arc<Sessions>,
}

impl Front {
    pub(super) fn new(gateway: Gateway, hub: axum::Router, sessions: Arc<Sessions>) -> Self {
        Self {
            gateway: Arc::new(gateway),
            hub,
            sessions,
        }
    }

    /// A copy for one connection: no other thread touches the reference count that its requests use.
    pub(super) fn of_connection(&self) -> Arc<Self> {
        let gateway = Gateway::clone(&self.gateway);
        Arc::new(Self {
            gateway: Arc::new(gateway),
            hub: self.hub.clone(),
            sessions: Arc::clone(&self.sessions),
        })
    }

    /// The answer to one request. Not an `async fn`: that would keep the request in its future twice.
    pub(super) fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: SocketAddr,
        read_pause: ReadPause,
    ) -> impl Future<Output = Response<AnyBody>> {
        let started = Instant::now();
        let (mut parts, body) = request.into_parts();
        let peer = self.gateway.successor().client(&mut parts.headers, client);
        let source = self.gateway.source(&parts.headers, peer);
        let id = request_id(&parts.headers);
        let is_for_member = member::strip(&mut parts);
        let area = Area::of(parts.uri.path());
        // The gateway logs its requests itself, at the end of their answers.
        let is_told = area != Area::Workers && !is_watching(&parts);
        let line = (is_told && tracing::enabled!(tracing::Level::DEBUG))
            .then(|| Box::new((parts.method.clone(), parts.uri.path().to_owned())));
        let asked = Inbound {
            parts,
            body,
            area,
            is_for_member,
        };
        let (way, origin) = self.way(asked, source, read_pause, &id, started);
        async move {
            let mut response = match way {
                Destination::Gateway(arrived) => {
                    self.gateway.answer(arrived).await.map(Either::Left)
                }
                Destination::Elsewhere(way) => Box::pin(self.answer_elsewhere(*way, &id)).await,
            };
            if area == Area::Hub {
                let nosniff = HeaderValue::from_static("nosniff");
                response
                    .headers_mut()
                    .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
            }
            if let Some(origin) = origin {
                door::allow_origin(response.headers_mut(), origin);
            }
            let took = started.elapsed();
            if let Some(line) = line {
                let (method, path) = *line;
                let status = response.status().as_u16();
                let id = id.to_str().unwrap_or_default();
                let seconds = telemetry::seconds(took.as_secs_f64());
                debug!(id, %method, path, status, seconds, "request");
            }
            sign(response.headers_mut(), id, took);
            response
        }
    }

    /// The destination of a request, and the origin of the page that sends it, if any.
    fn way(
        &self,
        asked: Inbound,
        source: Source,
        read_pause: ReadPause,
        id: &HeaderValue,
        started: Instant,
    ) -> (Destination, Option<HeaderValue>) {
        let Inbound {
            parts,
            body,
            area,
            is_for_member,
        } = asked;
        let elsewhere = |way| Destination::Elsewhere(Box::new(way));
        let origin = match door::check(&parts, area, || self.gateway.config()) {
            Ok(origin) => origin,
            Err(error) => {
                let answer = turned_away(&parts, id, &error);
                return (elsewhere(Elsewhere::Answered(answer)), None);
            }
        };
        if let Some(response) = origin.as_ref().and_then(|_| door::preflight(&parts)) {
            return (elsewhere(Elsewhere::Answered(response)), origin);
        }
        // The hub that has taken over asks for the key itself, and has the sessions.
        let asks = self.gateway.has_keys() && !self.gateway.successor().is_there();
        let pass = match asks {
            true => self.pass(&parts, area, id),
            false => Ok(Pass::On(None)),
        };
        let key = match pass {
            Ok(Pass::On(key)) => key,
            Ok(Pass::LogIn) => {
                return (
                    elsewhere(Elsewhere::LogIn(parts, body, source.client)),
                    origin,
                );
            }
            Ok(Pass::LogOut) => {
                return (elsewhere(Elsewhere::Answered(self.log_out(&parts))), origin);
            }
            Err(answer) => return (elsewhere(Elsewhere::Answered(*answer)), origin),
        };
        let astray = match member::is_about(parts.uri.path()) {
            true => None,
            false => astray::answer(&parts, area, || self.gateway.config()),
        };
        let way = if let Some(response) = astray {
            elsewhere(Elsewhere::Astray(response, body))
        } else if self.gateway.successor().is_there() {
            let request = Request::from_parts(parts, body);
            elsewhere(Elsewhere::Successor(request, source.peer()))
        } else if let Some(error) = self.refusal_to_gateway(is_for_member) {
            let answer = turned_away(&parts, id, &error);
            elsewhere(Elsewhere::Astray(answer, body))
        } else if area == Area::Workers {
            let id = id.clone();
            let arrived = self
                .gateway
                .take_in(parts, key, body, source, read_pause, id, started);
            Destination::Gateway(arrived)
        } else {
            let mut request = Request::from_parts(parts, Lent::new(body));
            request.extensions_mut().insert(ConnectInfo(source.client));
            elsewhere(Elsewhere::Hub(request, source.peer()))
        };
        (way, origin)
    }

    /// The reason why a request to the address of a model in a fleet is not taken.
    fn refusal_to_gateway(&self, is_for_member: bool) -> Option<ApiError> {
        is_for_member.then(|| self.gateway.takes_from_gateways().err())?
    }

    /// Lets a request to a hub with keys pass, or answers it.
    fn pass(
        &self,
        parts: &Parts,
        area: Area,
        id: &HeaderValue,
    ) -> Result<Pass, Box<Response<Body>>> {
        let config = self.gateway.config();
        let pass = door::pass(parts, area, &config, &self.sessions);
        pass.map_err(|error| {
            let answer = turned_away(parts, id, &error);
            Box::new(match door::wants_login_page(parts, &config) {
                true => login::page(answer),
                false => answer,
            })
        })
    }

    /// The answer to a login, with its cookie.
    async fn log_in(&self, parts: Parts, body: Incoming, client: SocketAddr) -> Response<Body> {
        let config = self.gateway.config();
        let key = login::body(body).await;
        let key = key.and_then(|body| door::key_of_login(&parts, &body));
        let logged_in = key.and_then(|key| self.sessions.log_in(&key, client.ip(), &config));
        match logged_in {
            Ok(cookie) => login::done(&cookie),
            Err(error) => error_to(&parts, &error),
        }
    }

    fn log_out(&self, parts: &Parts) -> Response<Body> {
        let port = self.gateway.config().port;
        login::done(&self.sessions.log_out(&parts.headers, port))
    }

    /// The answer of any other part than the gateway.
    async fn answer_elsewhere(&self, way: Elsewhere, id: &HeaderValue) -> Response<AnyBody> {
        match way {
            Elsewhere::Answered(response) => response.map(Either::Left),
            Elsewhere::Astray(mut response, body) => {
                unread::discard(body, response.headers_mut()).await;
                response.map(Either::Left)
            }
            Elsewhere::LogIn(parts, body, client) => {
                self.log_in(parts, body, client).await.map(Either::Left)
            }
            Elsewhere::Hub(request, client) => self.ask_hub(request, client, id).await,
            Elsewhere::Successor(request, client) => {
                let (parts, body) = request.into_parts();
                let successor = self.gateway.successor();
                let answer = successor.answer(parts, body, client, id).await;
                answer.map(Either::Left)
            }
        }
    }

    /// The answer to the request with that head, for as long as it would be let in.
    fn guarded(&self, body: axum::body::Body, parts: Parts) -> axum::body::Body {
        let (gateway, sessions) = (Arc::clone(&self.gateway), Arc::clone(&self.sessions));
        let may_go_on = move || {
            // The hub that has taken over has the sessions.
            let config = gateway.config();
            gateway.successor().is_there()
                || !gateway.has_keys()
                || door::pass(&parts, Area::Hub, &config, &sessions).is_ok()
        };
        axum::body::Body::new(Guarded { body, may_go_on })
    }

    /// The answer to an unreadable request.
    pub(super) fn unasked(error: &ApiError) -> Response<String> {
        let mut response = error.to_response();
        let id = request_id(&HeaderMap::new());
        debug!(id = id.to_str().unwrap_or_default(), status = error.status, %error, "no request");
        sign(response.headers_mut(), id, Duration::ZERO);
        response
    }

    /// The answer of the control API or the dashboard.
    async fn ask_hub(
        &self,
        request: Request<Lent>,
        client: SocketAddr,
        id: &HeaderValue,
    ) -> Response<AnyBody> {
        let left = request.body().left();
        let guarded = self.gateway.has_keys().then(|| again(&request));
        let again = (*request.method() == Method::POST).then(|| again(&request));
        let Ok(mut response) = self.hub.clone().oneshot(request).await;
        if let Some(body) = left.take() {
            unread::discard(body, response.headers_mut()).await;
        }
        // Only a stream outlasts a change of the keys.
        if let Some(parts) = guarded
            && !response.headers().contains_key(CONTENT_LENGTH)
            && response.body().size_hint().exact().is_none()
        {
            response = response.map(|body| self.guarded(body, parts));
        }
        let successor = self.gateway.successor();
        let is_refused = response.status() == StatusCode::SERVICE_UNAVAILABLE;
        match again {
            // The request waited for a model while another hub took over.
            Some(again) if is_refused && successor.is_there() => {
                let answer = successor.answer_empty(again, client, id).await;
                answer.map(Either::Left)
            }
            _ => response.map(Either::Right),
        }
    }
}

/// True for what commands, pages and monitors ask again and again: lines about it would hide all others.
fn is_watching(parts: &Parts) -> bool {
    parts.method == Method::GET && ["/health", "/hub/status"].contains(&parts.uri.path())
}

/// The door's answer.
fn turned_away(parts: &Parts, id: &HeaderValue, error: &ApiError) -> Response<Body> {
    let (id, method, path) = (
        id.to_str().unwrap_or_default(),
        &parts.method,
        parts.uri.path(),
    );
    debug!(id, %method, path, status = error.status, %error, "turned away");
    let mut answer = error_to(parts, error);
    if answer.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    answer
}

/// A copy of a request's head. Only verbs wait, and their bodies are not read.
fn again<B>(request: &Request<B>) -> Parts {
    let mut again = Request::new(());
    again.method_mut().clone_from(request.method());
    again.uri_mut().clone_from(request.uri());
    again.headers_mut().clone_from(request.headers());
    again.headers_mut().remove(CONTENT_LENGTH);
    again.into_parts().0
}

/// Adds the headers that every answer has.
fn sign(headers: &mut HeaderMap, id: HeaderValue, took: Duration) {
    headers.insert(REQUEST_ID, id);
    let time = decimal::header_value(|text| decimal::write(text, micros(took), 6));
    if let Some(time) = time {
        headers.insert(PROCESS_TIME, time);
    }
}

/// The client's id if it is valid for logs, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fit = |id: &&HeaderValue| {
        (1..=MAX_ID).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
            // No part of a path may be that.
            && !matches!(id.as_bytes(), b"." | b"..")
    };
    if let Some(id) = headers.get(REQUEST_ID).filter(fit) {
        // A copy: a slice of the head would keep the whole buffer in memory.
        if let Ok(id) = HeaderValue::from_bytes(id.as_bytes()) {
            return id;
        }
    }
    let mut text = Uuid::encode_buffer();
    // Ids need not be secret, and the system's random numbers cost a system call each.
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let id = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).expect("a uuid is hexadecimal digits and hyphens")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_for(sent: &[u8]) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
        request_id(&headers)
    }

    #[test]
    fn a_sane_id_of_the_client_is_kept() {
        assert_eq!(id_for(b"req-1/a"), "req-1/a");
        assert_eq!(id_for(&[b'a'; MAX_ID]).len(), MAX_ID);
    }

    #[test]
    fn any_other_is_replaced_by_a_uuid() {
        for sent in [b"".as_slice(), b"a b", b"..", b"\xff", &[b'a'; MAX_ID + 1]] {
            let id = id_for(sent);
            let uuid = Uuid::parse_str(id.to_str().unwrap()).unwrap();
            assert_eq!(uuid.get_version_num(), 4);
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
