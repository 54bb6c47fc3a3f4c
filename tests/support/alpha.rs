//! A hub with one model, `alpha`: how clients ask it, and what they are told when it fails.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::io::Write as _;
use std::net::TcpStream;

use serde_json::Value;

use super::http::Answer;
use super::{Hub, SOON, stub, wait_until};

pub const CHAT: &str = "/v1/chat/completions";

/// The command lines of workers that there are.
pub const DIALECTS: [&str; 2] = ["1.8.1", "jit"];

/// More tokens than any test waits for, at a hundred a second.
pub const ENDLESS: [&str; 4] = ["--tokens", "100000", "--token-ms", "10"];

/// One model, `alpha`, that its first request loads, on a worker with these knobs.
pub fn alpha(knobs: &[&str]) -> String {
    format!(
        "worker_command: {}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n",
        stub(knobs)
    )
}

/// The same with workers of a dialect.
pub fn alpha_in(dialect: &str, knobs: &[&str]) -> String {
    alpha(&[&["--dialect", dialect][..], knobs].concat())
}

/// A stream of `alpha` whose first event has come. Dropped, the client has hung up.
pub fn begin_stream(hub: &Hub) -> impl Iterator<Item = std::io::Result<String>> + use<> {
    let mut events = hub.http.stream("alpha", "hello").events();
    events.next().unwrap().unwrap();
    events
}

/// The error object of an answer, which must be whole: four fields, of the right types.
#[track_caller]
pub fn error_of(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    let error = &body["error"];
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    assert_eq!(error.as_object().unwrap().len(), 4, "{body}");
    assert!(error["message"].is_string(), "{body}");
    assert!(error["type"].is_string(), "{body}");
    assert!(error["code"].is_string(), "{body}");
    assert!(
        error["param"].is_null() || error["param"].is_string(),
        "{body}"
    );
    error.clone()
}

/// That an error has this status, type and code, and all of these words in its message.
#[track_caller]
pub fn assert_error(answer: &Answer, status: u16, kind: &str, code: &str, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = error_of(answer);
    assert_eq!(error["type"], kind, "{error}");
    assert_eq!(error["code"], code, "{error}");
    let message = error["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
}

/// Sends a chat completion and reads nothing: dropped, the client has hung up.
pub fn ask_and_wait(hub: &Hub, body: &Value) -> TcpStream {
    ask_as("asks-and-waits", hub, body)
}

/// The same with a request id.
pub fn ask_as(id: &str, hub: &Hub, body: &Value) -> TcpStream {
    let body = body.to_string();
    let port = hub.http.port;
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nx-request-id: {id}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).unwrap();
    connection
}

pub fn active(hub: &Hub, model: &str) -> u64 {
    hub.model(model)["active_requests"].as_u64().unwrap()
}

/// Waits until so many requests to a model are in flight.
pub fn wait_for_active(hub: &Hub, model: &str, count: u64) {
    wait_until(&format!("{count} requests in flight"), SOON, || {
        active(hub, model) == count
    });
}

/// Waits until the workers have recorded so many events of a kind.
pub fn wait_for_event(hub: &Hub, event: &str, count: usize) {
    wait_until(&format!("{count} × {event}"), SOON, || {
        hub.record.events(event).len() >= count
    });
}
