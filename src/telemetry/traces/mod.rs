//! Traces by OpenTelemetry's protocol (OTLP), if the environment names a collector.
//!
//! The gateway begins a span per request, the supervisor reports loads. Without a collector a span costs one look
//! at an option that is empty. Spans are sent by a thread of their own, from a queue of bounded length: a slow
//! collector costs spans, never a request.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span as SdkSpan};

use super::Troubles;

mod client;
mod settings;

use client::CollectorClient;

/// The name under which traces show the hub, unless `OTEL_SERVICE_NAME` gives another.
const SERVICE: &str = env!("CARGO_PKG_NAME");
const TROUBLE: &str = "traces are not sent";
/// Longest wait at the end of the hub for the last spans to be sent.
const LAST_SPANS: Duration = Duration::from_secs(2);
/// Longest text of an attribute, in characters.
const CLIP: usize = 300;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Sends the last spans when it is dropped, for at most two seconds.
#[derive(Debug)]
pub(super) struct SpanSender {
    provider: SdkTracerProvider,
}

impl Drop for SpanSender {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_SPANS) {
            tracing::debug!(%error, "the last spans are not sent");
        }
    }
}

/// Begins to send traces, if this process' environment asks for it. What keeps it from that is a trouble.
pub(super) fn begin(troubles: &Troubles) -> Option<SpanSender> {
    let variable = |name: &str| std::env::var(name).ok();
    let settings = match settings::read(&variable) {
        Ok(settings) => settings?,
        Err(reason) => {
            tracing::warn!("{TROUBLE}: {reason}");
            troubles.note(TROUBLE, Err(reason));
            return None;
        }
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(CollectorClient::new(settings.timeout, troubles.clone()))
        // A span that is late is of little use, and a retry would keep the end of the hub waiting.
        .with_retry_policy(RetryPolicy::disabled())
        .build();
    let exporter = match exporter {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::warn!("{TROUBLE}: {error}");
            troubles.note(TROUBLE, Err(error));
            return None;
        }
    };
    let mut resource = Resource::builder();
    if !settings.names_service {
        resource = resource.with_service_name(SERVICE);
    }
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let provider = SdkTracerProvider::builder()
        .with_resource(resource.with_attribute(version).build())
        .with_batch_exporter(exporter)
        .build();
    let _ = TRACER.set(provider.tracer(SERVICE));
    Some(SpanSender { provider })
}

/// The tracer, if traces are sent.
fn tracer() -> Option<&'static SdkTracer> {
    TRACER.get()
}

/// A span that is open. Dropping it ends it.
#[derive(Debug)]
pub struct Span(SdkSpan);

/// What a span begins with.
#[derive(Debug)]
pub struct Beginning {
    /// Its name.
    pub name: String,
    /// When it began.
    pub time: SystemTime,
    /// Its attributes.
    pub attributes: Vec<KeyValue>,
}

impl Span {
    /// The span of a request to this hub, whose parent is the one that the client names in `traceparent`. `None`
    /// where no traces are sent, and `beginning` is not called.
    pub fn of_request(headers: &HeaderMap, beginning: impl FnOnce() -> Beginning) -> Option<Self> {
        let tracer = tracer()?;
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &HeaderExtractor(headers));
        Some(Self::open(tracer, beginning(), SpanKind::Server, &parent))
    }

    /// A span without a parent, for work that no single request has caused. `None` where no traces are sent, and
    /// `beginning` is not called.
    pub fn of_work(beginning: impl FnOnce() -> Beginning) -> Option<Self> {
        let (tracer, parent) = (tracer()?, Context::new());
        Some(Self::open(tracer, beginning(), SpanKind::Internal, &parent))
    }

    /// A part of this span that begins now.
    pub fn part(&self, name: String) -> Option<Self> {
        let tracer = tracer()?;
        let beginning = Beginning {
            name,
            time: SystemTime::now(),
            attributes: Vec::new(),
        };
        Some(Self::open(
            tracer,
            beginning,
            SpanKind::Internal,
            &self.context(),
        ))
    }

    fn open(tracer: &SdkTracer, beginning: Beginning, kind: SpanKind, parent: &Context) -> Self {
        let builder = SpanBuilder::from_name(beginning.name)
            .with_kind(kind)
            .with_start_time(beginning.time)
            .with_attributes(beginning.attributes);
        Self(tracer.build_with_context(builder, parent))
    }

    /// With this span as the one that others are parts of.
    fn context(&self) -> Context {
        Context::new().with_remote_span_context(self.0.span_context().clone())
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: String) {
        self.0.update_name(name);
    }

    /// Adds an attribute; a text beyond 300 characters is cut.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.set_attribute(attribute(key, value));
    }

    /// Notes that something happened now.
    pub fn happened(&mut self, name: &'static str) {
        self.0.add_event(name, Vec::new());
    }

    /// Marks it as failed, with a `kind` of few values, and a sentence if there is one.
    pub fn failed(&mut self, kind: String, why: String) {
        self.0.set_attribute(KeyValue::new("error.type", kind));
        self.0.set_status(Status::error(clipped(why)));
    }

    /// Makes it the parent of what the receiver of a request with these headers does.
    pub fn propagate(&self, headers: &mut HeaderMap) {
        let mut ours = HeaderInjector(headers);
        TraceContextPropagator::new().inject_context(&self.context(), &mut ours);
        // An empty list is none.
        if headers
            .get(TRACESTATE)
            .is_some_and(|state| state.is_empty())
        {
            headers.remove(TRACESTATE);
        }
    }
}

const TRACESTATE: &str = "tracestate";

/// An attribute; a text beyond 300 characters is cut.
pub fn attribute(key: &'static str, value: impl Into<Value>) -> KeyValue {
    let value = match value.into() {
        Value::String(text) => Value::from(clipped(text.as_str().to_owned())),
        value => value,
    };
    KeyValue::new(key, value)
}

fn clipped(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(CLIP) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(clipped("ö".repeat(CLIP)), "ö".repeat(CLIP));
        let cut = clipped("ö".repeat(CLIP + 1));
        assert_eq!(cut, format!("{}…", "ö".repeat(CLIP)));
    }

    #[test]
    fn without_a_collector_nothing_is_made() {
        let headers = HeaderMap::new();
        assert!(Span::of_request(&headers, || unreachable!("it is not asked for")).is_none());
        assert!(Span::of_work(|| unreachable!("it is not asked for")).is_none());
    }
}
