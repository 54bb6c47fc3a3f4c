//! OpenAI's Responses API on workers that have none: what a chat completion becomes, and that workers
//! which have the route get the request as it is.

use serde_json::{Value, json};

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, alpha_in, assert_error};

const RESPONSES: &str = "/v1/responses";

fn ask(prompt: &str, stream: bool) -> Value {
    json!({
        "model": "alpha",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": prompt}]}],
        "tools": [{"type": "function", "name": "shell", "parameters": {"type": "object"}},
                  {"type": "web_search"}, {"type": "namespace", "name": "agents", "tools": []}],
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
    // What no worker has is left out, and the log says so.
    wait_until("the notes", SOON, || {
        let log = std::fs::read_to_string(hub.logs().join("app.log")).unwrap();
        let mut lines = log.lines();
        let mut note = |kind: &str| {
            lines.any(|line| line.contains("is left out of a request") && line.contains(kind))
        };
        note("web_search") && note("namespace")
    });

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
fn policies_see_and_change_a_chat_completion_whatever_routes_the_worker_has() {
    let policy = r#"return { on_request = function(req)
      assert(req.protocol == "responses")
      if req.body.messages[2].content == "short" then
        return hub.route{ model = "alpha", set = { max_tokens = 1 }, unset = { "tools" } }
      end
    end }"#;
    let policy = policy.replace("function(req)", "function(req, hub)");
    let knobs = ["--tokens", "3"];
    let hub = Hub::start_with(&alpha_in("1.8.1", &knobs), &[("short.lua", &policy)]);
    // At the first request nothing is known of the worker's routes.
    for count in 1..=2 {
        let mut body = ask("short", false);
        body["max_output_tokens"] = json!(50);
        let answer = hub.http.post(RESPONSES, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["object"], "response");
        let chats = hub.record.requests(CHAT);
        assert_eq!(chats.len(), count);
        let sent: Value = serde_json::from_str(chats[count - 1]["body"].as_str().unwrap()).unwrap();
        assert_eq!(sent["max_tokens"], 1, "{sent}");
        for other in ["tools", "input", "max_output_tokens"] {
            assert!(sent.get(other).is_none(), "{sent}");
        }
        let body = ask("hello", false);
        assert_eq!(hub.http.post(RESPONSES, &body).status, 200);
        let requests = hub.record.requests(RESPONSES);
        assert_eq!(requests.len(), count);
        assert_eq!(requests[count - 1]["body"], body.to_string());
    }
    let warnings = hub.status()["warnings"].to_string();
    assert!(!warnings.contains("short.lua"), "{warnings}");
}

/// The messages of the last chat that the worker got.
fn last_messages(hub: &Hub) -> Value {
    let requests = hub.record.requests(CHAT);
    let body = requests.last().unwrap()["body"].as_str().unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    body["messages"].clone()
}

fn id_of(response: &Value) -> String {
    response["id"].as_str().unwrap().to_owned()
}

fn delete(hub: &Hub, id: &str) -> Answer {
    let path = format!("{RESPONSES}/{id}");
    let reply = hub.http.send("DELETE", &path, &[], b"");
    reply.and_then(Reply::whole).unwrap()
}

#[test]
fn a_conversation_goes_on_from_a_response_that_is_read_and_deleted() {
    let hub = Hub::start(&alpha_in("jit", &["--tokens", "3"]));
    let first = hub.http.post(RESPONSES, &ask("first", false)).json();
    assert_eq!(first["store"], true);
    let first_id = id_of(&first);
    let next = |id: &str, text: &str, stream: bool| json!({"model": "alpha", "previous_response_id": id, "input": text, "stream": stream});
    // Streamed and plain, one after the other.
    let reply = hub.http.open(RESPONSES, &next(&first_id, "second", true));
    let events: Vec<String> = reply.events().map(Result::unwrap).collect();
    let second: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    let second = &second["response"];
    assert_eq!(second["previous_response_id"], first_id.as_str());
    let third = hub
        .http
        .post(RESPONSES, &next(&id_of(second), "third", false))
        .json();
    let said = |response: &Value| response["output"][0]["content"][0]["text"].clone();
    assert_eq!(
        last_messages(&hub),
        json!([
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": said(&first)},
            {"role": "user", "content": "second"},
            {"role": "assistant", "content": said(second)},
            {"role": "user", "content": "third"},
        ])
    );

    let path = format!("{RESPONSES}/{}", id_of(&third));
    assert_eq!(hub.http.get(&path).json(), third);
    let items = hub
        .http
        .get(&format!("{path}/input_items?order=asc&limit=1"))
        .json();
    assert_eq!(items["data"][0]["content"][0]["text"], "first", "{items}");
    assert_eq!(items["has_more"], true);
    let cancelled = hub.http.post(&format!("{path}/cancel"), &json!({}));
    assert_error(
        &cancelled,
        400,
        "invalid_request_error",
        "400",
        &["background"],
    );
    let words = ["GET, HEAD, DELETE"];
    assert_error(
        &hub.http.post(&path, &json!({})),
        405,
        "invalid_request_error",
        "405",
        &words,
    );

    let requests = hub.record.events("request").len();
    let deleted = delete(&hub, &first_id);
    assert_eq!(
        deleted.json(),
        json!({"id": first_id, "object": "response", "deleted": true})
    );
    let words = [&*first_id, "24 hours", "64 MiB", "?model="];
    for answer in [
        delete(&hub, &first_id),
        hub.http.get(&format!("{RESPONSES}/{first_id}")),
    ] {
        assert_error(&answer, 404, "invalid_request_error", "404", &words);
    }
    let answer = hub.http.post(RESPONSES, &next(&first_id, "x", false));
    let words = ["Previous response with id", &first_id, "`input`"];
    let code = "previous_response_not_found";
    assert_error(&answer, 400, "invalid_request_error", code, &words);
    // What follows from it is a conversation still.
    let fourth = hub.http.post(RESPONSES, &next(&id_of(second), "x", false));
    assert_eq!(fourth.status, 200, "{}", fourth.text());
    assert_eq!(hub.record.events("request").len(), requests + 1);
}

#[test]
fn what_is_not_to_be_kept_is_kept_nowhere() {
    let hub = Hub::start(&alpha_in("jit", &["--tokens", "3"]));
    let mut body = ask("hello", false);
    body["store"] = json!(false);
    let said = hub.http.post(RESPONSES, &body).json();
    assert_eq!(said["store"], false);
    let answer = hub.http.get(&format!("{RESPONSES}/{}", id_of(&said)));
    let words = ["`store: false`"];
    assert_error(&answer, 404, "invalid_request_error", "404", &words);
}

#[test]
fn what_cannot_be_translated_is_refused_by_name() {
    let hub = Hub::start(&alpha_in("jit", &[]));
    let mut body = ask("hello", true);
    body["conversation"] = json!("conv_1");
    let answer = hub.http.post(RESPONSES, &body);
    let words = ["`conversation`", "`previous_response_id`"];
    assert_error(&answer, 400, "invalid_request_error", "400", &words);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
}
