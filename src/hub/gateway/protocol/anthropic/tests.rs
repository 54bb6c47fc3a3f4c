//! Requests in the shapes that clients send, and answers in those that they accept.

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::chat::{self, Stream, Translate as _};
use super::*;
use crate::api::ApiError;
use crate::chat_streams::plans;

fn chat_of(body: &Value) -> Value {
    serde_json::from_slice(&to_chat(body).unwrap()).unwrap()
}

/// A turn of Claude Code, with `later` at the end of it; every session has another billing line.
fn claude_code(session: &str, later: &[Value]) -> Value {
    let mut messages = vec![
        json!({"role": "user", "content": [
            {"type": "text", "text": "<reminder>"},
            {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
        ]}),
        json!({"role": "system", "content": "skills"}),
    ];
    messages.extend_from_slice(later);
    json!({
        "model": "qwen3-coder-30b",
        "messages": messages,
        "system": [
            {"type": "text", "text": format!("x-anthropic-billing-header: cc_version=2.1.197.{session};")},
            {"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Rules.", "cache_control": {"type": "ephemeral"}},
        ],
        "tools": [{
            "name": "Bash",
            "description": "Runs a command",
            "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
                             "properties": {"timeout": {"type": "number", "exclusiveMinimum": 0},
                                            "command": {"anyOf": [{"const": "ls"}, {"type": "string"}]}},
                             "required": ["command"], "additionalProperties": false},
        }],
        "metadata": {"user_id": "user_1"},
        "max_tokens": 32000,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "high"},
        "stream": true,
    })
}

fn turn_with_tool() -> Vec<Value> {
    vec![
        json!({"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Let me look.", "signature": ""},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls", "b": 1.0}},
        ]}),
        json!({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "gone", "is_error": true,
             "cache_control": {"type": "ephemeral"}},
        ]}),
    ]
}

#[test]
fn a_turn_of_claude_code_is_a_chat_completion() {
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!(chat_of(&claude_code("a1", &turn_with_tool())));
    });
}

#[test]
fn the_prompt_is_the_same_from_turn_to_turn_and_from_session_to_session() {
    let first = to_chat(&claude_code("a1", &[])).unwrap();
    let second = to_chat(&claude_code("b2", &turn_with_tool())).unwrap();
    let prompt = |body: &[u8]| {
        let text = std::str::from_utf8(body).unwrap().to_owned();
        let end = text.find(r#"],"tools""#).unwrap();
        (text[..end].to_owned(), text[end..].to_owned())
    };
    let ((messages, rest), (more_messages, same_rest)) = (prompt(&first), prompt(&second));
    assert!(
        more_messages.starts_with(&messages),
        "{messages}\n{more_messages}"
    );
    assert!(more_messages.len() > messages.len());
    assert_eq!(rest, same_rest);
    assert!(!messages.contains("billing"));
    assert!(messages.starts_with(
        r#"{"model":"qwen3-coder-30b","messages":[{"role":"system","content":"You are an agent.\n\nRules.\n\nskills"}"#
    ));
}

#[test]
fn every_kind_of_block_is_passed_on_or_named() {
    let body = json!({
        "model": "m", "max_tokens": 5, "temperature": 0.7, "top_p": 1, "top_k": 20,
        "system": "x-anthropic-billing-header: cc_version=1\nBe brief.",
        "stop_sequences": ["a", "b", "c", "d", "e"],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "tools": [
            {"type": "custom", "name": "f", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        ],
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "thinking": {"type": "disabled"},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "http://x/y.png"}},
                {"type": "document", "title": "plan.pdf",
                 "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}},
                {"type": "some_day", "what": 1},
            ]},
            {"role": "assistant", "content": [
                {"type": "redacted_thinking", "data": "x"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {}},
                {"type": "tool_use", "id": "t2", "name": "f", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "text", "text": "and"},
                {"type": "tool_result", "tool_use_id": "t1", "content": [
                    {"type": "text", "text": "one"}, {"type": "text", "text": "two"},
                    {"type": "image", "source": {"type": "url", "url": "http://x/z.png"}},
                ]},
                {"type": "tool_result", "tool_use_id": "t2"},
            ]},
            {"role": "assistant", "content": "{"},
        ],
    });
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!(chat_of(&body));
    });
}

#[test]
fn tools_are_chosen_as_the_client_says() {
    for (choice, chosen) in [
        (Value::Null, json!("auto")),
        (json!({"type": "auto"}), json!("auto")),
        (json!({"type": "any"}), json!("required")),
        (json!({"type": "none"}), json!("none")),
    ] {
        let mut body = claude_code("", &[]);
        body["tool_choice"] = choice;
        assert_eq!(chat_of(&body)["tool_choice"], chosen);
        body["tools"] = json!([]);
        let chat = chat_of(&body);
        assert!(chat.get("tool_choice").is_none() && chat.get("tools").is_none());
    }
}

#[test]
fn a_choice_of_a_tool_that_is_left_out_is_the_models() {
    let mut body = claude_code("", &[]);
    let search = json!({"type": "web_search_20250305", "name": "web_search"});
    body["tools"].as_array_mut().unwrap().push(search);
    for (name, chosen) in [
        ("web_search", json!("auto")),
        (
            "Bash",
            json!({"type": "function", "function": {"name": "Bash"}}),
        ),
    ] {
        body["tool_choice"] = json!({"type": "tool", "name": name});
        assert_eq!(chat_of(&body)["tool_choice"], chosen);
    }
}

#[test]
fn tools_that_the_client_runs_are_told_with_what_they_take() {
    for (kind, name, takes, not) in [
        ("bash_20250124", "bash", "restart", "path"),
        (
            "text_editor_20250728",
            "str_replace_based_edit_tool",
            "insert_text",
            "old_path",
        ),
        (
            "text_editor_20250124",
            "str_replace_editor",
            "insert_line",
            "insert_text",
        ),
        ("memory_20250818", "memory", "new_path", "restart"),
    ] {
        let mut body = claude_code("", &[]);
        body["tools"] =
            json!([{"type": kind, "name": name, "cache_control": {"type": "ephemeral"}}]);
        let chat = chat_of(&body);
        let function = &chat["tools"][0]["function"];
        assert_eq!(function["name"], name);
        assert!(function["description"].is_string(), "{function}");
        let fields = &function["parameters"]["properties"];
        assert!(fields["command"].is_object(), "{fields}");
        assert!(
            fields[takes].is_object() && fields[not].is_null(),
            "{fields}"
        );
        for required in function["parameters"]["required"].as_array().unwrap() {
            assert!(fields[required.as_str().unwrap()].is_object(), "{function}");
        }
    }
    let mut body = claude_code("", &[]);
    body["tools"] =
        json!([{"type": "computer_20250124", "name": "computer", "display_width_px": 9}]);
    let error = to_chat(&body).unwrap_err();
    assert_eq!(
        (error.status, error.param.as_deref()),
        (400, Some("tools[0]"))
    );
    assert!(error.message.contains("`input_schema`"), "{error}");
}

#[test]
fn a_wrong_field_is_named() {
    let mut said = Vec::new();
    for (field, value) in [
        ("messages", Value::Null),
        ("messages", json!("hi")),
        ("messages", json!([{"role": "user"}])),
        ("messages", json!([{"role": "tool", "content": "x"}])),
        ("messages", json!([{"role": "user", "content": 5}])),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "text"}]}]),
        ),
        (
            "messages",
            json!([{"role": "user", "content": [{"type": "image", "source": {"type": "file"}}]}]),
        ),
        (
            "messages",
            json!([{"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "b", "input": "c"}]}]),
        ),
        ("system", json!(7)),
        ("system", json!([{"type": "image"}])),
        ("max_tokens", json!(0)),
        ("temperature", json!("warm")),
        ("stop_sequences", json!("a")),
        ("tools", json!([{"name": "f"}])),
        ("tool_choice", json!({"type": "maybe"})),
        ("output_config", json!({"format": {"type": "xml"}})),
        ("stream", json!("yes")),
    ] {
        let mut body = claude_code("", &[]);
        body[field] = value;
        let error = to_chat(&body).unwrap_err();
        assert_eq!(error.status, 400);
        said.push(error.message);
    }
    said.push(to_chat(&json!([])).unwrap_err().message);
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(said.join("\n"));
    });
}

fn broke_off() -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "The worker failed.")
}

fn events_of(pieces: &[&[u8]]) -> String {
    let (mut stream, mut out) = (Stream::new(Events::new("claude-x".to_owned())), Vec::new());
    for piece in pieces {
        stream.feed(piece, &mut out);
    }
    stream.end(&broke_off(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_stream_has_the_documented_events() {
    let chunk = |delta: Value| {
        let chunk = json!({"id": "chatcmpl-9", "choices": [{"index": 0, "delta": delta}]});
        format!("data: {chunk}\n\n")
    };
    let stream = [
        chunk(json!({"role": "assistant"})),
        chunk(json!({"reasoning_content": "hm"})),
        chunk(json!({"content": "Sure \"é\""})),
        chunk(json!({"tool_calls": [{"index": 0, "id": "call_7", "function": {"name": "Bash", "arguments": ""}}]})),
        chunk(json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"a\":1}"}}]})),
        "data: {\"id\":\"chatcmpl-9\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n"
            .to_owned(),
        "data: {\"id\":\"chatcmpl-9\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4,\
         \"prompt_tokens_details\":{\"cached_tokens\":6}}}\n\ndata: [DONE]\n\n"
            .to_owned(),
    ];
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(events_of(&[stream.concat().as_bytes()]));
    });
}

#[test]
fn a_whole_answer_is_a_message() {
    let answer = json!({
        "id": "chatcmpl_42", "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": "Sure", "reasoning_content": "hm",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":[1]}"}},
                {"type": "function", "function": {"name": "g", "arguments": ""}},
                {"id": "call_3", "type": "function", "function": {"name": "h", "arguments": "{\"a\":"}},
            ],
        }}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
    });
    let answer = chat::of_worker(answer.to_string().as_bytes()).unwrap();
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!(message(&answer, "claude-x"));
    });
}

#[test]
fn an_answer_without_anything_is_a_message_too() {
    let answer = json!({"choices": [{"message": {"content": null}, "finish_reason": "length"}]});
    let answer = chat::of_worker(answer.to_string().as_bytes()).unwrap();
    let message = message(&answer, "m");
    assert_eq!(message["content"], json!([]));
    assert_eq!(message["stop_reason"], "max_tokens");
    for body in ["", "[]", "{}", r#"{"choices": []}"#] {
        assert_eq!(
            chat::of_worker(body.as_bytes()).unwrap_err().status,
            502,
            "{body}"
        );
    }
}

/// Reads events as the SDKs do, which know a block by its number and take nothing out of order.
#[derive(Debug, Default)]
struct Sdk {
    message: Value,
    is_open: bool,
    json: String,
    stopped: bool,
    error: Option<Value>,
}

impl Sdk {
    fn read(events: &str) -> Self {
        let mut sdk = Self::default();
        for event in events.split_terminator("\n\n") {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(data["type"], name.strip_prefix("event: ").unwrap());
            assert!(!sdk.stopped && sdk.error.is_none(), "after the end: {data}");
            sdk.take(&data);
        }
        sdk
    }

    fn block(&mut self, data: &Value) -> &mut Value {
        let blocks = self.message["content"].as_array_mut().unwrap();
        let index = usize::try_from(data["index"].as_u64().unwrap()).unwrap();
        assert_eq!(index + 1, blocks.len());
        blocks.last_mut().unwrap()
    }

    fn take(&mut self, data: &Value) {
        match data["type"].as_str().unwrap() {
            "message_start" => {
                assert!(self.message.is_null());
                self.message = data["message"].clone();
            }
            "content_block_start" => {
                assert!(!std::mem::replace(&mut self.is_open, true));
                let blocks = self.message["content"].as_array_mut().unwrap();
                blocks.push(data["content_block"].clone());
                self.block(data);
                self.json.clear();
            }
            "content_block_delta" => {
                assert!(self.is_open);
                let delta = &data["delta"];
                let grow = |text: &mut Value, more: &Value| {
                    *text = format!("{}{}", text.as_str().unwrap(), more.as_str().unwrap()).into();
                };
                match delta["type"].as_str().unwrap() {
                    "text_delta" => grow(&mut self.block(data)["text"], &delta["text"]),
                    "thinking_delta" => grow(&mut self.block(data)["thinking"], &delta["thinking"]),
                    "signature_delta" => {
                        grow(&mut self.block(data)["signature"], &delta["signature"])
                    }
                    "input_json_delta" => self.json += delta["partial_json"].as_str().unwrap(),
                    other => panic!("{other}"),
                }
            }
            "content_block_stop" => {
                assert!(std::mem::replace(&mut self.is_open, false));
                let json = std::mem::take(&mut self.json);
                if !json.is_empty() {
                    self.block(data)["input"] = serde_json::from_str(&json).unwrap();
                }
            }
            "message_delta" => {
                assert!(!self.is_open);
                self.message["stop_reason"] = data["delta"]["stop_reason"].clone();
                self.message["usage"] = data["usage"].clone();
            }
            "message_stop" => {
                assert!(self.message["stop_reason"].is_string());
                self.stopped = true;
            }
            "error" => self.error = Some(data["error"].clone()),
            other => panic!("{other}"),
        }
    }

    fn texts(&self, kind: &str) -> String {
        let blocks = self.message["content"].as_array().unwrap().iter();
        blocks
            .filter(|block| block["type"] == kind)
            .map(|block| block[kind].as_str().unwrap())
            .collect()
    }
}

proptest! {
    #[test]
    fn an_sdk_reads_of_any_stream_what_the_worker_said(plan in plans(), at in any::<usize>()) {
        let sdk = Sdk::read(&events_of(&plan.pieces()));
        prop_assert!(sdk.stopped);
        prop_assert_eq!(sdk.texts("text"), plan.text.clone());
        prop_assert_eq!(sdk.texts("thinking"), plan.thinking.clone());
        let blocks = sdk.message["content"].as_array().unwrap().iter();
        let calls: Vec<_> = blocks.filter(|block| block["type"] == "tool_use").collect();
        prop_assert_eq!(calls.len(), plan.calls.len());
        for (call, (name, arguments)) in calls.iter().zip(&plan.calls) {
            prop_assert_eq!(&call["name"], name);
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            prop_assert_eq!(&call["input"], &arguments);
        }
        prop_assert_eq!(&sdk.message["usage"], &json!({
            "input_tokens": 7, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4, "output_tokens": 5,
        }));

        // One that is cut off ends with an error, unless all that was missing was its mark.
        let cut = Sdk::read(&events_of(&plan.cut_off(at).pieces()));
        prop_assert!(cut.stopped != cut.error.is_some());
    }
}
