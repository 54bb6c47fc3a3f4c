//! Requests that name no model, or one that the hub does not have: policies may know where they go.

use serde_json::{Value, json};

use crate::support::Hub;
use crate::support::http::{Answer, Reply};
use crate::{CHAT, DIALECTS, alpha_in, assert_error};

/// Sends what names no model to `alpha`, and says in the answer's log what it saw.
const DEFAULT: &str = r#"
return {
  on_request = function(req, hub)
    if req.model == nil then
      return hub.route({ model = "alpha", headers = { ["x-seen"] = tostring(req.protocol) } })
    end
  end,
}
"#;

fn hub(dialect: &str) -> Hub {
    let yaml = alpha_in(dialect, &["--tokens", "3"]);
    Hub::start_with(&yaml, &[("default.lua", DEFAULT)])
}

fn send(hub: &Hub, method: &str, path: &str, kind: &str, body: &str) -> Answer {
    let headers: &[(&str, &str)] = match kind {
        "" => &[],
        kind => &[("content-type", kind)],
    };
    let reply = hub.http.send(method, path, headers, body.as_bytes());
    reply.and_then(Reply::whole).unwrap()
}

/// The body of the last request to that path of the worker.
fn arrived(hub: &Hub, path: &str) -> String {
    let request = hub.record.requests(path).pop().unwrap();
    request["body"].as_str().unwrap().to_owned()
}

#[test]
fn every_way_not_to_name_a_model_is_a_nil_for_policies_and_a_name_for_the_worker() {
    let messages = r#""messages":[{"role":"user","content":"hé"}]"#;
    for dialect in DIALECTS {
        let hub = hub(dialect);
        for (written, body) in [
            ("", format!("{{{messages}}}")),
            (
                r#""model":null,"#,
                format!(r#"{{"model":null,{messages}}}"#),
            ),
            (r#""model":7,"#, format!(r#"{{"model":7,{messages}}}"#)),
            (r#""model":"","#, format!(r#"{{"model":"",{messages}}}"#)),
            (
                r#""model":" ","#,
                format!(r#"{{ "model" : " ",{messages}}}"#),
            ),
        ] {
            let answer = send(&hub, "POST", CHAT, "application/json", &body);
            assert_eq!(answer.status, 200, "{written}: {}", answer.text());
            // The client gave no name: it hears the hub's.
            assert_eq!(answer.json()["model"], "alpha", "{dialect} {written}");
            let fields: Value = serde_json::from_str(&arrived(&hub, CHAT)).unwrap();
            let expected =
                json!({"model": "alpha", "messages": [{"role": "user", "content": "hé"}]});
            assert_eq!(fields, expected, "{dialect} {written}");
        }
    }
}

#[test]
fn a_form_and_a_query_get_the_name_too() {
    const SPEECH: &str = "/v1/audio/transcriptions";
    let hub = hub("1.8.1");
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n";
    let named = "content-disposition: form-data; name=\"model\"\r\n\r\nalpha\r\n";
    for before in ["", "a preamble\r\n"] {
        let form = format!("{before}--B\r\n{file}--B--\r\n");
        let kind = "multipart/form-data; boundary=B";
        send(&hub, "POST", SPEECH, kind, &form);
        let expected = format!("{before}--B\r\n{named}--B\r\n{file}--B--\r\n");
        assert_eq!(arrived(&hub, SPEECH), expected);
    }
    let kind = "application/x-www-form-urlencoded";
    send(&hub, "POST", CHAT, kind, "prompt=a+b");
    assert_eq!(arrived(&hub, CHAT), "model=alpha&prompt=a+b");
    let stats = send(&hub, "GET", "/v1/queue/stats?a=1", "", "");
    assert_eq!(stats.status, 200, "{}", stats.text());
    let asked = hub.record.requests("/v1/queue/stats").pop().unwrap();
    assert_eq!(asked["query"], "a=1&model=alpha");
}

#[test]
fn each_protocol_has_requests_without_a_model() {
    let hub = hub("jit");
    let said = json!([{"role": "user", "content": "hello"}]);
    for (path, body, protocol) in [
        (
            "/v1/messages",
            json!({"max_tokens": 9, "messages": said}),
            "anthropic",
        ),
        ("/v1/responses", json!({"input": "hello"}), "responses"),
        (
            "/api/chat",
            json!({"messages": said, "stream": false}),
            "ollama",
        ),
        (
            "/api/generate",
            json!({"prompt": "hello", "stream": false}),
            "ollama",
        ),
        (
            "/api/v0/chat/completions",
            json!({"messages": said}),
            "lm_studio",
        ),
    ] {
        let answer = hub.http.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(answer.json()["model"], "alpha", "{path}");
        let request = hub.record.requests(CHAT).pop().unwrap();
        assert_eq!(request["headers"]["x-seen"], protocol, "{path}");
        let sent: Value = serde_json::from_str(request["body"].as_str().unwrap()).unwrap();
        assert_eq!(sent["model"], "alpha", "{path}");
    }
    let embedded = hub.http.post("/api/embed", &json!({"input": "hello"}));
    assert_eq!(embedded.status, 200, "{}", embedded.text());
}

#[test]
fn a_worker_with_the_clients_own_route_gets_the_name_as_well() {
    let hub = hub("1.8.1");
    for body in [
        json!({"input": "hello"}),
        json!({"input": "hello", "model": null}),
    ] {
        let answer = hub.http.post("/v1/responses", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["model"], "alpha");
        let sent: Value = serde_json::from_str(&arrived(&hub, "/v1/responses")).unwrap();
        assert_eq!(sent, json!({"input": "hello", "model": "alpha"}));
    }
}

#[test]
fn what_no_policy_can_place_is_refused_as_without_policies_and_loads_nothing() {
    let yaml = alpha_in("jit", &[]);
    let elsewhere = "return { on_request = function(req) return nil end }";
    let hub = Hub::start_with(&yaml, &[("none.lua", elsewhere)]);
    let said = json!([{"role": "user", "content": "hello"}]);
    let openai = hub.http.post(CHAT, &json!({"messages": said}));
    let words = &["Model selection is required", "/v1/models"];
    assert_error(&openai, 400, "invalid_request_error", "400", words);
    let anthropic = hub
        .http
        .post("/v1/messages", &json!({"max_tokens": 9, "messages": said}));
    assert_eq!(anthropic.status, 400);
    assert_eq!(anthropic.json()["error"]["type"], "invalid_request_error");
    let ollama = hub.http.post("/api/chat", &json!({"messages": said}));
    assert_eq!(ollama.status, 400);
    assert!(
        ollama.json()["error"]
            .as_str()
            .unwrap()
            .contains("Model selection")
    );
    let unknown = hub.http.chat("alpah", "hello");
    let words = &["Did you mean `alpha`?"];
    assert_error(
        &unknown,
        404,
        "invalid_request_error",
        "model_not_found",
        words,
    );
    assert_eq!(hub.record.count("load", "alpha"), 0);
}

#[test]
fn what_no_policy_could_place_is_not_put_to_them() {
    let hub = hub("jit");
    for (method, path, kind, body, status) in [
        ("POST", CHAT, "application/json", "", 400),
        (
            "POST",
            CHAT,
            "application/json",
            r#"{"messages": [1, 2"#,
            400,
        ),
        ("POST", CHAT, "application/json", "[]", 400),
        ("POST", CHAT, "multipart/form-data; boundary=B", "abc", 400),
        ("GET", "/v1/nosuch", "", "", 404),
        ("GET", "/v1/responses/resp_nosuch", "", "", 404),
    ] {
        let answer = send(&hub, method, path, kind, body);
        assert_eq!(
            answer.status,
            status,
            "{method} {path} {body}: {}",
            answer.text()
        );
    }
    assert_eq!(hub.record.count("load", "alpha"), 0);
}

#[test]
fn json_that_ends_in_something_else_is_malformed_once_it_is_read() {
    let hub = hub("jit");
    let body = r#"{"messages": []} and more"#;
    let answer = send(&hub, "POST", CHAT, "application/json", body);
    let words = &["not valid JSON"];
    assert_error(&answer, 400, "invalid_request_error", "400", words);
}

#[test]
fn explain_tells_of_a_request_without_a_model() {
    let hub = hub("jit");
    hub.http.post(CHAT, &json!({"messages": []}));
    let said = hub.run(&["policy", "explain"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("(no model)  sent to alpha"), "{said}");
    // It is not about the hub, nor about that model.
    let of_alpha = hub.run(&["policy", "explain", "alpha"]);
    let of_alpha = String::from_utf8_lossy(&of_alpha.stdout).into_owned();
    assert!(!of_alpha.contains("(no model)"), "{of_alpha}");
}
