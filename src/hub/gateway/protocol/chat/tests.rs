//! Properties of every stream of chunks: how it is cut does not matter, nothing is lost, the parts come
//! one after the other.

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::answer::Reason;
use super::chunk::Usage;
use super::*;
use crate::api::ApiError;

/// Writes down what it is told.
#[derive(Debug, Default)]
pub(in super::super) struct Told(pub(in super::super) Vec<String>);

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

fn events(values: &[Value]) -> Vec<u8> {
    let events = values.iter().map(|value| format!("data: {value}\n\n"));
    events.collect::<String>().into_bytes()
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

/// A delta of a stream, as a plan.
#[derive(Debug, Clone)]
pub(in super::super) enum Planned {
    Text(String),
    Thinking(String),
    Empty,
    /// Goes on with the arguments of that call, or begins it.
    Call(usize),
}

/// A stream and what it says.
#[derive(Debug, Clone)]
pub(in super::super) struct Plan {
    pub(in super::super) bytes: Vec<u8>,
    pub(in super::super) text: String,
    pub(in super::super) thinking: String,
    /// Name and arguments of each call.
    pub(in super::super) calls: Vec<(String, String)>,
    /// Places at which it is cut on its way.
    cuts: Vec<usize>,
}

impl Plan {
    /// The bytes in pieces.
    pub(in super::super) fn pieces(&self) -> Vec<&[u8]> {
        let mut cuts: Vec<_> = self
            .cuts
            .iter()
            .map(|cut| cut % (self.bytes.len() + 1))
            .collect();
        cuts.sort_unstable();
        let (mut pieces, mut from) = (Vec::new(), 0);
        for cut in cuts {
            pieces.push(&self.bytes[from..cut]);
            from = cut;
        }
        pieces.push(&self.bytes[from..]);
        pieces
    }

    /// The same, of which no more than so many bytes arrive.
    pub(in super::super) fn cut_off(&self, at: usize) -> Self {
        let mut plan = self.clone();
        plan.bytes.truncate(at % (self.bytes.len() + 1));
        plan
    }

    fn of(planned: &[Planned], arguments: &[String], usage_early: bool, cuts: Vec<usize>) -> Self {
        let mut plan = Self {
            bytes: Vec::new(),
            text: String::new(),
            thinking: String::new(),
            calls: Vec::new(),
            cuts,
        };
        let usage = json!({"prompt_tokens": 11, "completion_tokens": 5,
                           "prompt_tokens_details": {"cached_tokens": 4}});
        let mut values = vec![json!({"role": "assistant"})];
        let mut left: Vec<Vec<&str>> = arguments.iter().map(|text| in_pieces(text)).collect();
        // The calls that have begun, by the number of their plan.
        let mut begun: Vec<usize> = Vec::new();
        let mut call = |plan: &mut Self, at: usize| {
            let is_first = !begun.contains(&at);
            if is_first {
                begun.push(at);
                plan.calls
                    .push((format!("tool_{at}"), arguments[at].clone()));
            }
            let index = begun.iter().position(|begun| *begun == at);
            let piece = if left[at].is_empty() {
                ""
            } else {
                left[at].remove(0)
            };
            let delta = if is_first {
                json!({"index": index, "id": format!("id_{at}"), "type": "function",
                       "function": {"name": format!("tool_{at}"), "arguments": piece}})
            } else {
                json!({"index": index, "function": {"arguments": piece}})
            };
            (json!({"tool_calls": [delta]}), left[at].is_empty())
        };
        for planned in planned {
            values.push(match planned {
                Planned::Text(text) => {
                    plan.text.push_str(text);
                    json!({"content": text})
                }
                Planned::Thinking(text) => {
                    plan.thinking.push_str(text);
                    json!({"reasoning_content": text})
                }
                Planned::Empty => json!({"content": "", "reasoning_content": null}),
                Planned::Call(at) => call(&mut plan, at % arguments.len()).0,
            });
        }
        for at in 0..arguments.len() {
            if plan
                .calls
                .iter()
                .any(|(name, _)| *name == format!("tool_{at}"))
            {
                loop {
                    let (value, is_last) = call(&mut plan, at);
                    values.push(value);
                    if is_last {
                        break;
                    }
                }
            }
        }
        let chunk = |delta: &Value| {
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk",
                                           "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
        };
        let mut chunks: Vec<Value> = values.iter().map(chunk).collect();
        let reason = if plan.calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        let mut last = json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
        if usage_early {
            last["usage"] = usage;
            chunks.push(last);
        } else {
            chunks.push(last);
            chunks.push(json!({"id": "chatcmpl-1", "choices": [], "usage": usage}));
        }
        plan.bytes = events(&chunks);
        plan.bytes.extend_from_slice(b"data: [DONE]\n\n");
        plan
    }
}

fn in_pieces(text: &str) -> Vec<&str> {
    let at = text.char_indices().nth(text.chars().count() / 2);
    let (one, two) = text.split_at(at.map_or(0, |(at, _)| at));
    [one, two]
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// Streams of every kind.
pub(in super::super) fn plans() -> impl Strategy<Value = Plan> {
    let planned = prop_oneof![
        "\\PC{0,6}".prop_map(Planned::Text),
        "\\PC{0,6}".prop_map(Planned::Thinking),
        Just(Planned::Empty),
        (0_usize..3).prop_map(Planned::Call),
    ];
    let arguments = "\\PC{0,8}".prop_map(|text| json!({"a": [text], "b": {}}).to_string());
    (
        prop::collection::vec(planned, 0..12),
        prop::collection::vec(arguments, 1..4),
        any::<bool>(),
        prop::collection::vec(any::<usize>(), 0..10),
    )
        .prop_map(|(planned, arguments, early, cuts)| Plan::of(&planned, &arguments, early, cuts))
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
        let last = cut.last().unwrap();
        prop_assert!(last.starts_with("finish ") || last == "fail 502 broke off", "{}", last);
    }
}
