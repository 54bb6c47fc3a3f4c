//! Anthropic's Messages API on workers that speak chat completions: what arrives there, what comes back,
//! and what is said while a model loads or when something goes wrong.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, DIALECTS, ENDLESS, active, alpha, alpha_in};

const MESSAGES: &str = "/v1/messages";

fn message(prompt: &str, stream: bool) -> Value {
    json!({
        "model": "alpha",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "x-anthropic-billing-header: cc=1"}, {"type": "text", "text": "Be brief."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": prompt}]}],
        "tools": [{"name": "Write", "input_schema": {"type": "object"}}],
        "stream": stream,
    })
}

/// The names of a stream's events, and their data.
fn events(reply: Reply) -> Vec<(String, Value)> {
    let kind = reply.header("content-type").unwrap();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let text = reply.whole().unwrap().text();
    let events = text.split("\n\n").filter(|event| event.contains("data: "));
    let event = |event: &str| {
        let lines = event.lines().filter(|line| !line.starts_with(':'));
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        let [name, data] = lines[..] else {
            panic!("{event}");
        };
        let data = data.strip_prefix("data: ").unwrap();
        let name = name.strip_prefix("event: ").unwrap().to_owned();
        (name, serde_json::from_str(data).unwrap())
    };
    events.map(event).collect()
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, kind: &str, words: &[&str]) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["type"], "error", "{body}");
    assert_eq!(body["error"]["type"], kind, "{body}");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
}

#[test]
fn a_message_of_a_megabyte_is_answered_and_counted() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let large = message(&"word ".repeat(200_000), false);
    let answer = hub.http.post(MESSAGES, &large);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let counted = hub.http.post(&format!("{MESSAGES}/count_tokens"), &large);
    let tokens = counted.json()["input_tokens"].as_u64().unwrap();
    assert!((200_000..250_000).contains(&tokens), "{tokens}");
}

#[test]
fn a_message_is_answered_by_a_chat_completion() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--tokens", "3"]));
        let mut body = message("hello", false);
        body["model"] = json!("org/alpha");
        let answer = hub.http.post("/v1/messages?beta=true", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let said = answer.json();
        assert_eq!(said["type"], "message");
        assert_eq!(said["model"], "org/alpha");
        assert_eq!(said["content"][0]["type"], "text");
        assert!(
            said["content"][0]["text"]
                .as_str()
                .unwrap()
                .contains("hello")
        );
        assert_eq!(said["stop_reason"], "end_turn");
        assert_eq!(said["usage"]["output_tokens"], 3);
        assert!(answer.header("x-request-id").is_some());
        assert!(
            answer
                .header("server-timing")
                .unwrap()
                .contains("worker;dur=")
        );
        // The account reads the worker's usage.
        wait_until("it to be counted", SOON, || {
            hub.model("alpha")["usage"]["completion_tokens"] == 3
        });
        assert!(hub.record.requests(MESSAGES).is_empty());
        assert_eq!(hub.record.requests(CHAT).len(), 1);
        assert_eq!(active(&hub, "alpha"), 0);
    }
}

#[test]
fn a_stream_has_the_events_of_a_message_and_calls_tools() {
    let hub = Hub::start(&alpha(&["--tokens", "3"]));
    let told = events(hub.http.open(MESSAGES, &message("hello", true)));
    let names: Vec<&str> = told.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    assert_eq!(told[0].1["message"]["model"], "alpha");
    assert_eq!(told[6].1["usage"]["output_tokens"], 3);

    let prompt = "call Write {\"path\": \"a b\"}";
    let told = events(hub.http.open(MESSAGES, &message(prompt, true)));
    let block = &told[1].1["content_block"];
    assert_eq!(
        (&block["type"], &block["name"]),
        (&json!("tool_use"), &json!("Write"))
    );
    let input: String = told
        .iter()
        .filter_map(|(_, data)| data["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(input, r#"{"path":"a b"}"#);
    assert_eq!(told[told.len() - 2].1["delta"]["stop_reason"], "tool_use");
}

#[test]
fn a_worker_that_has_the_route_gets_the_request_as_it_is() {
    let hub = Hub::start(&alpha(&["--describes", MESSAGES]));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let file = hub.logs().join("routes.json");
    wait_until("the routes to be learned", SOON, || file.exists());
    let body = message("hello", false);
    let headers = [
        ("accept-encoding", "gzip"),
        ("content-type", "application/json"),
    ];
    let sent = body.to_string();
    let ask = || {
        let reply = hub
            .http
            .send("POST", "/v1/messages?beta=true", &headers, sent.as_bytes());
        reply.and_then(Reply::whole).unwrap()
    };
    // The stand-in only says that it has it.
    wait_until("the request to go there", SOON, || {
        ask().json() == json!({"detail": "Not Found"})
    });
    let requests = hub.record.requests(MESSAGES);
    let request = &requests[0];
    assert_eq!(request["body"], sent);
    assert_eq!(request["headers"]["accept-encoding"], "gzip", "{request}");
}

#[test]
fn what_only_the_worker_understands_goes_there_by_every_name() {
    let policy = r#"return { on_request = function(req)
      local seen = req.body.messages[1].role == "system" and "chat" or "message"
      if req.model == nil or req.model:find("^claude") then
        return hub.route{ model = "alpha", headers = { ["x-seen"] = seen } }
      end
      return hub.route{ headers = { ["x-seen"] = seen } }
    end }"#;
    let hub = Hub::start_with(
        &alpha(&["--describes", MESSAGES]),
        &[("claude.lua", policy)],
    );
    let computer = |model: Value| {
        let mut body = message("hello", false);
        body["model"] = model;
        body["tools"] = json!([{"type": "computer_20250124", "name": "computer"}]);
        body
    };
    let known = json!("alpha");
    // Nothing is known of the worker.
    for model in [known.clone(), json!("claude-opus-4-8"), Value::Null] {
        let answer = hub.http.post(MESSAGES, &computer(model));
        let words = ["only Anthropic's models"];
        assert_refused(&answer, 400, "invalid_request_error", &words);
    }
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let file = hub.logs().join("routes.json");
    wait_until("the routes to be learned", SOON, || file.exists());
    wait_until("the request to go there", SOON, || {
        hub.http.post(MESSAGES, &computer(known.clone())).json() == json!({"detail": "Not Found"})
    });
    let last = || hub.record.requests(MESSAGES).pop().unwrap();
    assert_eq!(last()["body"], computer(known.clone()).to_string());
    assert_eq!(last()["headers"]["x-seen"], "message");
    for model in [json!("claude-opus-4-8"), Value::Null] {
        hub.http.post(MESSAGES, &computer(model));
        let sent: Value = serde_json::from_str(last()["body"].as_str().unwrap()).unwrap();
        // The worker answers to this name alone.
        assert_eq!(sent, computer(known.clone()));
        assert_eq!(last()["headers"]["x-seen"], "message");
    }
    // One that can be translated is shown so.
    hub.http.post(MESSAGES, &message("hello", false));
    assert_eq!(last()["headers"]["x-seen"], "chat");
    let warnings = hub.status()["warnings"].to_string();
    assert!(!warnings.contains("claude.lua"), "{warnings}");
}

#[test]
fn policies_see_the_chat_completion_and_may_change_it() {
    let policy = r#"return { on_request = function(req)
      assert(req.protocol == "anthropic" and req.path == "/v1/chat/completions")
      assert(req.body.messages[1].content == "Be brief.", "the system prompt")
      assert(req.body.tools[1]["function"].name == "Write")
      return hub.route{ model = "alpha", set = { max_tokens = 1 } }
    end }"#;
    let hub = Hub::start_with(&alpha(&[]), &[("see.lua", policy)]);
    let mut body = message("hello", false);
    body["model"] = json!("claude-opus-4-8");
    let said = hub.http.post(MESSAGES, &body).json();
    assert_eq!(said["usage"]["output_tokens"], 1, "{said}");
    assert_eq!(said["stop_reason"], "max_tokens");
    assert_eq!(said["model"], "claude-opus-4-8");
}

#[test]
fn tokens_are_counted_without_a_model() {
    let hub = Hub::start(&alpha(&[]));
    let count = |body: &Value| {
        let answer = hub.http.post("/v1/messages/count_tokens?beta=true", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["input_tokens"].as_u64().unwrap()
    };
    let mut body = message("hello", false);
    let few = count(&body);
    body["messages"][0]["content"] = json!("word ".repeat(500));
    body["model"] = json!("claude-of-no-kind");
    let many = count(&body);
    assert!(
        (10..100).contains(&few) && (500..650).contains(&many),
        "{few} {many}"
    );
    body["messages"] = json!(7);
    let answer = hub.http.post("/v1/messages/count_tokens", &body);
    assert_refused(&answer, 400, "invalid_request_error", &["`messages`"]);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
}

#[test]
fn what_is_wrong_is_said_in_anthropics_form() {
    let hub = Hub::start(&alpha(&[]));
    let refused = |body: &Value| hub.http.post(MESSAGES, body);
    let mut body = message("hello", true);
    body["messages"][0]["content"] = json!(7);
    let words = ["`messages[0].content`", "`7`"];
    assert_refused(&refused(&body), 400, "invalid_request_error", &words);
    let mut body = message("hello", true);
    body["model"] = json!("alpah");
    assert_refused(
        &refused(&body),
        404,
        "not_found_error",
        &["`alpah`", "`alpha`"],
    );
    body["model"] = Value::Null;
    assert_refused(&refused(&body), 400, "invalid_request_error", &["'model'"]);
    let reply = hub
        .http
        .send("POST", MESSAGES, &[], b"{\"model\": \"alpha\",");
    let answer = reply.and_then(Reply::whole).unwrap();
    assert_refused(&answer, 400, "invalid_request_error", &["not valid JSON"]);
    assert_refused(
        &hub.http.get(MESSAGES),
        405,
        "invalid_request_error",
        &["POST"],
    );
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    assert!(hub.record.events("request").is_empty());
}

#[test]
fn a_workers_error_is_told_in_anthropics_form() {
    let hub = Hub::start(&alpha(&["--fail-requests"]));
    for stream in [false, true] {
        let answer = hub.http.post(MESSAGES, &message("hello", stream));
        assert_refused(&answer, 500, "api_error", &["Internal Server Error"]);
    }
    let hub = Hub::start(&alpha(&["--crash-after-events", "3"]));
    let reply = hub.http.open(MESSAGES, &message("hello", true));
    let text: Vec<String> = reply.events().map_while(Result::ok).collect();
    let last: Value = serde_json::from_str(text.last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["error"]["type"]),
        (&json!("error"), &json!("api_error")),
        "{text:?}"
    );
}

#[test]
fn a_client_hears_pings_while_its_model_loads() {
    let slow = |knobs: &[&str]| {
        let knobs = [&["--load-seconds", "3", "--tokens", "3"], knobs].concat();
        let hub = Hub::start(&format!("loading_notice: 1\n{}", alpha(&knobs)));
        hub.wait_for_state("alpha", "running", "unloaded");
        hub
    };
    let hub = slow(&[]);
    let told = events(hub.http.open(MESSAGES, &message("hello", true)));
    let pings = told
        .iter()
        .take_while(|(name, data)| name == "ping" && data["type"] == "ping");
    let pings = pings.count();
    assert!(pings >= 2, "{told:?}");
    assert_eq!(told[pings].0, "message_start");
    assert_eq!(told.last().unwrap().0, "message_stop");

    hub.act("alpha", "unload");
    let headers = [("prefer", "wait=1")];
    let body = message("hello", true).to_string();
    let reply = hub.http.send("POST", MESSAGES, &headers, body.as_bytes());
    let answer = reply.and_then(Reply::whole).unwrap();
    assert_refused(&answer, 503, "overloaded_error", &["loading alpha"]);
    assert!(answer.header("retry-after").is_some());

    let hub = slow(&["--fail-load"]);
    let told = events(hub.http.open(MESSAGES, &message("hello", true)));
    let (name, data) = told.last().unwrap();
    assert_eq!(
        (&**name, &data["type"]),
        ("error", &json!("error")),
        "{told:?}"
    );
    assert!(data["error"]["message"].as_str().unwrap().contains("alpha"));
}

#[test]
fn a_full_queue_is_a_rate_limit() {
    let policy = "return { on_request = function() return hub.wait{ seconds = 600 } end }";
    let yaml = alpha(&[]).replace("{name: alpha,", "{name: alpha, queue_size: 1,");
    let hub = Hub::start_with(&yaml, &[("wait.lua", policy)]);
    let http = hub.http;
    let first = std::thread::spawn(move || http.post(MESSAGES, &message("hello", false)));
    wait_until("it to be parked", SOON, || {
        hub.model("alpha")["parked_requests"] == 1
    });
    let answer = hub.http.post(MESSAGES, &message("hello", false));
    assert_refused(&answer, 429, "rate_limit_error", &["alpha"]);
    assert!(answer.header("retry-after").is_some());
    drop(hub);
    let _ = first.join();
}

#[test]
fn a_client_that_leaves_frees_all_at_once() {
    let hub = Hub::start(&alpha(&ENDLESS));
    hub.act("alpha", "load");
    for stream in [true, false] {
        let mut times = [(); 5].map(|()| {
            let body = message("hello", stream).to_string();
            let head = format!(
                "POST {MESSAGES} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let mut client = std::net::TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
            std::io::Write::write_all(&mut client, (head + &body).as_bytes()).unwrap();
            wait_until("it to arrive", SOON, || active(&hub, "alpha") == 1);
            if stream {
                std::io::Read::read_exact(&mut client, &mut [0; 400]).unwrap();
            }
            let left = Instant::now();
            drop(client);
            wait_until("its lease to be free", SOON, || active(&hub, "alpha") == 0);
            left.elapsed()
        });
        times.sort();
        assert!(
            times[2] < Duration::from_millis(100),
            "stream: {stream}: {times:?}"
        );
    }
}
