//! The span of one request, by OpenTelemetry's conventions for HTTP and generative AI: what it asked for, what it
//! waited for, its first token, its tokens and its outcome. No text of request or answer is in it.
//!
//! The account of the request has one where the hub sends traces, and ends it with itself.

use std::borrow::Cow;
use std::time::SystemTime;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Method, request};

use super::usage::Usage;
use crate::hub::lifecycle::Flight;
use crate::telemetry::traces::{Beginning, Span, attribute};

/// Who computes the answers, in the words of the conventions.
const PROVIDER: &str = "mlx";

/// What the conventions call a method that is none of HTTP's own.
const OTHER: &str = "_OTHER";

/// The span of a request, and the part of it that goes on.
#[derive(Debug)]
pub(super) struct Trace {
    span: Span,
    part: Option<Span>,
}

/// What ends a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndOfRequest<'a> {
    pub(super) flight: &'a Flight,
    pub(super) status: u16,
    pub(super) is_cancelled: bool,
    /// True if a worker was asked.
    pub(super) was_sent: bool,
    pub(super) usage: Usage,
}

impl Trace {
    /// The span of a request that has arrived; `None` where no traces are sent.
    pub(super) fn begin(parts: &request::Parts, flight: &Flight) -> Option<Box<Self>> {
        let span = Span::of_request(&parts.headers, || {
            let mut attributes = vec![
                attribute("http.request.method", method(&parts.method)),
                attribute("url.path", parts.uri.path().to_owned()),
                attribute("url.scheme", "http"),
                attribute("client.address", flight.client.to_string()),
                attribute("mlx_hub.request_id", flight.id().to_owned()),
                attribute("mlx_hub.door", flight.protocol),
            ];
            if let Some(host) = host(parts) {
                attributes.push(attribute("server.address", host.host().to_owned()));
                let port = host.port_u16().map_or(80, i64::from);
                attributes.push(attribute("server.port", port));
            }
            if let Some(operation) = operation(flight) {
                attributes.push(attribute("gen_ai.operation.name", operation));
                attributes.push(attribute("gen_ai.provider.name", PROVIDER));
            }
            Beginning {
                name: plain_name(flight),
                time: SystemTime::now() - flight.began.elapsed(),
                attributes,
            }
        })?;
        Some(Box::new(Self { span, part: None }))
    }

    /// It asks for a model of that name.
    pub(super) fn asks_for(&mut self, model: &str) {
        self.span.set("gen_ai.request.model", model.to_owned());
    }

    /// It waits from now on: for its turn, or for a load.
    pub(super) fn waits(&mut self, what: &str) {
        self.part = self.span.part(what.to_owned());
    }

    /// It waits no longer.
    pub(super) fn goes_on(&mut self) {
        self.part = None;
    }

    /// It is sent to a worker.
    pub(super) fn is_sent(&mut self) {
        self.goes_on();
        self.span.happened("sent");
    }

    /// The first event of its stream passes.
    pub(super) fn has_first_token(&mut self) {
        self.span.happened("first_token");
    }

    /// Has the receiver of a request with these headers go on with the trace.
    pub(super) fn propagate(&self, headers: &mut HeaderMap) {
        self.span.propagate(headers);
    }

    /// Another hub answers it.
    pub(super) fn pass_on(mut self) {
        self.span.set("mlx_hub.passed_on", true);
    }

    /// It has ended.
    pub(super) fn end(mut self, outcome: EndOfRequest<'_>) {
        self.goes_on();
        let EndOfRequest { flight, status, .. } = outcome;
        let span = &mut self.span;
        span.set("http.response.status_code", i64::from(status));
        if let Some(model) = flight.model() {
            if let Some(operation) = operation(flight) {
                span.rename(format!("{operation} {}", model.name));
            }
            if outcome.was_sent {
                span.set("gen_ai.response.model", model.name.to_string());
            }
        }
        for (key, tokens) in [
            ("gen_ai.usage.input_tokens", outcome.usage.prompt),
            ("gen_ai.usage.output_tokens", outcome.usage.completion),
        ] {
            if let Some(tokens) = tokens.and_then(|tokens| i64::try_from(tokens).ok()) {
                span.set(key, tokens);
            }
        }
        if outcome.is_cancelled {
            span.failed("request_cancelled".to_owned(), String::new());
        } else if status >= 500 {
            span.failed(status.to_string(), String::new());
        }
    }
}

fn method(method: &Method) -> &'static str {
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
    ];
    match known.iter().position(|other| other == method) {
        Some(index) => ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"][index],
        None => OTHER,
    }
}

/// Method and route: names of spans are few.
fn plain_name(flight: &Flight) -> String {
    let method = method(&flight.method);
    match &flight.path {
        Cow::Borrowed(route) => format!("{method} {route}"),
        Cow::Owned(_) => method.to_owned(),
    }
}

/// The address by which the client knows the hub.
fn host(parts: &request::Parts) -> Option<Authority> {
    let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let named = parts.uri.authority().cloned();
    named.or_else(|| host?.parse().ok())
}

/// What the conventions call the work that a request asks for.
fn operation(flight: &Flight) -> Option<&'static str> {
    if flight.method != Method::POST {
        return None;
    }
    let path = &*flight.path;
    let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
    if ends(&[
        "/chat/completions",
        "/v1/messages",
        "/v1/responses",
        "/api/chat",
    ]) {
        Some("chat")
    } else if ends(&["/completions", "/api/generate"]) {
        Some("text_completion")
    } else if ends(&["/embeddings", "/api/embed"]) {
        Some("embeddings")
    } else if path.contains("/images/") || path.contains("/audio/") {
        Some("generate_content")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use tokio::time::Instant;

    use super::*;
    use crate::hub::gateway::protocol::openai::routes;

    fn flight(method: Method, path: &str) -> Flight {
        Flight::new(
            HeaderValue::from_static("id"),
            Instant::now(),
            [127, 0, 0, 1].into(),
            "openai",
            method,
            routes::shared(path),
            Arc::default(),
        )
    }

    #[test]
    fn the_work_is_named_by_the_route() {
        for (path, operation_name) in [
            ("/v1/chat/completions", Some("chat")),
            ("/v1/messages", Some("chat")),
            ("/v1/responses", Some("chat")),
            ("/api/chat", Some("chat")),
            ("/upstream/alpha/v1/chat/completions", Some("chat")),
            ("/v1/completions", Some("text_completion")),
            ("/api/generate", Some("text_completion")),
            ("/v1/embeddings", Some("embeddings")),
            ("/api/embed", Some("embeddings")),
            ("/v1/images/generations", Some("generate_content")),
            ("/v1/audio/transcriptions", Some("generate_content")),
            ("/v1/models", None),
        ] {
            assert_eq!(
                operation(&flight(Method::POST, path)),
                operation_name,
                "{path}"
            );
            assert_eq!(operation(&flight(Method::GET, path)), None);
        }
    }

    #[test]
    fn what_a_client_makes_up_is_in_no_name() {
        let known = flight(Method::POST, "/v1/chat/completions");
        assert_eq!(plain_name(&known), "POST /v1/chat/completions");
        let own = Method::from_bytes(b"BREW").unwrap();
        assert_eq!(plain_name(&flight(own, "/v1/files/4711")), "_OTHER");
    }

    #[test]
    fn the_hub_is_known_by_the_name_that_the_client_has_for_it() {
        for (uri, header, expected) in [
            ("/v1/models", Some("hub.local:8000"), Some("hub.local:8000")),
            ("http://named:1/v1/models", Some("other:2"), Some("named:1")),
            ("/v1/models", Some("[::1]:8000"), Some("[::1]:8000")),
            ("/v1/models", Some("no host"), None),
            ("/v1/models", None, None),
        ] {
            let mut request = http::Request::get(uri);
            if let Some(header) = header {
                request = request.header(HOST, header);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            let found = host(&parts);
            assert_eq!(found.as_ref().map(Authority::as_str), expected);
        }
    }
}
