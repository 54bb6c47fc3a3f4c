//! OpenAI's Responses API on workers that have none: what a chat completion becomes, and that workers
//! which have the route get the request as it is.

use serde_json::{Value, json};

use crate::support::Hub;
use crate::{CHAT, alpha_in, assert_error};

const RESPONSES: &str = "/v1/responses";

fn ask(prompt: &str, stream: bool) -> Value {
    json!({
        "model": "alpha",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": prompt}]}],
        "tools": [{"type": "function", "name": "shell", "parameters": {"type": "object"}}, {"type": "web_search"}],
        "stream": stream,
    })
}

#[test]
fn a_worker_without_the_route_answers_by_a_chat_completion() {
    let hub = Hub::start(&alpha_in("jit", &["--tokens", "3"]));
    let answer = hub.http.post(RESPONSES, &ask("hello", false));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = answer.json();
    assert_eq!(
        (&said["object"], &said["status"]),
        (&json!("response"), &json!("completed"))
    );
    assert_eq!(said["model"], "alpha");
    assert_eq!(said["instructions"], "Be brief.");
    let text = said["output"][0]["content"][0]["text"].as_str().unwrap();
    assert!(text.contains("hello"), "{text}");
    assert_eq!(hub.record.requests(CHAT).len(), 1);
    assert!(hub.record.requests(RESPONSES).is_empty());

    let reply = hub
        .http
        .open(RESPONSES, &ask("call shell {\"command\": \"ls\"}", true));
    let events: Vec<Value> = reply
        .events()
        .map(|event| serde_json::from_str(&event.unwrap()).unwrap())
        .collect();
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let call = &last["response"]["output"][0];
    assert_eq!(
        (&call["name"], &call["arguments"]),
        (&json!("shell"), &json!("{\"command\":\"ls\"}"))
    );
}

#[test]
fn a_worker_that_has_the_route_gets_the_first_request_and_all_others_as_they_are() {
    let hub = Hub::start(&alpha_in("1.8.1", &["--tokens", "3"]));
    for count in 1..=3 {
        let body = ask("hello", false);
        let answer = hub.http.post(RESPONSES, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let requests = hub.record.requests(RESPONSES);
        assert_eq!(requests.len(), count);
        assert_eq!(requests[count - 1]["body"], body.to_string());
    }
    assert!(hub.record.requests(CHAT).is_empty());
}

#[test]
fn what_cannot_be_translated_is_refused_by_name() {
    let hub = Hub::start(&alpha_in("jit", &[]));
    let mut body = ask("hello", true);
    body["previous_response_id"] = json!("resp_1");
    let answer = hub.http.post(RESPONSES, &body);
    let words = ["`previous_response_id`", "`input`"];
    assert_error(&answer, 400, "invalid_request_error", "400", &words);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
}
