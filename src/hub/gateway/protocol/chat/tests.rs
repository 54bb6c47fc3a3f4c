//! Properties of every stream of chunks: how it is cut does not matter, nothing is lost, the parts come
//! one after the other.

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::answer::Reason;
use super::chunk::Usage;
use super::*;
use crate::api::ApiError;
use crate::chat_streams::{events, plans};

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Told(Vec<String>);

impl Writer for Told {
    fn begin(&mut self, head: Head<'_>, _: &mut Vec<u8>) {
        self.0.push(format!("begin {}", head.id));
    }
    fn open(&mut self, kind: PartKind<'_>, _: &mut Vec<u8>) {
        self.0.push(format!("open {kind:?}"));
    }
    fn piece(&mut self, text: &str, _: &mut Vec<u8>) {
        self.0.push(format!("piece {text}"));
    }
    fn close(&mut self, _: &mut Vec<u8>) {
        self.0.push("close".to_owned());
    }
    fn finish(&mut self, reason: Reason, usage: Usage, _: &mut Vec<u8>) {
        let (prompt, completion) = (usage.prompt(), usage.completion());
        self.0
            .push(format!("finish {reason:?} {prompt} {completion}"));
    }
    fn fail(&mut self, error: &ApiError, _: &mut Vec<u8>) {
        self.0.push(format!("fail {} {error}", error.status));
    }
}

fn broke_off() -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "broke off")
}

fn told(pieces: &[&[u8]]) -> Vec<String> {
    let (mut stream, mut out) = (Stream::new(Told::default()), Vec::new());
    for piece in pieces {
        stream.feed(piece, &mut out);
    }
    stream.end(&broke_off(), &mut out);
    stream.writer().0.clone()
}

#[test]
fn a_stream_is_told_in_parts() {
    let delta = |delta: Value| json!({"id": "c1", "choices": [{"index": 0, "delta": delta}]});
    let mut stream = events(&[
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"reasoning_content": "hm"})),
        delta(json!({"content": "a\u{e9}"})),
        delta(
            json!({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": null}}]}),
        ),
        delta(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]})),
        json!({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"},
                                       {"index": 1, "delta": {"content": "other"}}]}),
        json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
    ]);
    stream.extend_from_slice(b"data: [DONE]\n\ndata: more\n\n");
    insta::assert_snapshot!(told(&[&stream]).join("\n"), @r#"
    begin c1
    open Thinking
    piece hm
    close
    open Text
    piece aé
    close
    open Tool { id: "x", name: "f" }
    piece {}
    close
    finish Calls 7 3
    "#);
}

#[test]
fn what_goes_wrong_ends_the_stream() {
    let text = json!({"choices": [{"delta": {"content": "a"}}]});
    let end = |last: &str| {
        let mut stream = events(std::slice::from_ref(&text));
        stream.extend_from_slice(last.as_bytes());
        told(&[&stream]).pop()
    };
    let said = |text: &str| Some(text.to_owned());
    assert_eq!(end(""), said("fail 502 broke off"));
    assert_eq!(end("data: {\"choi"), said("fail 502 broke off"));
    assert_eq!(
        end("data: {\"choices\": 3}\n\n"),
        said(
            "fail 502 The model's worker sent an event that cannot be read instead of a chat completion."
        )
    );
    assert_eq!(
        end("data: {\"error\": {\"message\": \"no\", \"code\": 503}}\n\ndata: [DONE]\n\n"),
        said("fail 503 no")
    );
    assert_eq!(
        end("data: {\"error\": {\"message\": \"no\", \"code\": \"x\"}}\n\n"),
        said("fail 502 no")
    );
    assert_eq!(end("data: [DONE]\n\n"), said("finish Stop 0 0"));
    let reason = r#"data: {"choices": [{"delta": null, "finish_reason": "length"}]}"#;
    assert_eq!(end(&format!("{reason}\n\n")), said("finish Length 0 0"));
}

#[test]
fn errors_of_workers_are_understood_in_every_form() {
    for (body, message) in [
        (json!({"error": {"message": "no", "type": "t"}}), "no"),
        (json!({"detail": {"error": {"message": "no"}}}), "no"),
        (json!({"message": "no"}), "no"),
        (
            json!({"detail": "Not Found"}),
            "The worker of model `m` answered 422 Unprocessable Entity: Not Found",
        ),
        (
            json!("text"),
            "The worker of model `m` answered 422 Unprocessable Entity: text",
        ),
        (
            json!({"detail": [{"loc": ["body"]}]}),
            r#"The worker of model `m` answered 422 Unprocessable Entity: {"detail":[{"loc":["body"]}]}"#,
        ),
    ] {
        let error = workers_error(StatusCode::UNPROCESSABLE_ENTITY, &body, "m");
        assert_eq!((error.status, &*error.message), (422, message));
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_parts_never_overlap(plan in plans(), at in any::<usize>()) {
        let whole = told(&[&plan.bytes]);
        prop_assert_eq!(&told(&plan.pieces()), &whole);
        let (mut open, mut text, mut thinking) = (None, String::new(), String::new());
        let mut calls: Vec<String> = Vec::new();
        for step in &whole {
            if let Some(kind) = step.strip_prefix("open ") {
                prop_assert!(open.is_none());
                open = Some(kind);
                if kind.starts_with("Tool") {
                    calls.push(String::new());
                }
            } else if let Some(piece) = step.strip_prefix("piece ") {
                prop_assert!(!piece.is_empty());
                match open {
                    Some("Text") => text.push_str(piece),
                    Some("Thinking") => thinking.push_str(piece),
                    Some(_) => calls.last_mut().unwrap().push_str(piece),
                    None => prop_assert!(false, "a piece of nothing"),
                }
            } else if step == "close" {
                prop_assert!(open.take().is_some());
            }
        }
        prop_assert_eq!(text, plan.text.clone());
        prop_assert_eq!(thinking, plan.thinking.clone());
        let expected: Vec<String> = plan.calls.iter().map(|(_, arguments)| arguments.clone()).collect();
        prop_assert_eq!(calls, expected);
        let reason = if plan.calls.is_empty() { "Stop" } else { "Calls" };
        prop_assert_eq!(whole.last().unwrap(), &format!("finish {reason} 11 5"));
        let cut = told(&plan.cut_off(at).pieces());
        let (last, before) = cut.split_last().unwrap();
        prop_assert!(last.starts_with("finish ") || last == "fail 502 broke off", "{}", last);
        // What came before it was cut off is told as ever.
        prop_assert!(whole.starts_with(before), "{:?}", cut);
    }
}
