//! Traces: what a collector is sent about requests and loads, and what the worker is sent of the client's trace.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::http::{Reply, chat};
use crate::support::{Hub, SOON, processes, wait_for, wait_until};
use crate::{CHAT, ENDLESS, alpha, begin_stream};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENT: &str = "b7ad6b7169203331";

/// A stand-in of a collector: takes spans, and says so.
struct Collector {
    port: u16,
    spans: Receiver<(HashMap<String, Value>, Span)>,
    /// Those that have come.
    known: Vec<(HashMap<String, Value>, Span)>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    fn start() -> Self {
        Self::on(0)
    }

    fn on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, spans) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                take(stream.unwrap(), &sender);
            }
        });
        Self {
            port,
            spans,
            known: Vec::new(),
            is_over,
            thread: Some(thread),
        }
    }

    /// A hub that sends its spans here as soon as they have ended.
    fn hub(&self, yaml: &str, variables: &str) -> Hub {
        hub(self.port, yaml, variables)
    }

    /// The first span that is so, with the attributes of its resource.
    #[track_caller]
    fn span(
        &mut self,
        what: &str,
        is_it: impl Fn(&Span) -> bool,
    ) -> (HashMap<String, Value>, Span) {
        wait_for(what, SOON, || {
            self.known.extend(self.spans.try_iter());
            self.known.iter().find(|(_, span)| is_it(span)).cloned()
        })
    }

    #[track_caller]
    fn named(&mut self, name: &str) -> Span {
        self.span(name, |span| span.name == name).1
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // It looks up at the next client.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Reads one request, whose client asked for no other on the connection.
fn take(stream: TcpStream, spans: &Sender<(HashMap<String, Value>, Span)>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        head += &line.to_ascii_lowercase();
    }
    assert!(head.starts_with("post /v1/traces "), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    assert!(head.contains("x-tenant: home"), "{head}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    for of_resource in request.resource_spans {
        let resource = attributes(&of_resource.resource.unwrap().attributes);
        for scope in of_resource.scope_spans {
            for span in scope.spans {
                drop(spans.send((resource.clone(), span)));
            }
        }
    }
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(answer.as_bytes()).unwrap();
}

/// A hub whose environment names a collector at that port.
fn hub(port: u16, yaml: &str, variables: &str) -> Hub {
    Hub::start_under(
        yaml,
        &format!(
            "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:{port} OTEL_EXPORTER_OTLP_HEADERS=x-tenant=home \
             OTEL_BSP_SCHEDULE_DELAY=50 {variables} exec \"$0\" \"$@\""
        ),
    )
}

fn attributes(list: &[KeyValue]) -> HashMap<String, Value> {
    let value = |value: Option<&AnyValue>| match value.and_then(|value| value.value.as_ref()) {
        Some(Any::StringValue(text)) => json!(text),
        Some(Any::IntValue(number)) => json!(number),
        Some(Any::DoubleValue(number)) => json!(number),
        Some(Any::BoolValue(is)) => json!(is),
        other => panic!("{other:?}"),
    };
    let pairs = list.iter();
    pairs
        .map(|pair| (pair.key.clone(), value(pair.value.as_ref())))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn ask(hub: &Hub, flags: &str, body: &Value) -> Reply {
    let parent = format!("00-{TRACE}-{CLIENT}-{flags}");
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", parent.as_str()),
        ("tracestate", "vendor=1,other=2"),
    ];
    let body = body.to_string();
    hub.http
        .send("POST", CHAT, &headers, body.as_bytes())
        .unwrap()
}

/// The headers of the one request that a worker got.
fn sent(hub: &Hub) -> Value {
    let requests = hub.record.requests(CHAT);
    assert_eq!(requests.len(), 1);
    requests[0]["headers"].clone()
}

#[test]
fn a_request_is_a_span_of_the_clients_trace_with_what_it_waited_for() {
    let mut collector = Collector::start();
    let yaml = alpha(&["--tokens", "6", "--token-ms", "20", "--load-seconds", "0.3"]);
    let hub = collector.hub(
        &yaml,
        "OTEL_RESOURCE_ATTRIBUTES=deployment.environment=home",
    );
    hub.wait_for_state("alpha", "running", "unloaded");
    let said = ask(&hub, "01", &chat("org/alpha", "a secret", true)).said();
    assert!(!said.is_empty());

    let (resource, span) = collector.span("the span", |span| span.name == "chat alpha");
    assert_eq!(resource["service.name"], "mlx-openai-server-hub");
    assert_eq!(resource["deployment.environment"], "home");
    assert_eq!(span.kind(), SpanKind::Server);
    assert_eq!(hex(&span.trace_id), TRACE);
    assert_eq!(hex(&span.parent_span_id), CLIENT);
    let has = attributes(&span.attributes);
    for (key, value) in [
        ("http.request.method", json!("POST")),
        ("url.path", json!(CHAT)),
        ("server.address", json!("127.0.0.1")),
        ("server.port", json!(hub.http.port)),
        ("http.response.status_code", json!(200)),
        ("gen_ai.operation.name", json!("chat")),
        ("gen_ai.provider.name", json!("mlx")),
        ("gen_ai.request.model", json!("org/alpha")),
        ("gen_ai.response.model", json!("alpha")),
        ("gen_ai.usage.output_tokens", json!(6)),
        ("mlx_hub.door", json!("openai")),
    ] {
        assert_eq!(has.get(key), Some(&value), "{key}: {has:?}");
    }
    assert!(has["gen_ai.usage.input_tokens"].as_i64() > Some(0));
    assert!(!has.contains_key("error.type"));
    assert!(!format!("{span:?}").contains("secret"));
    let events: Vec<&str> = span
        .events
        .iter()
        .map(|event| event.name.as_str())
        .collect();
    assert_eq!(events, ["sent", "first_token"]);

    let part = collector.named("load");
    assert_eq!(part.trace_id, span.trace_id);
    assert_eq!(part.parent_span_id, span.span_id);
    assert!(part.start_time_unix_nano >= span.start_time_unix_nano);
    assert!(part.end_time_unix_nano <= span.events[0].time_unix_nano);

    let load = collector.named("load alpha");
    assert_eq!(load.kind(), SpanKind::Internal);
    let took = attributes(&load.attributes);
    assert_eq!(took["mlx_hub.load.outcome"], "loaded");
    assert!(
        took["mlx_hub.load.seconds"].as_f64() >= Some(0.3),
        "{took:?}"
    );
    assert!(load.end_time_unix_nano - load.start_time_unix_nano >= 300_000_000);

    // The worker goes on from the hub's span.
    let headers = sent(&hub);
    let expected = format!("00-{TRACE}-{}-01", hex(&span.span_id));
    assert_eq!(headers["traceparent"], expected);
    assert_eq!(headers["tracestate"], "vendor=1,other=2");
}

#[test]
fn a_wait_that_a_policy_imposed_is_a_part_of_the_request() {
    let mut collector = Collector::start();
    let hub = collector.hub(&alpha(&["--tokens", "2"]), "OTEL_SERVICE_NAME=mine");
    std::fs::write(
        hub.folder().join("turns.lua"),
        "return { on_request = function(req)\n\
         if req.waited_seconds < 0.2 then return hub.wait{ seconds = 0.2 } end\n\
         end }",
    )
    .unwrap();
    assert_eq!(hub.http.post("/hub/reload", &json!({})).status, 200);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let (resource, span) = collector.span("the span", |span| span.name == "chat alpha");
    assert_eq!(resource["service.name"], "mine");
    assert!(span.parent_span_id.is_empty());
    // It is asked about before its time too, as when the model changes: then it waits once more.
    let waits = collector.known.iter().map(|(_, part)| part);
    let waits = waits.filter(|part| part.name == "wait" && part.parent_span_id == span.span_id);
    let took = |part: &Span| part.end_time_unix_nano - part.start_time_unix_nano;
    let waited: u64 = waits.map(took).sum();
    assert!(waited >= 150_000_000, "{waited}");
    // A trace begins here, and the worker is told of it.
    let parent = sent(&hub)["traceparent"].clone();
    assert_eq!(
        parent,
        format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.span_id))
    );
    assert!(sent(&hub).get("tracestate").is_none());
}

#[test]
fn what_fails_is_marked_and_a_load_that_does_is_told_without_the_log() {
    let mut collector = Collector::start();
    let hub = collector.hub(&alpha(&["--fail-load"]), "");
    assert_eq!(hub.http.chat("alpha", "hello").status, 503);
    let span = collector.named("chat alpha");
    let has = attributes(&span.attributes);
    assert_eq!(has["http.response.status_code"], 503);
    assert_eq!(has["error.type"], "503");
    assert!(!has.contains_key("gen_ai.response.model"));
    assert_eq!(span.status.unwrap().code(), StatusCode::Error);
    let load = collector.named("load alpha");
    assert_eq!(attributes(&load.attributes)["error.type"], "load_failed");
    let status = load.status.unwrap();
    assert_eq!(status.code(), StatusCode::Error);
    assert_eq!(status.message.lines().count(), 1, "{}", status.message);

    assert_eq!(hub.http.get("/v1/models").status, 200);
    let list = collector.named("GET /v1/models");
    assert_eq!(list.status.unwrap_or_default().code(), StatusCode::Unset);
}

#[test]
fn a_request_whose_client_has_left_or_that_is_cancelled_has_a_span_too() {
    let mut collector = Collector::start();
    let hub = collector.hub(&alpha(&ENDLESS), "");
    drop(begin_stream(&hub));
    let is = |span: &Span, key: &str, value: Value| {
        attributes(&span.attributes).get(key) == Some(&value)
    };
    collector.span("the one that was left", |span| {
        is(span, "http.response.status_code", json!(499))
    });
    let mut events = begin_stream(&hub);
    let id = wait_for("the request in flight", SOON, || {
        let listed = hub.http.get("/hub/requests").json();
        Some(listed["in_flight"][0]["id"].as_str()?.to_owned())
    });
    assert_eq!(
        hub.http
            .post(&format!("/hub/requests/{id}/cancel"), &json!({}))
            .status,
        200
    );
    while let Some(Ok(_)) = events.next() {}
    collector.span("the cancelled one", |span| {
        is(span, "error.type", json!("request_cancelled"))
            && is(span, "mlx_hub.request_id", json!(id))
    });
}

#[test]
fn a_trace_that_the_client_does_not_keep_is_passed_on_and_not_sent() {
    let mut collector = Collector::start();
    let hub = collector.hub(&alpha(&["--tokens", "2"]), "");
    assert_eq!(ask(&hub, "00", &chat("alpha", "hello", false)).status, 200);
    let parent = sent(&hub)["traceparent"].as_str().unwrap().to_owned();
    assert!(
        parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-00"),
        "{parent}"
    );
    assert!(!parent.contains(CLIENT), "{parent}");
    assert_eq!(hub.http.get("/v1/models").status, 200);
    collector.named("GET /v1/models");
    assert!(
        collector
            .known
            .iter()
            .all(|(_, span)| span.name != "chat alpha")
    );
}

#[test]
fn without_a_collector_the_clients_trace_passes_as_it_is() {
    let hub = Hub::start(&alpha(&["--tokens", "2"]));
    assert_eq!(ask(&hub, "01", &chat("alpha", "hello", false)).status, 200);
    let headers = sent(&hub);
    assert_eq!(headers["traceparent"], format!("00-{TRACE}-{CLIENT}-01"));
    assert_eq!(headers["tracestate"], "vendor=1,other=2");
}

#[test]
fn a_collector_that_is_away_is_told_once_and_again_when_it_is_back() {
    let port = processes::ports();
    let hub = hub(port, &alpha(&["--tokens", "2"]), "");
    let warnings = || hub.status()["warnings"].to_string();
    for _ in 0..3 {
        // Each is sent by itself.
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        wait_until("a warning", SOON, || {
            warnings().contains("traces are not sent: http://127.0.0.1")
        });
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut collector = Collector::on(port);
    wait_until("the warning to go", SOON, || {
        hub.http.get("/v1/models");
        !warnings().contains("traces")
    });
    collector.named("GET /v1/models");
    let lines = wait_for("both lines", SOON, || {
        let log = std::fs::read_to_string(hub.logs().join("app.log")).ok()?;
        let lines = log.lines().filter(|line| line.contains("traces are"));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        (lines.len() >= 2).then_some(lines)
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("WARN traces are not sent: http://127.0.0.1"),
        "{lines:?}"
    );
    assert!(lines[1].contains("INFO traces are sent again"), "{lines:?}");
}

#[test]
fn a_variable_that_is_wrong_is_a_warning_and_no_reason_not_to_serve() {
    let hub = hub(
        1,
        &alpha(&["--tokens", "2"]),
        "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
    );
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let warnings = hub.status()["warnings"].to_string();
    assert!(
        warnings.contains("traces are not sent: `OTEL_EXPORTER_OTLP_PROTOCOL` is `grpc`"),
        "{warnings}"
    );
}

#[test]
fn the_last_spans_are_sent_at_the_end() {
    let mut collector = Collector::start();
    let mut hub = collector.hub(
        &alpha(&["--tokens", "2"]),
        "OTEL_BSP_SCHEDULE_DELAY=3600000",
    );
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    hub.signal(Signal::SIGTERM);
    assert!(hub.wait_for_end().success());
    collector.named("chat alpha");
}

#[test]
fn a_collector_that_does_not_answer_does_not_keep_a_hub_from_ending() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut hub = hub(
        port,
        &alpha(&["--tokens", "2"]),
        "OTEL_EXPORTER_OTLP_TIMEOUT=3600000",
    );
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    hub.signal(Signal::SIGTERM);
    assert!(hub.wait_for_end().success());
}
