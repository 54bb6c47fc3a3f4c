//! The promises that hold for requests and for workers' streams of any bytes: `fuzz/` looks for counterexamples, the
//! tests below replay its corpus.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::ollama::{Form, Origin};
use super::super::responses::{Conversation, Echoed, Kept};
use super::super::{chat, ollama, responses};
use super::{Answering, AsChat, Door, read, to_count};
use crate::api::ApiError;

#[cfg(test)]
use crate::corpus;

/// Panics when a request of Anthropic's API is neither translated nor refused by name.
pub fn messages_request(bytes: &[u8]) {
    let kept = Kept::default();
    is_translated_or_refused(Door::Messages, bytes, &kept);
    is_counted_or_refused(Door::Messages, bytes, &kept);
}

/// The same for the Responses API, also of a request that goes on from another.
pub fn responses_request(bytes: &[u8]) {
    let kept = Kept::default();
    is_translated_or_refused(Door::Responses, bytes, &kept);
    is_counted_or_refused(Door::Responses, bytes, &kept);
    if let Ok(Value::Object(mut request)) = read(bytes) {
        let turn = kept_turn(&kept);
        request.insert("previous_response_id".to_owned(), turn["id"].clone());
        let next = Value::Object(request).to_string();
        is_translated_or_refused(Door::Responses, next.as_bytes(), &kept);
        is_counted_or_refused(Door::Responses, next.as_bytes(), &kept);
    }
}

/// The response of a turn that is kept.
fn kept_turn(kept: &Kept) -> Value {
    let request = json!({"model": "m", "input": "look"});
    let conversation = Conversation::of(&request, kept).expect("nothing is asked for");
    let echoed = Echoed::of(&request, conversation);
    let answer = br#"{"choices": [{"message": {"content": "I look.", "tool_calls": [
        {"id": "call_1", "function": {"name": "ls", "arguments": "{}"}}]}}]}"#;
    let answer = chat::of_worker(answer).expect("a chat completion");
    responses::response(&answer, "m", echoed, 7)
}

/// The same for each of Ollama's routes.
pub fn ollama_request(bytes: &[u8]) {
    for door in [
        Door::Ollama(Form::Chat),
        Door::Ollama(Form::Generate),
        Door::OllamaEmbed,
        Door::OllamaEmbeddings,
    ] {
        is_translated_or_refused(door, bytes, &Kept::default());
    }
    let Ok(json) = read(bytes) else {
        return;
    };
    if let Ok(Some(seconds)) = ollama::keep_alive(&json) {
        assert!(seconds.is_finite());
    }
    match ollama::lists::asked(&json) {
        Ok(model) => assert!(!model.trim().is_empty()),
        Err(error) => is_refusal(&error),
    }
}

fn is_counted_or_refused(door: Door, bytes: &[u8], kept: &Kept) {
    match to_count(door, bytes, kept) {
        Ok((_, tokens)) => assert!(tokens.estimate() >= tokens.with(0)),
        Err(error) => is_refusal(&error),
    }
}

fn is_translated_or_refused(door: Door, bytes: &[u8], kept: &Kept) {
    match AsChat::of(door, Bytes::copy_from_slice(bytes), kept) {
        Ok(as_chat) => {
            let chat: Value = serde_json::from_slice(&as_chat.chat).expect("JSON");
            assert!(chat.is_object(), "{chat}");
        }
        Err(error) => is_refusal(&error),
    }
}

fn is_refusal(error: &ApiError) {
    // 404 is for an item that is not kept.
    let is_item = error.status == 404 && error.param.as_deref() == Some("input");
    assert!(error.status == 400 || is_item, "{error}");
    assert!(!error.message.is_empty());
}

/// Panics when what a client gets of a worker's stream of these bytes depends on how they are cut, or cannot be read,
/// or has no end.
pub fn worker_stream(bytes: &[u8]) {
    for of_door in [
        message as fn() -> Answering,
        response,
        || Answering::Ollama(Form::Chat, Origin::now()),
        || Answering::Ollama(Form::Generate, Origin::now()),
    ] {
        let whole = told(of_door(), &[bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(told(of_door(), &single), whole, "byte by byte");
        let last = whole.last().expect("an end");
        let ends = [
            "message_stop",
            "error",
            "response.completed",
            "response.incomplete",
            "response.failed",
            "done",
        ];
        assert!(ends.contains(&&**last), "{whole:?}");
    }
}

fn message() -> Answering {
    Answering::Message
}

fn response() -> Answering {
    let request = Value::Null;
    let conversation = Conversation::of(&request, &Kept::default()).expect("nothing is asked for");
    Answering::Response(Box::new(Echoed::of(&request, conversation)))
}

/// The kinds of a stream's events or lines, one after the other.
fn told(answering: Answering, pieces: &[&[u8]]) -> Vec<String> {
    let is_lines = answering.stream_type() == ollama::OLLAMA.stream_type;
    let (mut stream, mut out) = (answering.stream("m".to_owned()), Vec::new());
    for piece in pieces {
        stream.feed(piece, &mut out);
    }
    let broke_off = ApiError::new(StatusCode::BAD_GATEWAY, "broke off");
    stream.end(&broke_off, &mut out);
    let text = String::from_utf8(out).expect("UTF-8");
    if is_lines {
        return text.lines().map(kind_of_line).collect();
    }
    text.split_terminator("\n\n").map(kind_of_event).collect()
}

fn kind_of_line(line: &str) -> String {
    let json: Value = serde_json::from_str(line).expect("JSON");
    let kind = match (&json["error"], &json["done"]) {
        (Value::String(_), _) => "error",
        (_, Value::Bool(true)) => "done",
        _ => "piece",
    };
    kind.to_owned()
}

fn kind_of_event(event: &str) -> String {
    let (name, data) = event.split_once("\ndata: ").expect("a name and data");
    let name = name.strip_prefix("event: ").expect("a name");
    let json: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(json["type"], name);
    name.to_owned()
}

#[cfg(test)]
#[test]
fn the_corpus_of_requests_keeps_every_promise() {
    corpus::replay("messages_request", messages_request);
    corpus::replay("responses_request", responses_request);
    corpus::replay("ollama_request", ollama_request);
}

#[cfg(test)]
#[test]
fn the_corpus_of_streams_keeps_every_promise() {
    corpus::replay("worker_stream", worker_stream);
}

#[cfg(test)]
#[test]
fn nothing_of_an_event_waits_for_the_next() {
    for of_door in [
        message as fn() -> Answering,
        response,
        || Answering::Ollama(Form::Chat, Origin::now()),
        || Answering::Ollama(Form::Generate, Origin::now()),
    ] {
        let mut stream = of_door().stream("m".to_owned());
        for key in ["reasoning_content", "content", "content"] {
            let event = format!("data: {{\"choices\":[{{\"delta\":{{\"{key}\":\"said\"}}}}]}}\n\n");
            let mut out = Vec::new();
            stream.feed(event.as_bytes(), &mut out);
            let text = String::from_utf8(out).expect("UTF-8");
            assert!(text.contains("said"), "{key}: {text}");
        }
    }
}
