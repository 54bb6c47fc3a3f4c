//! Requests in the shapes that clients send, and answers in those that they accept.

use std::time::Duration;

use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::chat::{self as one_form, Stream, Translate as _};
use super::*;
use crate::api::ModelFacts;
use crate::chat_streams::plans;
use crate::hub::gateway::catalogue::{CatalogueEntry, Status};

/// The chat completion alone.
fn chat(body: &Value) -> Result<Vec<u8>, ApiError> {
    super::chat(body).map(|(chat, _)| chat)
}

fn generate(body: &Value) -> Result<Vec<u8>, ApiError> {
    super::generate(body).map(|(chat, _)| chat)
}

fn read(bytes: Result<Vec<u8>, ApiError>) -> Value {
    serde_json::from_slice(&bytes.unwrap()).unwrap()
}

#[test]
fn a_chat_is_a_chat_completion() {
    let body = json!({
        "model": "qwen3-4b:latest",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "look", "images": ["/9j/AAAA"]},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
                {"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g"}}]},
            {"role": "tool", "tool_name": "g", "content": "of g"},
            {"role": "tool", "content": "of f"},
            {"role": "assistant", "content": "done"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        "format": {"type": "object"},
        "options": {"temperature": 0.5, "num_predict": 9, "num_ctx": 4096, "stop": ["a"], "repeat_penalty": 1.1,
                    "seed": 3},
        "think": "high",
        "keep_alive": "5m",
    });
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_json_snapshot!(read(chat(&body)));
    });
}

#[test]
fn what_clients_leave_out_has_its_meaning() {
    let chat = read(chat(
        &json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": []}),
    ));
    assert_eq!(chat["stream"], true);
    assert!(chat.get("tools").is_none() && chat.get("max_tokens").is_none());
    let chat = read(generate(
        &json!({"name": "m", "prompt": "hi", "system": "s", "stream": false, "think": false,
                                     "format": "json", "options": {"num_predict": -1, "stop": "x"}}),
    ));
    assert_eq!(
        chat["messages"],
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}])
    );
    assert_eq!(
        (&chat["stream"], &chat["stop"]),
        (&json!(false), &json!(["x"]))
    );
    assert_eq!(chat["response_format"], json!({"type": "json_object"}));
    assert_eq!(
        chat["chat_template_kwargs"],
        json!({"enable_thinking": false})
    );
    assert!(chat.get("max_tokens").is_none());
    let embed = read(embed(
        &json!({"model": "m:latest", "input": ["a", "b"], "truncate": true}),
        "input",
    ));
    assert_eq!(embed, json!({"model": "m", "input": ["a", "b"]}));
}

#[test]
fn a_request_that_says_nothing_is_about_its_models_place_in_memory() {
    let only = |stream| Purpose::Only { stream };
    let said = json!([{"role": "user", "content": ""}]);
    for (asked, what) in [
        (super::chat(&json!({"model": "m"})), only(true)),
        (
            super::chat(&json!({"model": "m", "messages": [], "stream": false})),
            only(false),
        ),
        (
            super::chat(&json!({"model": "m", "messages": said})),
            Purpose::Answer,
        ),
        (super::generate(&json!({"model": "m"})), only(true)),
        (
            super::generate(&json!({"model": "m", "prompt": "", "stream": false})),
            only(false),
        ),
        (
            super::generate(&json!({"model": "m", "prompt": " "})),
            Purpose::Answer,
        ),
    ] {
        assert_eq!(asked.unwrap().1, what);
    }
}

#[test]
fn a_wrong_field_is_named() {
    let said = [
        chat(&json!({"model": "m", "messages": 7})),
        chat(&json!({"model": 7, "messages": []})),
        chat(&json!({"model": "m", "messages": [{"role": "bot"}]})),
        chat(&json!({"model": "m", "messages": [{"role": "user", "content": ["hi"]}]})),
        chat(&json!({"model": "m", "messages": [{"role": "user"}], "format": 7})),
        chat(
            &json!({"model": "m", "messages": [{"role": "user"}], "options": {"num_predict": "all"}}),
        ),
        chat(&json!({"model": "m", "messages": [{"role": "user"}], "tools": [{"function": {}}]})),
        generate(&json!({"model": "m", "prompt": "a", "suffix": "b"})),
        generate(&json!({"model": "m", "prompt": "a", "raw": true, "system": "b"})),
        generate(&json!({"model": "m", "prompt": "a", "context": [1, 2]})),
        generate(&json!({"model": "m", "prompt": "a", "template": "{{ .Prompt }}"})),
        chat(&json!({"model": "m", "messages": [{"role": "user"}], "think": "x"})),
        embed(&json!({"model": "m"}), "input"),
        embed(&json!({"model": "m"}), "prompt"),
        embed(&json!({"model": "m", "input": [7]}), "input"),
        embed(&json!([]), "input"),
        lists::asked(&json!({})).map(|_| Vec::new()),
    ];
    let said: Vec<String> = said.into_iter().map(|it| it.unwrap_err().message).collect();
    insta::with_settings!({prepend_module_to_snapshot => false}, {
        insta::assert_snapshot!(said.join("\n"));
    });
}

#[test]
fn what_says_nothing_of_a_prompt_changes_nothing() {
    let plain = json!({"model": "m", "prompt": "a"});
    let mut empty = plain.clone();
    for (key, value) in [
        ("raw", json!(false)),
        ("context", json!([])),
        ("template", json!("")),
        ("suffix", json!("")),
    ] {
        empty[key] = value;
    }
    assert_eq!(generate(&empty).unwrap(), generate(&plain).unwrap());
    for think in ["low", "medium", "high"] {
        let body = json!({"model": "m", "messages": [{"role": "user"}], "think": think});
        assert_eq!(
            read(chat(&body))["chat_template_kwargs"]["reasoning_effort"],
            think
        );
    }
}

#[test]
fn models_whose_names_begin_alike_have_digests_of_their_own() {
    let begin = "mlx-community/Qwen3-Coder-30B-A3B-Instruct";
    let entries = ["-4bit", "-8bit"].map(|end| {
        let facts = ModelFacts {
            name: format!("{begin}{end}"),
            ..ModelFacts::default()
        };
        CatalogueEntry::of_facts(facts, Status::Loadable)
    });
    let tags = lists::tags(&entries, 0);
    let digest = |at: usize| tags["models"][at]["digest"].as_str().unwrap();
    assert_ne!(digest(0), digest(1));
    for at in 0..2 {
        assert_eq!(digest(at).len(), 64);
        assert!(digest(at).bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
}

#[test]
fn the_time_of_a_load_is_nobody_elses() {
    let mut origin = Origin::now();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(60) {
        std::thread::yield_now();
    }
    origin.is_loaded();
    let least = 60_000_000;
    let check = |last: &Value, form: &str| {
        let of = |key: &str| last[key].as_u64().unwrap();
        assert!(of("load_duration") >= least, "{last}");
        assert!(of("total_duration") >= of("load_duration"), "{last}");
        let parts = of("load_duration") + of("prompt_eval_duration") + of("eval_duration");
        assert_eq!(of("total_duration"), parts, "{form}: {last}");
    };
    let answer = json!({"choices": [{"finish_reason": "stop", "message": {"content": "Sure"}}]});
    let answer = one_form::of_worker(answer.to_string().as_bytes()).unwrap();
    check(&whole(&answer, Form::Chat, "m", origin), "whole");
    let event = json!({"choices": [{"delta": {"content": "Sure"}, "finish_reason": "stop"}]});
    let events = format!("data: {event}\n\ndata: [DONE]\n\n");
    let lines = lines_since(origin, Form::Chat, &[events.as_bytes()]);
    check(lines.last().unwrap(), "stream");
    let said = embeddings(br#"{"data": [{"embedding": [1]}]}"#, "m", origin).unwrap();
    assert!(said["load_duration"].as_u64().unwrap() >= least, "{said}");
}

fn lines_of(form: Form, pieces: &[&[u8]]) -> Vec<Value> {
    lines_since(Origin::now(), form, pieces)
}

fn lines_since(origin: Origin, form: Form, pieces: &[&[u8]]) -> Vec<Value> {
    let writer = Lines::new(form, "m".to_owned(), origin);
    let (mut stream, mut out) = (Stream::new(writer), Vec::new());
    for piece in pieces {
        stream.feed(piece, &mut out);
    }
    stream.end(
        &ApiError::new(StatusCode::BAD_GATEWAY, "broke off"),
        &mut out,
    );
    let text = String::from_utf8(out).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_piece_is_written_as_a_whole_answer_is() {
    let text = "a \"b\"\u{2028}é\n";
    for form in [Form::Chat, Form::Generate] {
        for field in ["content", "reasoning_content"] {
            let event = json!({"choices": [{"delta": {field: text}}]});
            let lines = lines_of(form, &[format!("data: {event}\n\n").as_bytes()]);
            let (said, thought) = match field {
                "content" => (text, ""),
                _ => ("", text),
            };
            let mut whole = form.said("m", said, thought, Vec::new()).value();
            whole["created_at"] = lines[0]["created_at"].clone();
            assert_eq!(lines[0].to_string(), whole.to_string(), "{form:?} {field}");
            let time = lines[0]["created_at"].as_str().unwrap();
            assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        }
    }
}

#[test]
fn a_whole_answer_has_text_thinking_calls_and_counters() {
    let answer = json!({
        "choices": [{"finish_reason": "stop", "message": {
            "content": "Sure", "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{\"a\":1}"}}],
        }}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    });
    let answer = one_form::of_worker(answer.to_string().as_bytes()).unwrap();
    let said = whole(&answer, Form::Chat, "m", Origin::now());
    assert_eq!(
        said["message"],
        json!({
            "role": "assistant", "content": "Sure", "thinking": "hm",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
        })
    );
    assert_eq!(
        (&said["done"], &said["done_reason"]),
        (&json!(true), &json!("stop"))
    );
    assert_eq!(
        (&said["prompt_eval_count"], &said["eval_count"]),
        (&json!(9), &json!(4))
    );
    assert!(said["total_duration"].is_u64() && said["created_at"].is_string());
    let said = whole(&answer, Form::Generate, "m", Origin::now());
    assert_eq!(
        (&said["response"], &said["thinking"]),
        (&json!("Sure"), &json!("hm"))
    );

    let body =
        br#"{"data": [{"embedding": [1, 2]}, {"embedding": [3]}], "usage": {"prompt_tokens": 5}}"#;
    let said = embeddings(body, "m", Origin::now()).unwrap();
    assert_eq!(
        (&said["embeddings"], &said["prompt_eval_count"]),
        (&json!([[1, 2], [3]]), &json!(5))
    );
    assert_eq!(embedding(body).unwrap(), json!({"embedding": [1, 2]}));
    for body in [
        "",
        "{}",
        "[]",
        "7",
        r#"{"data": [7]}"#,
        r#"{"data": [{"embedding": "AAAA"}]}"#,
    ] {
        assert_eq!(
            embedding(body.as_bytes()).unwrap_err().status,
            502,
            "{body}"
        );
    }
}

proptest! {
    #[test]
    fn a_client_reads_of_any_stream_what_the_worker_said(plan in plans(), at in any::<usize>()) {
        let lines = lines_of(Form::Chat, &plan.pieces());
        let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
        for line in &lines {
            let message = &line["message"];
            text += message["content"].as_str().unwrap();
            thinking += message["thinking"].as_str().unwrap_or_default();
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                let function = &call["function"];
                calls.push((function["name"].as_str().unwrap().to_owned(), function["arguments"].clone()));
            }
        }
        let (last, others) = lines.split_last().unwrap();
        prop_assert!(others.iter().all(|line| line["done"] == false));
        prop_assert_eq!((&last["done"], &last["eval_count"]), (&json!(true), &json!(5)));
        prop_assert_eq!(&text, &plan.text);
        prop_assert_eq!(&thinking, &plan.thinking);
        let planned: Vec<(String, Value)> = plan.calls.iter()
            .map(|(name, arguments)| (name.clone(), serde_json::from_str(arguments).unwrap()))
            .collect();
        prop_assert_eq!(calls, planned);

        let lines = lines_of(Form::Generate, &plan.pieces());
        let said = |key: &str| lines.iter().filter_map(|line| line[key].as_str()).collect::<String>();
        prop_assert_eq!((&said("response"), &said("thinking")), (&plan.text, &plan.thinking));
        let (last, others) = lines.split_last().unwrap();
        prop_assert!(others.iter().all(|line| line["done"] == false));
        prop_assert_eq!((&last["done"], &last["eval_count"]), (&json!(true), &json!(5)));

        let cut = lines_of(Form::Generate, &plan.cut_off(at).pieces());
        let last = cut.last().unwrap();
        prop_assert!(last["done"] == true || last["error"] == "broke off", "{}", last);
    }
}
