//! Ollama's and LM Studio's APIs on workers that speak OpenAI's.

use serde_json::{Value, json};

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, ENDLESS, active, alpha};

fn chat(prompt: &str) -> Value {
    json!({
        "model": "alpha:latest",
        "messages": [{"role": "user", "content": prompt}],
        "tools": [{"type": "function", "function": {"name": "Write", "parameters": {"type": "object"}}}],
    })
}

fn lines(reply: Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
    let text = reply.whole().unwrap().text();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    let error = body["error"].as_str().expect("a text");
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
}

#[test]
fn chats_and_completions_stream_lines() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let told = lines(hub.http.open("/api/chat", &chat("hello")));
    assert_eq!(told.len(), 4);
    assert!(
        told[..3]
            .iter()
            .all(|line| line["done"] == false && line["message"]["role"] == "assistant")
    );
    let last = &told[3];
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("stop"), &json!(3))
    );
    let requests = hub.record.requests(CHAT);
    assert!(
        requests[0]["body"]
            .as_str()
            .unwrap()
            .starts_with(r#"{"model":"alpha","#)
    );

    let told = lines(
        hub.http
            .open("/api/chat", &chat("call Write {\"path\": \"a\"}")),
    );
    let call = &told[0]["message"]["tool_calls"][0]["function"];
    assert_eq!(call, &json!({"name": "Write", "arguments": {"path": "a"}}));

    let body = json!({"model": "alpha", "prompt": "hello", "stream": false});
    let said = hub.http.post("/api/generate", &body).json();
    assert!(
        said["response"].as_str().unwrap().contains("hello"),
        "{said}"
    );
    assert_eq!(said["done"], true);
}

#[test]
fn texts_are_embedded() {
    let hub = Hub::start(&alpha(&[]));
    let body = json!({"model": "alpha", "input": ["a", "b"]});
    let said = hub.http.post("/api/embed", &body).json();
    assert_eq!(said["embeddings"].as_array().unwrap().len(), 2, "{said}");
    let said = hub
        .http
        .post("/api/embeddings", &json!({"model": "alpha", "prompt": "a"}))
        .json();
    assert_eq!(said["embedding"].as_array().unwrap().len(), 8, "{said}");
    assert_eq!(hub.record.requests("/v1/embeddings").len(), 2);
}

#[test]
fn the_lists_tell_what_there_is_and_what_is_loaded() {
    let hub = Hub::start(&alpha(&[]));
    assert!(hub.http.get("/api/version").json()["version"].is_string());
    let tags = hub.http.get("/api/tags").json();
    assert_eq!(tags["models"][0]["name"], "alpha", "{tags}");
    assert_eq!(hub.http.get("/api/ps").json(), json!({"models": []}));
    let shown = hub
        .http
        .post("/api/show", &json!({"model": "alpha:latest"}))
        .json();
    assert_eq!(shown["capabilities"], json!(["completion", "tools"]));
    assert_eq!(shown["model_info"]["mlx.context_length"], 32768);
    let models = hub.http.get("/api/v0/models").json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][0]["state"]),
        (&json!("alpha"), &json!("not-loaded"))
    );
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");

    hub.act("alpha", "load");
    let running = hub.http.get("/api/ps").json();
    assert_eq!(running["models"][0]["context_length"], 32768, "{running}");
    let model = hub.http.get("/api/v0/models/alpha").json();
    assert_eq!(
        (&model["state"], &model["loaded_context_length"]),
        (&json!("loaded"), &json!(32768))
    );
    let body = crate::support::http::chat("alpha", "hello", false);
    let answer = hub.http.post("/api/v0/chat/completions", &body);
    assert_eq!(answer.json()["object"], "chat.completion");
}

#[test]
fn what_is_wrong_is_said_in_ollamas_form() {
    let hub = Hub::start(&alpha(&[]));
    let body = json!({"model": "alpah", "messages": [{"role": "user", "content": "x"}]});
    assert_refused(
        &hub.http.post("/api/chat", &body),
        404,
        &["`alpah`", "`alpha`"],
    );
    let body = json!({"model": "alpha", "messages": 7});
    assert_refused(
        &hub.http.post("/api/chat", &body),
        400,
        &["`messages`", "`7`"],
    );
    assert_refused(
        &hub.http.post("/api/show", &json!({"model": "nosuch"})),
        404,
        &["`nosuch`"],
    );
    for path in ["/api/pull", "/api/create", "/api/push", "/api/copy"] {
        assert_refused(
            &hub.http.post(path, &json!({"model": "x"})),
            501,
            &[path, "hub.yaml"],
        );
    }
    assert_refused(&hub.http.get("/api/chat"), 405, &["POST"]);
    assert_refused(
        &hub.http.get("/api/nosuch?model=alpha"),
        404,
        &["/api/nosuch"],
    );
    let headers = [
        ("origin", "http://evil.example"),
        ("content-type", "text/plain"),
    ];
    let reply = hub.http.send("POST", "/api/chat", &headers, b"{}");
    assert_eq!(reply.and_then(Reply::whole).unwrap().status, 403);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    assert!(hub.record.events("request").is_empty());
}

#[test]
fn a_client_that_waits_for_a_load_gets_lines_that_say_nothing() {
    let yaml = format!(
        "loading_notice: 1\n{}",
        alpha(&["--load-seconds", "3", "--tokens", "3"])
    );
    let hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "unloaded");
    let told = lines(hub.http.open("/api/chat", &chat("hello")));
    assert!(told.len() >= 6, "{told:?}");
    assert!(
        told[..2]
            .iter()
            .all(|line| line["message"]["content"] == "" && line["done"] == false)
    );
    assert_eq!(told.last().unwrap()["eval_count"], 3);
}

#[test]
fn a_client_that_leaves_frees_its_lease() {
    let hub = Hub::start(&alpha(&ENDLESS));
    let reply = hub.http.open("/api/chat", &chat("hello"));
    wait_until("it to arrive", SOON, || active(&hub, "alpha") == 1);
    drop(reply);
    wait_until("its lease to be free", SOON, || active(&hub, "alpha") == 0);
}
