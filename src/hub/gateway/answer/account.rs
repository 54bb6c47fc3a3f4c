//! The account of one request: its destination, its outcome, its tokens and the time of each part.
//!
//! [`Gateway::take_in`](crate::hub::gateway::Gateway::take_in) opens an account per request; it travels to the end of
//! the answer with the body. When it is dropped, it is reported once: to the request log, to the totals of
//! the model and to the policies that observe `request.finished`. A request whose client has left, at any
//! point, has status 499.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, request, response};
use tokio::time::Instant;
use tracing::debug;

use super::kind::AnswerKind;
use super::trace::{EndOfRequest, Trace};
use super::usage::{Tail, Usage};
use crate::api::{Stage, unix_now};
use crate::config::ApiKey;
use crate::core::interface::event::tokens_per_second;
use crate::hub::decimal;
use crate::hub::decimal::micros;
use crate::hub::gateway::Gateway;
use crate::hub::gateway::protocol::Protocol;
use crate::hub::gateway::protocol::openai::response_owners::ResponseOwners;
use crate::hub::gateway::protocol::openai::routes;
use crate::hub::lifecycle::{Ended, Flight, Model};
use crate::policy::{Event, EventName, FinishedRequest};
use crate::telemetry;

/// The status that proxies log for a client that left before its answer was complete.
const CLIENT_LEFT: u16 = 499;

/// The status of [`refusals::cancelled`](crate::hub::gateway::refusals::cancelled).
const CANCELLED: u16 = 503;

const NOT_FOUND: u16 = 404;

/// A worker's answer for a route that it lacks. Any other 404 is about an object and not about the path.
const NO_ROUTE: &[u8] = br#"{"detail":"Not Found"}"#;

/// True for the body of a worker's 404 on a path that it lacks.
pub(crate) fn is_no_route(body: &[u8]) -> bool {
    body == NO_ROUTE
}

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The account of one request. [`Account::take`] moves it and leaves an empty one, which records
/// and reports nothing.
#[derive(Debug, Default)]
pub(crate) struct Account(Option<Box<Entries>>);

#[derive(Debug)]
struct Entries {
    gateway: Arc<Gateway>,
    protocol: &'static Protocol,
    /// The part that others see meanwhile: its origin and its destination.
    flight: Arc<Flight>,
    /// Its client's, if the hub has keys.
    key: Option<Arc<ApiKey>>,
    /// The path for the worker, if it is another one.
    asked: Option<&'static str>,
    /// The store for the id of a created response, until the answer begins.
    made: Option<ResponseOwners>,
    /// Time of the policies, without the time in the queue.
    policy: Duration,
    /// Time in the queue of a policy.
    wait: Duration,
    /// Time until the model was loaded and admitted the request.
    load: Duration,
    sent: Option<Instant>,
    /// Time from the first byte to the worker until the head of its answer.
    worker: Duration,
    /// The status of the answer's head.
    status: Option<u16>,
    is_complete: bool,
    /// True if another hub answers and accounts for it.
    is_passed_on: bool,
    events: bool,
    is_metered: bool,
    first_data: Option<Instant>,
    tail: Tail,
    usage: Usage,
    /// Where the hub sends traces.
    trace: Option<Box<Trace>>,
}

impl Account {
    /// The account of a request that arrived at `began`. It is registered as one in flight.
    pub(crate) fn open(
        parts: &request::Parts,
        id: HeaderValue,
        client: SocketAddr,
        key: Option<Arc<ApiKey>>,
        gateway: Arc<Gateway>,
        began: Instant,
        connection: Arc<AtomicBool>,
    ) -> Self {
        let protocol = Protocol::spoken(parts);
        let flight = Arc::new(Flight::new(
            id,
            began,
            client.ip(),
            protocol.name,
            parts.method.clone(),
            routes::shared(parts.uri.path()),
            connection,
        ));
        gateway.lifecycle.register(&flight);
        let trace = Trace::begin(parts, &flight);
        Self(Some(Box::new(Entries {
            trace,
            gateway,
            protocol,
            flight,
            key,
            asked: None,
            made: None,
            policy: Duration::ZERO,
            wait: Duration::ZERO,
            load: Duration::ZERO,
            sent: None,
            worker: Duration::ZERO,
            status: None,
            is_complete: false,
            is_passed_on: false,
            events: false,
            is_metered: false,
            first_data: None,
            tail: Tail::default(),
            usage: Usage::default(),
        })))
    }

    /// The API that the client speaks; of an account that was handed over, OpenAI's.
    pub(crate) fn protocol(&self) -> &'static Protocol {
        (self.0.as_ref()).map_or(Protocol::DEFAULT, |entries| entries.protocol)
    }

    /// Moves the account out.
    pub(crate) fn take(&mut self) -> Self {
        Self(self.0.take())
    }

    fn enter(&mut self, entry: impl FnOnce(&mut Entries)) {
        if let Some(entries) = &mut self.0 {
            entry(entries);
        }
    }

    /// The request as others see it; none of an account that was handed over.
    pub(crate) fn flight(&self) -> Option<&Arc<Flight>> {
        self.0.as_ref().map(|entries| &entries.flight)
    }

    /// True once somebody has cancelled the request.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.flight().is_some_and(|flight| flight.is_cancelled())
    }

    /// Records the model that the request names.
    pub(crate) fn names(&mut self, model: &Arc<Model>) {
        self.enter(|entries| entries.flight.names(model));
    }

    /// Records the model that the request goes to.
    pub(crate) fn goes_to(&mut self, model: &Arc<Model>) {
        self.enter(|entries| entries.flight.goes_to(model));
    }

    /// Records the client's name for its model.
    pub(crate) fn asks_for(&mut self, model: Option<&str>) {
        if let (Some(trace), Some(model)) = (self.trace(), model) {
            trace.asks_for(model);
        }
    }

    /// Records that it waits from now on for its turn (`wait`) or for a load (`load`).
    pub(crate) fn waits(&mut self, what: &str) {
        if let Some(trace) = self.trace() {
            trace.waits(what);
        }
    }

    /// Has the receiver of a request with these headers go on with the trace of this one.
    pub(crate) fn propagate(&mut self, headers: &mut HeaderMap) {
        if let Some(trace) = self.trace() {
            trace.propagate(headers);
        }
    }

    fn trace(&mut self) -> Option<&mut Trace> {
        self.0.as_mut()?.trace.as_deref_mut()
    }

    /// Records that its worker gets another path than the client's.
    pub(crate) fn asks(&mut self, path: &'static str) {
        self.enter(|entries| entries.asked = Some(path));
    }

    /// Records the time of the policies, and that in the queue.
    pub(crate) fn was_asked_about(&mut self, policy: Duration, parked: Duration) {
        self.enter(|entries| {
            entries.policy = policy;
            entries.wait = parked;
            if let Some(trace) = &mut entries.trace {
                trace.goes_on();
            }
        });
    }

    /// Records the wait for its model.
    pub(crate) fn waited_for_load(&mut self, load: Duration) {
        self.enter(|entries| entries.load = load);
    }

    /// Records that it was sent to the worker.
    pub(crate) fn sent(&mut self) {
        self.enter(|entries| {
            entries.sent = Some(Instant::now());
            if let Some(trace) = &mut entries.trace {
                trace.is_sent();
            }
            entries.flight.is_at(Stage::Sent);
        });
    }

    /// Records the head of the worker's answer, and the kind of its body. Adds `Server-Timing`.
    pub(crate) fn answered(&mut self, head: &mut response::Parts, kind: AnswerKind) {
        self.enter(|entries| {
            entries.flight.is_at(Stage::Answering);
            entries.status = Some(head.status.as_u16());
            entries.worker = entries.sent.map_or(Duration::ZERO, |sent| sent.elapsed());
            entries.events = kind.events;
            entries.is_metered = kind.is_legible;
        });
        self.write_timing(&mut head.headers);
    }

    /// Records that its answer is a response, whose id goes into `made`.
    pub(crate) fn makes_response(&mut self, made: &ResponseOwners) {
        self.enter(|entries| entries.made = Some(made.clone()));
    }

    /// Records a chunk of the worker's answer; the last one if `is_last`.
    pub(crate) fn passes(&mut self, data: &Bytes, is_last: bool) {
        self.enter(|entries| {
            if entries.events && entries.first_data.is_none() {
                entries.first_data = Some(Instant::now());
                if let Some(trace) = &mut entries.trace {
                    trace.has_first_token();
                }
            }
            if entries.status == Some(NOT_FOUND)
                && is_no_route(data)
                && let Some(model) = entries.flight.model()
            {
                let path = entries.asked.unwrap_or(&entries.flight.path);
                entries.gateway.note_missing(model, path);
            }
            if let (Some(made), Some(model)) = (entries.made.take(), entries.flight.model()) {
                made.note(data, &model.name, entries.key.as_deref());
            }
            if !entries.is_metered {
                return;
            }
            if is_last {
                entries.usage = entries.tail.usage(data);
                entries.is_metered = false;
            } else {
                entries.tail.push(data);
            }
        });
    }

    /// Records that the worker's answer is complete.
    pub(crate) fn completed(&mut self) {
        self.enter(|entries| entries.is_complete = true);
    }

    /// Records that the hub answered with this status, or would have, had the head not been sent already.
    pub(crate) fn ended_with(&mut self, status: u16) {
        self.enter(|entries| {
            entries.status = Some(status);
            entries.is_complete = true;
        });
    }

    /// Records that another hub answers it, and accounts for it.
    pub(crate) fn passed_on(&mut self) {
        self.enter(|entries| entries.is_passed_on = true);
    }

    /// Adds `Server-Timing`: the parts that took any time, in milliseconds.
    pub(crate) fn write_timing(&self, headers: &mut HeaderMap) {
        let Some(entries) = &self.0 else {
            return;
        };
        let parts = [
            (&b"policy;dur="[..], entries.policy),
            (b"wait;dur=", entries.wait),
            (b"load;dur=", entries.load),
            (b"worker;dur=", entries.worker),
        ];
        let value = decimal::header_value(|text| {
            for (name, took) in parts.iter().filter(|(_, took)| !took.is_zero()) {
                if text.position() > 0 {
                    text.write_all(b", ")?;
                }
                text.write_all(name)?;
                decimal::write(text, micros(*took), 3)?;
            }
            Ok(())
        });
        // A worker may have sent one too.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            headers.append(SERVER_TIMING, value);
        }
    }
}

impl Entries {
    /// Tokens of a stream per second of generation, if measurable: the first token of any other answer has no
    /// known time.
    fn tokens_per_second(&self, ended: Instant) -> Option<f64> {
        // The first event has the first token.
        tokens_per_second(
            self.usage.completion?,
            ended.duration_since(self.first_data?),
        )
    }
}

impl Entries {
    /// Counts it for its model, and lists it among the last requests, unless the hub itself has answered it with what was wanted.
    fn note(
        &self,
        status: u16,
        ended: Instant,
        first_token_seconds: Option<f64>,
        tokens_per_second: Option<f64>,
    ) {
        let flight = &self.flight;
        if flight.model().is_none() && status < 400 {
            return;
        }
        let took = ended.duration_since(flight.began);
        if let Some(model) = flight.model() {
            let door = self.protocol.name;
            (model.meters).answered(door, status, took, first_token_seconds);
        }
        self.gateway.lifecycle.note_ended(Ended {
            id: flight.id().into(),
            time: unix_now() - took.as_secs_f64(),
            client: flight.client,
            protocol: flight.protocol,
            method: flight.method.clone(),
            path: flight.path.clone(),
            model: flight.model().map(|model| (*model.name).into()),
            cancelled: flight.is_cancelled() && status == CANCELLED,
            status,
            stream: self.events,
            took,
            waited: self.wait + self.load,
            first_token_seconds,
            prompt_tokens: self.usage.prompt,
            completion_tokens: self.usage.completion,
            tokens_per_second,
        });
    }

    fn tell_observers(
        &self,
        status: u16,
        ended: Instant,
        first_token_seconds: Option<f64>,
        tokens_per_second: Option<f64>,
    ) {
        // A request without a model of this hub counts for none.
        let flight = &self.flight;
        let Some(model) = flight.model() else {
            return;
        };
        let waited = self.wait + self.load;
        self.gateway.policies.observe(Event::of_request(
            FinishedRequest {
                id: flight.id().to_owned(),
                model: model.name.to_string(),
                client: flight.client.to_string(),
                key: self.key.as_ref().map(|key| key.name.clone()),
                path: flight.path.to_string(),
                stream: self.events,
                status: Some(status),
                seconds: ended.duration_since(flight.began).as_secs_f64(),
                wait_seconds: (!waited.is_zero()).then_some(waited.as_secs_f64()),
                first_token_seconds,
                prompt_tokens: self.usage.prompt,
                completion_tokens: self.usage.completion,
                tokens_per_second,
            },
            unix_now(),
        ));
    }
}

impl Drop for Entries {
    fn drop(&mut self) {
        let trace = self.trace.take();
        if self.is_passed_on {
            if let Some(trace) = trace {
                trace.pass_on();
            }
            return;
        }
        let ended = Instant::now();
        if self.is_metered {
            // It broke off, or its end was not marked by its last chunk.
            self.usage = self.tail.usage(b"");
        }
        let flight = &self.flight;
        let status = match self.status {
            Some(status) if self.is_complete => status,
            _ if flight.is_cancelled() => CANCELLED,
            _ => CLIENT_LEFT,
        };
        let tokens_per_second = self.tokens_per_second(ended);
        if let Some(model) = flight.model()
            && self.sent.is_some()
        {
            let Usage { prompt, completion } = self.usage;
            model.usage.add(prompt, completion, tokens_per_second);
        }
        let first_token = self
            .first_data
            .map(|first| first.duration_since(flight.began).as_secs_f64());
        debug!(
            id = flight.id(),
            method = %flight.method,
            path = &*flight.path,
            hub_model = flight.model().map(|model| &*model.name),
            status,
            seconds = telemetry::seconds(ended.duration_since(flight.began).as_secs_f64()),
            wait_seconds = telemetry::seconds(self.wait.as_secs_f64()),
            load_seconds = telemetry::seconds(self.load.as_secs_f64()),
            first_token_seconds = first_token.map(telemetry::seconds),
            prompt_tokens = self.usage.prompt,
            completion_tokens = self.usage.completion,
            tokens_per_second = tokens_per_second.map(telemetry::rate),
            "request"
        );
        if let Some(trace) = trace {
            trace.end(EndOfRequest {
                flight,
                status,
                is_cancelled: flight.is_cancelled() && status == CANCELLED,
                was_sent: self.sent.is_some(),
                usage: self.usage,
            });
        }
        self.note(status, ended, first_token, tokens_per_second);
        if self.gateway.policies.observes(EventName::RequestFinished) {
            self.tell_observers(status, ended, first_token, tokens_per_second);
        }
    }
}
