//! The APIs on the port, one by one: each says in its own form what goes wrong, wherever it goes wrong.

use serde_json::{Value, json};

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, alpha, alpha_in, error_of};

/// One API's way to chat.
pub(crate) struct Door {
    pub(crate) path: &'static str,
    /// The request of that prompt, which wants a stream or not.
    pub(crate) ask: fn(&str, bool) -> Value,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    OpenAi,
    Anthropic,
    Ollama,
}

fn messages(prompt: &str, stream: bool) -> Value {
    json!({"model": "alpha", "messages": [{"role": "user", "content": prompt}],
           "max_tokens": 100, "stream": stream})
}

/// Those that are translated where the worker knows chat completions only.
pub(crate) const TRANSLATED: [Door; 4] = [
    Door {
        path: "/v1/messages",
        ask: messages,
        form: Form::Anthropic,
    },
    Door {
        path: "/v1/responses",
        ask: |prompt, stream| json!({"model": "alpha", "input": prompt, "stream": stream}),
        form: Form::OpenAi,
    },
    Door {
        path: "/api/chat",
        ask: messages,
        form: Form::Ollama,
    },
    Door {
        path: "/api/generate",
        ask: |prompt, stream| json!({"model": "alpha", "prompt": prompt, "stream": stream}),
        form: Form::Ollama,
    },
];

/// Other ways to a model: Ollama's embeddings, and LM Studio's paths.
pub(crate) const OTHERS: [Door; 4] = [
    Door {
        path: "/api/embed",
        ask: |prompt, _| json!({"model": "alpha", "input": prompt}),
        form: Form::Ollama,
    },
    Door {
        path: "/api/embeddings",
        ask: |prompt, _| json!({"model": "alpha", "prompt": prompt}),
        form: Form::Ollama,
    },
    Door {
        path: "/api/v0/chat/completions",
        ask: messages,
        form: Form::OpenAi,
    },
    Door {
        path: "/api/v0/embeddings",
        ask: |prompt, _| json!({"model": "alpha", "input": prompt}),
        form: Form::OpenAi,
    },
];

/// Those that are OpenAI's.
const PASSED: [Door; 2] = [
    Door {
        path: CHAT,
        ask: messages,
        form: Form::OpenAi,
    },
    Door {
        path: "/v1/embeddings",
        ask: |prompt, _| json!({"model": "alpha", "input": prompt}),
        form: Form::OpenAi,
    },
];

/// Those that the hub answers itself.
pub(crate) const LOOKS: [Door; 3] = [
    Door {
        path: "/v1/messages/count_tokens",
        ask: messages,
        form: Form::Anthropic,
    },
    Door {
        path: "/v1/responses/input_tokens",
        ask: |prompt, _| json!({"model": "alpha", "input": prompt}),
        form: Form::OpenAi,
    },
    Door {
        path: "/api/show",
        ask: |prompt, _| json!({"model": "alpha", "note": prompt}),
        form: Form::Ollama,
    },
];

impl Door {
    /// True if its answers may be streams.
    pub(crate) fn streams(&self) -> bool {
        (self.ask)("", true)["stream"] == true
    }

    /// The status that says that there is too much to do: Ollama's own server says 503.
    pub(crate) fn busy(&self) -> u16 {
        match self.form {
            Form::Ollama => 503,
            Form::OpenAi | Form::Anthropic => 429,
        }
    }

    pub(crate) fn post(&self, hub: &Hub, body: &Value, headers: &[(&str, &str)]) -> Answer {
        send(hub, "POST", self.path, headers, body.to_string().as_bytes())
    }

    #[track_caller]
    pub(crate) fn assert_refused(&self, answer: &Answer, status: u16, words: &[&str]) {
        let message = self.form.message(answer, status);
        for word in words {
            assert!(
                message.contains(word),
                "{}: no `{word}` in: {message}",
                self.path
            );
        }
    }
}

impl Form {
    /// The message of an error, which has all that its clients look for.
    #[track_caller]
    pub(crate) fn message(self, answer: &Answer, status: u16) -> String {
        assert_eq!(answer.status, status, "{}", answer.text());
        let message = match self {
            Self::OpenAi => error_of(answer)["message"].clone(),
            Self::Ollama => {
                let body = answer.json();
                assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
                body["error"].clone()
            }
            Self::Anthropic => {
                let body = answer.json();
                assert_eq!(body["type"], "error", "{body}");
                let kind = match status {
                    403 | 421 => "permission_error",
                    404 => "not_found_error",
                    413 => "request_too_large",
                    429 => "rate_limit_error",
                    503 => "overloaded_error",
                    500.. => "api_error",
                    _ => "invalid_request_error",
                };
                assert_eq!(body["error"]["type"], kind, "{body}");
                body["error"]["message"].clone()
            }
        };
        message.as_str().expect("a text").to_owned()
    }
}

fn send(hub: &Hub, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let reply = hub.http.send(method, path, headers, body);
    reply.and_then(Reply::whole).unwrap()
}

#[test]
fn a_request_that_gets_nowhere_is_told_so_in_the_form_of_its_api() {
    let yaml = format!("max_body_mb: 1\n{}", alpha_in("jit", &[]));
    let hub = Hub::start(&yaml);
    for door in TRANSLATED
        .iter()
        .chain(&OTHERS)
        .chain(&PASSED)
        .chain(&LOOKS)
    {
        let body = (door.ask)("hello", true);
        let refused = |headers: &[(&str, &str)], status, words: &[&str]| {
            door.assert_refused(&door.post(&hub, &body, headers), status, words);
        };
        // By the server.
        refused(
            &[("origin", "https://evil.example")],
            403,
            &["https://evil.example", "allowed_origins"],
        );
        refused(&[("sec-fetch-site", "cross-site")], 403, &[]);
        let rebound = [("host", "evil.example"), ("user-agent", "Mozilla/5.0")];
        refused(&rebound, 421, &["evil.example", "allowed_hosts"]);
        let traced = send(&hub, "TRACE", door.path, &[], b"");
        door.assert_refused(&traced, 405, &["TRACE"]);
        // By the gateway.
        let got = send(&hub, "GET", door.path, &[], b"");
        door.assert_refused(&got, 405, &["GET", "POST"]);
        assert_eq!(got.header("allow"), Some("POST"), "{}", door.path);
        refused(&[("content-encoding", "br")], 415, &["`br`", "zstd"]);
        refused(&[("content-encoding", "gzip")], 400, &["gzip"]);
        let large = (door.ask)(&"x".repeat(2 << 20), false);
        let large = door.post(&hub, &large, &[]);
        door.assert_refused(&large, 413, &["1 MiB", "`max_body_mb`"]);
        let broken = send(&hub, "POST", door.path, &[], b"{\"messages\": ");
        door.assert_refused(&broken, 400, &["not valid JSON"]);
        if door.path.ends_with("tokens") {
            // An estimate is of no model.
            continue;
        }
        let mut unknown = body.clone();
        unknown["model"] = json!("alpah");
        let unknown = door.post(&hub, &unknown, &[]);
        door.assert_refused(&unknown, 404, &["`alpah`", "`alpha`"]);
    }
    for (path, form) in [
        ("/v1/messages/batches", Form::Anthropic),
        ("/v1/v1/messages", Form::Anthropic),
        ("/messages", Form::Anthropic),
        ("/api/nosuch", Form::Ollama),
        ("/api/v1/chat/completions", Form::OpenAi),
        ("/v1/nosuch", Form::OpenAi),
    ] {
        form.message(&send(&hub, "POST", path, &[], b""), 404);
    }
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    assert!(hub.record.requests(CHAT).is_empty());
}

/// The statuses in the log of the requests to that path.
fn logged(hub: &Hub, path: &str) -> Vec<String> {
    let log = std::fs::read_to_string(hub.logs().join("app.log")).unwrap();
    let path = format!("path=\"{path}\"");
    let lines = log.lines().filter(|line| line.contains(&path));
    let status = |line: &str| line.split("status=").nth(1).unwrap()[..3].to_owned();
    lines.map(status).collect()
}

#[test]
fn an_answer_that_is_no_chat_completion_is_a_502_and_counts_as_one() {
    for (answer, words) in [
        ("200 {\"ok\": true}", "no chat completion"),
        ("200 <html>", "no chat completion"),
        ("200 {\"choices\": []}", "no chat completion"),
        // A worker's 404 is about none of the models of the hub.
        (
            "404 {\"error\": {\"message\": \"no such thing\"}}",
            "no such thing",
        ),
        (
            "405 {\"detail\": \"Method Not Allowed\"}",
            "Method Not Allowed",
        ),
    ] {
        let yaml = alpha_in("jit", &["--answer", answer]);
        let hub = Hub::start(&format!("log_level: DEBUG\n{yaml}"));
        for door in &TRANSLATED {
            for stream in [false, true] {
                let answer = door.post(&hub, &(door.ask)("hello", stream), &[]);
                door.assert_refused(&answer, 502, &[words]);
                assert!(answer.header("server-timing").is_some());
            }
            wait_until("the log", SOON, || logged(&hub, door.path).len() == 2);
            assert_eq!(logged(&hub, door.path), ["502", "502"], "{}", door.path);
        }
    }
}

#[test]
fn a_worker_that_cannot_chat_is_no_unknown_model() {
    let answer = "404 {\"detail\":\"Not Found\"}";
    let hub = Hub::start(&alpha_in("jit", &["--undescribed", "--answer", answer]));
    for door in &TRANSLATED {
        // Once found out by its worker, then known.
        for _ in 0..2 {
            let answer = door.post(&hub, &(door.ask)("hello", false), &[]);
            door.assert_refused(&answer, 400, &["`alpha`", CHAT]);
        }
    }
    assert_eq!(hub.record.requests(CHAT).len(), 1);
}

#[test]
fn an_answer_has_the_schema_that_its_client_asks_for() {
    // It has no Responses API, so that each of them is translated.
    let hub = Hub::start(&alpha_in("jit", &[]));
    let schema = json!({
        "type": "object", "required": ["city", "people"],
        "properties": {"city": {"const": "Ulm"}, "people": {"type": "integer", "default": 7}},
    });
    let named = json!({"type": "json_schema", "name": "town", "schema": schema});
    for (door, field, value, place) in [
        (
            &TRANSLATED[0],
            "output_config",
            json!({"format": named}),
            "/content/0/text",
        ),
        (
            &TRANSLATED[1],
            "text",
            json!({"format": named}),
            "/output/0/content/0/text",
        ),
        (&TRANSLATED[2], "format", schema.clone(), "/message/content"),
        (&TRANSLATED[3], "format", schema.clone(), "/response"),
    ] {
        let mut body = (door.ask)("a town", false);
        body[field] = value;
        let answer = door.post(&hub, &body, &[]).json();
        let text = answer.pointer(place).and_then(Value::as_str);
        let town: Value = serde_json::from_str(text.unwrap_or_default()).unwrap_or_default();
        let path = door.path;
        assert_eq!(
            town,
            json!({"city": "Ulm", "people": 7}),
            "{path}: {answer}"
        );
    }
}

#[test]
fn a_workers_own_refusal_keeps_its_status() {
    let hub = Hub::start(&alpha(&["--answer", "400 {\"detail\": \"too long\"}"]));
    for door in TRANSLATED
        .iter()
        .filter(|door| door.path != "/v1/responses")
    {
        let answer = door.post(&hub, &(door.ask)("hello", true), &[]);
        door.assert_refused(&answer, 400, &["too long"]);
    }
}
