//! Requests in the shapes that clients send, and answers in those that they accept.

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::chat::{self, Stream, Translate as _};
use super::*;
use crate::api::ApiError;
use crate::chat_streams::plans;

fn chat_of(body: &Value) -> Value {
    serde_json::from_slice(&to_chat(body, &[]).unwrap()).unwrap()
}

/// The second request of a session of codex, with what others send besides.
fn codex() -> Value {
    let text = |text: &str| json!([{"type": "input_text", "text": text}]);
    json!({
        "model": "qwen3-coder-30b",
        "stream": true,
        "input": [
            {"type": "message", "id": "msg_1", "role": "developer", "content": text("You are an agent.")},
            {"type": "message", "role": "developer", "content": [
                {"type": "input_text", "text": "Rules."}, {"type": "input_text", "text": "More."}]},
            {"type": "message", "role": "user", "content": text("<environment>")},
            {"role": "user", "content": [
                {"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
                {"type": "input_file", "filename": "plan.pdf", "file_data": "AAAA"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "short"}],
             "content": [{"type": "reasoning_text", "text": "I think."}], "encrypted_content": "x"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "status": "completed", "id": "fc_20", "name": "exec_command",
             "arguments": "{\"cmd\":\"ls\"}", "call_id": "call_20"},
            {"type": "function_call", "name": "exec_command", "arguments": "{}", "call_id": "call_21"},
            {"type": "function_call_output", "id": "fco_1", "call_id": "call_20", "output": "a.txt"},
            {"type": "function_call_output", "call_id": "call_21", "output": [
                {"type": "input_text", "text": "b.txt"}]},
            {"type": "web_search_call", "id": "ws_1"},
        ],
        "tools": [
            {"type": "function", "name": "exec_command", "description": "Runs", "strict": false,
             "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}}},
            {"type": "namespace", "name": "multi_agent_v1", "tools": [
                {"type": "function", "name": "close_agent", "parameters": {}}]},
            {"type": "web_search", "external_web_access": false},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": true,
        "reasoning": {"summary": "auto", "effort": "xhigh"},
        "store": false,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
        "client_metadata": {"session_id": "s"},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": false}},
        "max_output_tokens": 50,
    })
}

#[test]
fn a_turn_of_codex_is_a_chat_completion() {
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!(chat_of(&codex()));
    });
}

#[test]
fn results_of_parallel_calls_follow_them_at_once_and_their_images_come_behind() {
    let call = |id: &str| json!({"type": "function_call", "name": "see", "arguments": "{}", "call_id": id});
    let image = json!([{"type": "input_text", "text": "seen"}, {"type": "input_image", "image_url": "data:a"}]);
    let output = |id: &str, output: &Value| json!({"type": "function_call_output", "call_id": id, "output": output});
    let mut body = json!({"model": "m", "input": [
        call("1"), call("2"), output("1", &image), output("2", &json!("plain")),
    ]});
    let shown = |body: &Value| -> Vec<String> {
        let chat = chat_of(body);
        let said = |message: &Value| match message["tool_call_id"].as_str() {
            Some(call) => format!("tool {call}"),
            None => format!(
                "{}: {}",
                message["role"].as_str().unwrap(),
                message["content"]
            ),
        };
        chat["messages"].as_array().unwrap()[1..]
            .iter()
            .map(said)
            .collect()
    };
    let images = r#"user: [{"type":"image_url","image_url":{"url":"data:a"}}]"#;
    assert_eq!(shown(&body), ["tool 1", "tool 2", images]);
    let said = |role: &str| json!({"role": role, "content": "then"});
    for (next, expected) in [
        (said("user"), r#"user: "then""#),
        (said("assistant"), r#"assistant: "then""#),
        (call("3"), "assistant: null"),
    ] {
        let mut body = body.clone();
        body["input"].as_array_mut().unwrap().push(next);
        assert_eq!(shown(&body), ["tool 1", "tool 2", images, expected]);
    }
    // What goes elsewhere does not part them.
    let between = [
        json!({"role": "developer", "content": "Rules."}),
        json!({"type": "web_search_call"}),
    ];
    let input = body["input"].as_array_mut().unwrap();
    input.splice(3..3, between);
    let told = chat_of(&body);
    assert_eq!(told["messages"][3]["tool_call_id"], "2");
}

#[test]
fn a_wrong_field_is_named() {
    let mut said = Vec::new();
    for (field, value) in [
        ("input", Value::Null),
        ("input", json!(7)),
        ("input", json!([{"role": "tool", "content": "x"}])),
        ("input", json!([{"role": "user", "content": 5}])),
        ("input", json!([{"type": "function_call", "name": "x"}])),
        (
            "input",
            json!([{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]),
        ),
        ("conversation", json!("conv_1")),
        ("max_output_tokens", json!("many")),
        ("tools", json!([{"type": "function"}])),
        ("tool_choice", json!("maybe")),
        ("text", json!({"format": {"type": "xml"}})),
    ] {
        let mut body = codex();
        body[field] = value;
        let error = to_chat(&body, &[]).unwrap_err();
        assert_eq!(error.status, 400);
        said.push(error.message);
    }
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(said.join("\n"));
    });
}

#[test]
fn what_is_no_item_is_refused_where_items_are_kept_too() {
    for input in [json!([7]), json!(["look"]), json!([null]), json!([[]])] {
        let request = json!({"model": "m", "input": input});
        Conversation::of(&request, &Kept::default()).unwrap();
        let error = to_chat(&request, &[]).unwrap_err();
        assert_eq!(error.status, 400, "{request}");
    }
}

fn echoed(request: &Value) -> Echoed {
    let conversation = Conversation::of(request, &Kept::default()).unwrap();
    Echoed::of(request, conversation)
}

fn events_of(pieces: &[&[u8]]) -> String {
    let request = json!({"model": "m", "temperature": 0.5, "store": false});
    let writer = Events::new("qwen".to_owned(), echoed(&request), 7);
    let (mut stream, mut out) = (Stream::new(writer), Vec::new());
    for piece in pieces {
        stream.feed(piece, &mut out);
    }
    stream.end(
        &ApiError::new(StatusCode::BAD_GATEWAY, "broke off"),
        &mut out,
    );
    String::from_utf8(out).unwrap()
}

/// Ids are made up: each is put down by its number.
fn without_ids(text: &str) -> String {
    let mut ids: Vec<&str> = Vec::new();
    let mut known = text.to_owned();
    for word in text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_') {
        let Some((_, id)) = word.split_once('_') else {
            continue;
        };
        if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && !ids.contains(&id) {
            ids.push(id);
            known = known.replace(id, &ids.len().to_string());
        }
    }
    known
}

fn stream() -> Vec<u8> {
    let chunk = |delta: Value| {
        let chunk = json!({"id": "chatcmpl-9", "choices": [{"index": 0, "delta": delta}]});
        format!("data: {chunk}\n\n")
    };
    let stream = [
        chunk(json!({"role": "assistant"})),
        chunk(json!({"reasoning_content": "hm"})),
        chunk(json!({"content": "Sure"})),
        chunk(json!({"tool_calls": [{"index": 0, "id": "call_7", "function": {"name": "f", "arguments": "{}"}}]})),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}],\"usage\":{\"prompt_tokens\":9,\
         \"completion_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":6}}}\n\ndata: [DONE]\n\n"
            .to_owned(),
    ];
    stream.concat().into_bytes()
}

#[test]
fn a_stream_has_the_documented_events() {
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(without_ids(&events_of(&[&stream()])));
    });
}

#[test]
fn a_whole_answer_is_what_its_stream_would_complete_with() {
    let answer = json!({
        "id": "chatcmpl_42",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {
            "role": "assistant", "content": "Sure", "reasoning_content": "hm",
            "tool_calls": [{"id": "call_7", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        }}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
    });
    let answer = chat::of_worker(answer.to_string().as_bytes()).unwrap();
    let request = json!({"model": "m", "temperature": 0.5, "store": false});
    let whole = response(&answer, "qwen", echoed(&request), 7);
    let events = events_of(&[&stream()]);
    let last = events.trim_end().rsplit("data: ").next().unwrap();
    let last: Value = serde_json::from_str(last).unwrap();
    let ordered = |value: &Value| {
        let ids = without_ids(&value.to_string());
        // Which id is named first differs.
        ids.replace("_1\"", "_\"")
            .replace("_2\"", "_\"")
            .replace("_3\"", "_\"")
            .replace("_4\"", "_\"")
    };
    assert_eq!(ordered(&last["response"]), ordered(&whole));

    let cut = json!({"choices": [{"message": {"content": "a"}, "finish_reason": "length"}]});
    let cut = chat::of_worker(cut.to_string().as_bytes()).unwrap();
    let cut = response(&cut, "m", echoed(&json!({})), 7);
    assert_eq!(cut["status"], "incomplete");
    assert_eq!(cut["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(cut["output"][0]["status"], "incomplete");
}

/// The data of each event of that type.
fn data_of(events: &str, kind: &str) -> Vec<Value> {
    let events = events.split_terminator("\n\n");
    let data = events.map(|event| event.split_once("\ndata: ").unwrap().1);
    let data = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    data.filter(|data| data["type"] == kind).collect()
}

#[test]
fn an_item_that_is_cut_short_says_so_and_those_before_it_are_complete() {
    let stream = [
        r#"data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}"#,
        r#"data: {"choices":[{"delta":{"content":"So it"}}]}"#,
        r#"data: {"choices":[{"delta":{},"finish_reason":"length"}]}"#,
        "data: [DONE]",
        "",
    ];
    let events = events_of(&[stream.join("\n\n").as_bytes()]);
    let done = data_of(&events, "response.output_item.done");
    let statuses: Vec<&Value> = done.iter().map(|data| &data["item"]["status"]).collect();
    assert_eq!(statuses, ["completed", "incomplete"]);
    let last = data_of(&events, "response.incomplete").remove(0);
    assert_eq!(last["response"]["output"][1], done[1]["item"]);
}

#[test]
fn a_refusal_is_no_text() {
    let stream = [
        r#"data: {"choices":[{"delta":{"refusal":"I can"}}]}"#,
        r#"data: {"choices":[{"delta":{"refusal":"not."}}]}"#,
        r#"data: {"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
        "data: [DONE]",
        "",
    ];
    let events = events_of(&[stream.join("\n\n").as_bytes()]);
    let deltas = data_of(&events, "response.refusal.delta");
    let deltas: Vec<&Value> = deltas.iter().map(|data| &data["delta"]).collect();
    assert_eq!(deltas, ["I can", "not."]);
    let done = data_of(&events, "response.refusal.done");
    assert_eq!(done[0]["refusal"], "I cannot.");
    let part = json!({"type": "refusal", "refusal": "I cannot."});
    assert_eq!(
        data_of(&events, "response.content_part.done")[0]["part"],
        part
    );
    let completed = data_of(&events, "response.completed").remove(0);
    assert_eq!(completed["response"]["output"][0]["content"], json!([part]));
    assert!(!events.contains("output_text"));

    let answer =
        json!({"choices": [{"finish_reason": "stop", "message": {"refusal": "I cannot."}}]});
    let answer = chat::of_worker(answer.to_string().as_bytes()).unwrap();
    let whole = response(&answer, "m", echoed(&json!({"store": false})), 7);
    assert_eq!(whole["output"][0]["content"], json!([part]));
}

#[test]
fn a_choice_of_a_tool_that_is_left_out_is_the_models() {
    for (choice, chosen) in [
        (
            json!({"type": "function", "name": "close_agent"}),
            json!("auto"),
        ),
        (json!({"type": "web_search"}), json!("auto")),
        (
            json!({"type": "function", "name": "exec_command"}),
            json!({"type": "function", "function": {"name": "exec_command"}}),
        ),
    ] {
        let mut body = codex();
        body["tool_choice"] = choice;
        assert_eq!(chat_of(&body)["tool_choice"], chosen);
    }
}

#[test]
fn a_conversation_goes_on_from_a_kept_response() {
    let kept = Kept::default();
    let answer = json!({"choices": [{"finish_reason": "tool_calls", "message": {
        "content": "I look.", "reasoning_content": "hm",
        "tool_calls": [{"id": "call_1", "function": {"name": "ls", "arguments": "{}"}}],
    }}]});
    let answer = chat::of_worker(answer.to_string().as_bytes()).unwrap();
    let first = json!({"model": "m", "instructions": "Not for later turns.", "input": [
        {"role": "developer", "content": "Rules."}, {"role": "user", "content": "look"}]});
    let conversation = Conversation::of(&first, &kept).unwrap();
    let said = response(&answer, "m", Echoed::of(&first, conversation), 7);
    assert_eq!(said["store"], true);
    let id = said["id"].as_str().unwrap();
    let second = json!({"model": "m", "previous_response_id": id, "input": [
        {"type": "function_call_output", "call_id": "call_1", "output": "a.txt"}]});
    let conversation = Conversation::of(&second, &kept).unwrap();
    let chat = to_chat(&second, &conversation.items_before()).unwrap();
    let chat: Value = serde_json::from_slice(&chat).unwrap();
    assert_eq!(
        chat["messages"],
        json!([
            {"role": "system", "content": "Rules."},
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "ls", "arguments": "{}"}}]},
            {"role": "tool", "content": "a.txt", "tool_call_id": "call_1"},
        ])
    );
    let echoed = Echoed::of(&second, conversation);
    assert_eq!(
        response(&answer, "m", echoed, 8)["previous_response_id"],
        id
    );
}

/// Keeps the answer of a turn; gives the response.
fn kept_turn(kept: &Kept, request: &Value) -> Value {
    let answer = json!({"choices": [{"finish_reason": "stop", "message": {"content": "I look."}}]});
    let answer = chat::of_worker(answer.to_string().as_bytes()).unwrap();
    let conversation = Conversation::of(request, kept).unwrap();
    response(&answer, "m", Echoed::of(request, conversation), 7)
}

#[test]
fn an_item_that_is_kept_may_be_sent_by_its_id() {
    let kept = Kept::default();
    let asked = json!({"id": "msg_of_the_client", "role": "user", "content": "look"});
    let said = kept_turn(&kept, &json!({"model": "m", "input": [asked]}));
    let id = &said["output"][0]["id"];
    for reference in [
        json!({"type": "item_reference", "id": id}),
        json!({"id": id}),
    ] {
        let request = json!({"model": "m", "input": [
            {"type": "item_reference", "id": "msg_of_the_client"}, reference,
            {"role": "user", "content": "and now?"}]});
        let request = resolved(&request, &kept).unwrap();
        assert_eq!(
            chat_of(&request)["messages"],
            json!([
                {"role": "user", "content": "look"},
                {"role": "assistant", "content": "I look."},
                {"role": "user", "content": "and now?"},
            ])
        );
    }
    // A conversation that goes on has it already.
    let request = json!({"model": "m", "previous_response_id": said["id"], "input": [
        {"type": "item_reference", "id": id}, {"role": "user", "content": "and now?"}]});
    let request = resolved(&request, &kept).unwrap();
    assert_eq!(request["input"].as_array().unwrap().len(), 1);
}

#[test]
fn an_item_that_is_not_kept_is_named() {
    let kept = Kept::default();
    let reference = |id: Value| json!({"input": [{"type": "item_reference", "id": id}]});
    let error = resolved(&reference(json!("msg_7")), &kept).unwrap_err();
    assert_eq!((error.status, error.param.as_deref()), (404, Some("input")));
    insta::assert_snapshot!(error.message, @"Item with id 'msg_7' not found. This hub keeps responses in memory for 24 hours, no more than 4096 of them and 64 MiB, and none with `store: false`; it forgets them when it ends. Send the item itself.");
    let error = resolved(&reference(Value::Null), &kept).unwrap_err();
    assert_eq!(
        (error.status, &*error.message),
        (400, "`input[0].id` is missing.")
    );
    // A message or a text is none.
    for input in [
        json!("text"),
        json!([{"role": "user", "content": "x", "id": "msg_1"}]),
    ] {
        let request = json!({ "input": input });
        assert_eq!(*resolved(&request, &kept).unwrap(), request);
    }
}

proptest! {
    #[test]
    fn a_client_reads_of_any_stream_what_the_worker_said(plan in plans(), at in any::<usize>()) {
        let events = events_of(&plan.pieces());
        let (mut text, mut thinking, mut arguments) = (String::new(), String::new(), Vec::new());
        let mut completed = Value::Null;
        let mut open = None;
        for (number, event) in events.split_terminator("\n\n").enumerate() {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            prop_assert_eq!(&data["type"], name.strip_prefix("event: ").unwrap());
            prop_assert_eq!(&data["sequence_number"], number);
            let delta = data["delta"].as_str().unwrap_or_default();
            match data["type"].as_str().unwrap() {
                "response.output_item.added" => {
                    prop_assert!(open.is_none());
                    open = data["item"]["id"].as_str().map(str::to_owned);
                    if data["item"]["type"] == "function_call" {
                        arguments.push(String::new());
                    }
                }
                "response.output_item.done" => {
                    let closed = open.take();
                    prop_assert_eq!(closed.as_deref(), data["item"]["id"].as_str());
                }
                "response.output_text.delta" => text += delta,
                "response.reasoning_text.delta" => thinking += delta,
                "response.function_call_arguments.delta" => *arguments.last_mut().unwrap() += delta,
                "response.completed" => completed = data["response"].clone(),
                _ => {}
            }
            if let Some(id) = data["item_id"].as_str() {
                prop_assert_eq!(open.as_deref(), Some(id));
            }
        }
        prop_assert_eq!(&text, &plan.text);
        prop_assert_eq!(&thinking, &plan.thinking);
        let calls: Vec<String> = plan.calls.iter().map(|(_, arguments)| arguments.clone()).collect();
        prop_assert_eq!(&arguments, &calls);
        prop_assert_eq!(&completed["usage"]["total_tokens"], 16);
        let (mut text, mut thinking, mut called) = (String::new(), String::new(), Vec::new());
        for item in completed["output"].as_array().unwrap() {
            let said = item["content"][0]["text"].as_str().unwrap_or_default();
            match item["type"].as_str().unwrap() {
                "message" => text += said,
                "reasoning" => thinking += said,
                _ => {
                    let [name, arguments] = ["name", "arguments"].map(|key| item[key].as_str().unwrap().to_owned());
                    called.push((name, arguments));
                }
            }
        }
        prop_assert_eq!(&text, &plan.text);
        prop_assert_eq!(&thinking, &plan.thinking);
        prop_assert_eq!(&called, &plan.calls);

        let cut = events_of(&plan.cut_off(at).pieces());
        prop_assert!(cut.starts_with("event: response.created\n"), "{}", cut);
        let last = cut.trim_end().rsplit("\n\n").next().unwrap();
        let ends = ["event: response.completed", "event: response.failed"];
        prop_assert!(ends.iter().any(|end| last.starts_with(end)), "{}", last);
    }
}
