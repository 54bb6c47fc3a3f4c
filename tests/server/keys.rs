//! API keys: which door opens to which key, and what no key gets past.

use std::time::{SystemTime, UNIX_EPOCH};

use mlx_openai_server_hub::config::KeyDigest;
use serde_json::{Value, json};

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, processes, stub, wait_until};
use crate::{CHAT, alpha};

pub(crate) const USE: &str = "a-key-that-may-use-the-models";
pub(crate) const CONTROL: &str = "a-key-that-may-control-the-hub";
const LIMITED: &str = "a-key-for-one-model-alone";
const BY_NAME: &str = "a-key-for-the-name-of-a-policy";
const EXPIRED: &str = "a-key-whose-time-is-over";
const IN_A_FILE: &str = "a-key-that-lies-in-a-file";
const WRONG: &str = "a-key-that-nobody-has-made";

/// An entry of `api_keys` with the hash of a key.
fn entry(name: &str, key: &str, more: &str) -> String {
    let hash = KeyDigest::of(key.as_bytes()).to_hex();
    format!("- {{name: {name}, sha256: {hash}{more}}}\n")
}

pub(crate) fn keys() -> String {
    let entries = [
        entry("user", USE, ""),
        entry("owner", CONTROL, ", may: [use, control]"),
        entry("limited", LIMITED, ", models: [alpha]"),
        entry("by-name", BY_NAME, ", models: ['fa*']"),
        entry("old", EXPIRED, ", may: [use, control], expires: 2001-01-01"),
        "- {name: unset, env: NO_SUCH_VARIABLE_OF_THE_HUB, may: [use, control]}\n".to_owned(),
        "- {name: gone, file: no-such-file, may: [use, control]}\n".to_owned(),
        "- {name: filed, file: key.txt}\n".to_owned(),
    ];
    format!("api_keys:\n{}", entries.concat())
}

/// Two models, and a policy that answers for `fast`.
fn models() -> String {
    format!(
        "worker_command: {}\npolicies: [create_hub, alias]\npolicy: {{alias: {{names: {{fast: beta}}}}}}\nmodels:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, jit_enabled: true, default: true}}\n",
        stub(&[])
    )
}

fn hub() -> Hub {
    let yaml = format!("log_level: debug\n{}{}", keys(), models());
    Hub::start_with(&yaml, &[("key.txt", &format!("{IN_A_FILE}\n"))])
}

fn send(hub: &Hub, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut all = vec![("content-type", "application/json")];
    all.extend(headers);
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let sent = hub.http.send(method, path, &all, body.as_bytes());
    sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

pub(crate) fn ask(hub: &Hub, key: &str, method: &str, path: &str, body: &Value) -> Answer {
    let value = bearer(key);
    let reply = send(hub, method, path, &[("authorization", &value)], body);
    reply.whole().unwrap()
}

fn get(hub: &Hub, key: &str, path: &str) -> Answer {
    ask(hub, key, "GET", path, &Value::Null)
}

/// The form of an API's errors.
#[derive(Debug, Clone, Copy)]
enum Form {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Form {
    /// The message of an error of this form.
    #[track_caller]
    fn message(self, answer: &Answer, kind: (&str, &str)) -> String {
        let body = answer.json();
        let message = match self {
            Self::OpenAi => {
                assert_eq!(body["error"]["type"], kind.0, "{body}");
                &body["error"]["message"]
            }
            Self::Anthropic => {
                assert_eq!(body["type"], "error", "{body}");
                assert_eq!(body["error"]["type"], kind.1, "{body}");
                &body["error"]["message"]
            }
            Self::Ollama => &body["error"],
        };
        message
            .as_str()
            .unwrap_or_else(|| panic!("{body}"))
            .to_owned()
    }
}

const NEEDS_A_KEY: (&str, &str) = ("invalid_request_error", "authentication_error");
const MAY_NOT: (&str, &str) = ("permission_error", "permission_error");

/// A request, with the form of its errors.
type Door = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    Form,
);

/// A request of each door to the models.
fn doors() -> Vec<Door> {
    use Form::{Anthropic, Ollama, OpenAi};
    vec![
        ("GET", "/v1/models", &[], OpenAi),
        (
            "GET",
            "/v1/models",
            &[("anthropic-version", "2023-06-01")],
            Anthropic,
        ),
        ("GET", "/v1/models/alpha", &[], OpenAi),
        ("POST", CHAT, &[], OpenAi),
        ("POST", "/v1/completions", &[], OpenAi),
        ("POST", "/v1/embeddings", &[], OpenAi),
        ("POST", "/v1/responses", &[], OpenAi),
        ("POST", "/v1/responses/input_tokens", &[], OpenAi),
        ("POST", "/v1/messages", &[], Anthropic),
        ("POST", "/v1/messages/count_tokens", &[], Anthropic),
        ("GET", "/v1/nosuch", &[], OpenAi),
        ("GET", "/v1/v1/models", &[], OpenAi),
        ("POST", "/api/chat", &[], Ollama),
        ("POST", "/api/generate", &[], Ollama),
        ("POST", "/api/show", &[], Ollama),
        ("POST", "/api/embed", &[], Ollama),
        ("POST", "/api/embeddings", &[], Ollama),
        ("GET", "/api/ps", &[], Ollama),
        ("GET", "/api/tags", &[], Ollama),
        ("GET", "/api/version", &[], Ollama),
        ("GET", "/api/v0/models", &[], OpenAi),
        ("POST", "/api/v0/chat/completions", &[], OpenAi),
        ("GET", "/upstream/alpha/v1/models", &[], OpenAi),
    ]
}

/// A request of each part of the hub's control.
const CONTROLS: [(&str, &str); 13] = [
    ("GET", "/hub"),
    ("GET", "/hub/"),
    ("GET", "/hub/status"),
    ("GET", "/hub/events"),
    ("GET", "/hub/logs"),
    ("GET", "/hub/models/alpha/logs"),
    ("GET", "/hub/requests"),
    ("GET", "/hub/policies"),
    ("POST", "/hub/reload"),
    ("POST", "/hub/models/alpha/load"),
    ("POST", "/hub/models/unload-all"),
    ("GET", "/hub/nosuch"),
    ("GET", "/metrics"),
];

#[test]
fn without_a_good_key_every_door_is_closed_in_its_own_words() {
    let hub = hub();
    let bad = [
        (None, "wants an API key"),
        (Some(WRONG), "none of this hub's"),
        (Some(EXPIRED), "`old` has expired"),
        (Some(""), "wants an API key"),
    ];
    for (key, words) in bad {
        let value = key.map(bearer);
        for (method, path, headers, form) in doors() {
            let mut headers = headers.to_vec();
            headers.extend(value.as_deref().map(|value| ("authorization", value)));
            let answer = send(&hub, method, path, &headers, &Value::Null)
                .whole()
                .unwrap();
            assert_eq!(
                answer.status,
                401,
                "{method} {path} {key:?}: {}",
                answer.text()
            );
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
            let message = form.message(&answer, NEEDS_A_KEY);
            assert!(message.contains(words), "{path}: {message}");
        }
        for (method, path) in CONTROLS {
            let headers: Vec<_> = value
                .iter()
                .map(|value| ("authorization", value.as_str()))
                .collect();
            let answer = send(&hub, method, path, &headers, &Value::Null)
                .whole()
                .unwrap();
            assert_eq!(
                answer.status,
                401,
                "{method} {path} {key:?}: {}",
                answer.text()
            );
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
        }
    }
    // None of them has reached a worker.
    assert_eq!(hub.record.events("request").len(), 0);
}

#[test]
fn a_key_opens_the_doors_that_it_may() {
    let hub = hub();
    for key in [USE, CONTROL, LIMITED, IN_A_FILE] {
        for header in ["authorization", "x-api-key"] {
            let value = if header == "authorization" {
                bearer(key)
            } else {
                key.to_owned()
            };
            for (method, path, headers, _) in doors() {
                let mut headers = headers.to_vec();
                headers.push((header, &value));
                let body = match method {
                    "POST" => {
                        json!({"model": "alpha", "max_tokens": 1, "stream": false, "input": "a",
                        "prompt": "a", "messages": [{"role": "user", "content": "a"}]})
                    }
                    _ => Value::Null,
                };
                let answer = send(&hub, method, path, &headers, &body).whole().unwrap();
                let status = answer.status;
                assert!(
                    ![401, 403].contains(&status),
                    "{path} {key}: {}",
                    answer.text()
                );
            }
        }
    }
    for (method, path) in CONTROLS {
        for (key, may) in [
            (USE, false),
            (LIMITED, false),
            (IN_A_FILE, false),
            (CONTROL, true),
        ] {
            let value = bearer(key);
            let reply = send(
                &hub,
                method,
                path,
                &[("authorization", &value)],
                &Value::Null,
            );
            let is_open = ![401, 403].contains(&reply.status);
            assert_eq!(is_open, may, "{method} {path} {key}");
            if !may {
                assert_eq!(reply.status, 403, "{method} {path}");
                let answer = reply.whole().unwrap();
                let message = Form::OpenAi.message(&answer, MAY_NOT);
                assert!(message.contains("may: [use, control]"), "{message}");
            }
        }
    }
    for path in ["/health", "/", "/openapi.json", "/favicon.ico"] {
        let status = hub.http.get(path).status;
        assert!(status < 400, "{path}: {status}");
    }
}

#[test]
fn a_wrong_key_beside_a_right_one_does_no_harm() {
    let hub = hub();
    let (right, wrong) = (bearer(USE), bearer(WRONG));
    for headers in [
        [("authorization", right.as_str()), ("x-api-key", WRONG)],
        [("authorization", wrong.as_str()), ("x-api-key", USE)],
    ] {
        let answer = send(&hub, "GET", "/v1/models", &headers, &Value::Null);
        assert_eq!(answer.status, 200, "{headers:?}");
    }
}

#[test]
fn a_key_for_some_models_uses_no_other_and_sees_no_other() {
    let hub = hub();
    let chat = |model: &str| {
        json!({"model": model, "max_tokens": 1, "stream": false,
            "messages": [{"role": "user", "content": "a"}]})
    };
    for (path, form) in [
        (CHAT, Form::OpenAi),
        ("/v1/responses", Form::OpenAi),
        ("/api/v0/chat/completions", Form::OpenAi),
        ("/v1/messages", Form::Anthropic),
        ("/v1/messages/count_tokens", Form::Anthropic),
        ("/api/chat", Form::Ollama),
        ("/api/show", Form::Ollama),
    ] {
        let mut body = chat("beta");
        body["input"] = "a".into();
        let answer = ask(&hub, LIMITED, "POST", path, &body);
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        let message = form.message(&answer, MAY_NOT);
        assert_eq!(
            message, "The API key `limited` may not use the model `beta`. It may use `alpha`.",
            "{path}"
        );
        body["model"] = "alpha".into();
        assert_ne!(
            ask(&hub, LIMITED, "POST", path, &body).status,
            403,
            "{path}"
        );
    }
    for path in [
        "/v1/models/beta",
        "/api/v0/models/beta",
        "/upstream/beta/v1/models",
    ] {
        assert_eq!(get(&hub, LIMITED, path).status, 403, "{path}");
    }
    // A path is no way around the name, nor is a policy.
    assert_eq!(
        ask(&hub, LIMITED, "POST", CHAT, &chat("org/beta")).status,
        403
    );
    assert_eq!(ask(&hub, LIMITED, "POST", CHAT, &chat("fast")).status, 403);
    assert_eq!(hub.record.count("load", "beta"), 0);
    // A name of a policy's goes where the policy says, and the model by its own name is another matter.
    assert_eq!(ask(&hub, BY_NAME, "POST", CHAT, &chat("fast")).status, 200);
    assert_eq!(ask(&hub, BY_NAME, "POST", CHAT, &chat("beta")).status, 403);

    let names = |key: &str, path: &str, list: &str, name: &str| -> Vec<String> {
        let answer = get(&hub, key, path).json();
        let rows = answer[list]
            .as_array()
            .unwrap_or_else(|| panic!("{path}: {answer}"));
        rows.iter()
            .map(|row| row[name].as_str().unwrap().to_owned())
            .collect()
    };
    for (path, list, name) in [
        ("/v1/models", "data", "id"),
        ("/api/v0/models", "data", "id"),
        ("/api/tags", "models", "model"),
    ] {
        assert_eq!(
            names(USE, path, list, name),
            ["alpha", "beta", "fast"],
            "{path}"
        );
        assert_eq!(names(LIMITED, path, list, name), ["alpha"], "{path}");
        assert_eq!(names(BY_NAME, path, list, name), ["fast"], "{path}");
    }
    assert_eq!(names(LIMITED, "/api/ps", "models", "model"), ["alpha"]);
    let version = [("anthropic-version", "2023-06-01"), ("x-api-key", LIMITED)];
    let list = send(&hub, "GET", "/v1/models", &version, &Value::Null)
        .whole()
        .unwrap();
    let list = list.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["data"][0]["id"], "alpha");
}

#[test]
fn no_worker_log_status_page_recording_or_list_of_processes_has_a_key() {
    let hub = hub();
    let recording = hub.folder().join("calls.jsonl");
    let (path, file) = ("/hub/policies/recording", json!({ "file": recording }));
    let begun = ask(&hub, CONTROL, "POST", &format!("{path}/start"), &file);
    assert_eq!(begun.status, 200, "{}", begun.text());
    let body =
        json!({"model": "alpha", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]});
    let value = bearer(CONTROL);
    let headers = [
        ("authorization", value.as_str()),
        ("x-api-key", USE),
        ("cookie", "mlx_hub_session=not-for-workers"),
    ];
    let answer = send(&hub, "POST", CHAT, &headers, &body).whole().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let upstream = send(
        &hub,
        "GET",
        "/upstream/alpha/v1/models",
        &headers,
        &Value::Null,
    );
    assert_eq!(upstream.whole().unwrap().status, 200);
    get(&hub, WRONG, "/v1/models");
    let arrived = hub.record.events("request");
    assert!(arrived.len() >= 2, "{arrived:?}");
    for request in &arrived {
        for name in ["authorization", "x-api-key", "cookie"] {
            assert!(request["headers"].get(name).is_none(), "{request}");
        }
    }
    wait_until("the request to be recorded", SOON, || {
        std::fs::read_to_string(&recording).is_ok_and(|text| text.contains("request.finished"))
    });
    ask(&hub, CONTROL, "POST", &format!("{path}/stop"), &Value::Null);
    let listed = ["org/alpha", hub.config().to_str().unwrap()].map(processes::with_argument);
    assert!(listed.iter().all(|lines| !lines.is_empty()), "{listed:?}");
    let mut told = vec![
        (
            "the record of the worker",
            std::fs::read_to_string(hub.record.path()).unwrap(),
        ),
        (
            "the recording",
            std::fs::read_to_string(&recording).unwrap(),
        ),
        ("the list of processes", listed.concat().join("\n")),
    ];
    for path in [
        "/hub/status",
        "/hub",
        "/hub/logs",
        "/hub/requests",
        "/metrics",
    ] {
        told.push((path, get(&hub, CONTROL, path).text()));
    }
    for log in std::fs::read_dir(hub.logs()).unwrap() {
        let bytes = std::fs::read(log.unwrap().path()).unwrap_or_default();
        told.push((
            "a file of the log folder",
            String::from_utf8_lossy(&bytes).into_owned(),
        ));
    }
    let hash = KeyDigest::of(CONTROL.as_bytes()).to_hex();
    for (place, text) in told {
        for secret in [
            USE,
            CONTROL,
            LIMITED,
            IN_A_FILE,
            WRONG,
            &hash,
            "not-for-workers",
        ] {
            assert!(!text.contains(secret), "{place} has {secret}");
        }
    }
}

#[test]
fn a_reload_changes_who_is_let_in_at_once() {
    let hub = Hub::start(&models());
    assert_eq!(hub.http.get("/v1/models").status, 200);
    hub.configure(&format!("{}{}", keys(), models()));
    assert_eq!(hub.http.post("/hub/reload", &Value::Null).status, 200);
    assert_eq!(hub.http.get("/v1/models").status, 401);
    assert_eq!(hub.http.get("/hub/status").status, 401);
    assert_eq!(get(&hub, USE, "/v1/models").status, 200);
    let changed = entry("owner", CONTROL, ", may: [use, control]");
    hub.configure(&format!("api_keys:\n{changed}{}", models()));
    assert_eq!(
        ask(&hub, CONTROL, "POST", "/hub/reload", &Value::Null).status,
        200
    );
    assert_eq!(get(&hub, USE, "/v1/models").status, 401);
    hub.configure(&models());
    assert_eq!(
        ask(&hub, CONTROL, "POST", "/hub/reload", &Value::Null).status,
        200
    );
    assert_eq!(hub.http.get("/v1/models").status, 200);
}

#[test]
fn a_key_is_good_until_its_time_and_no_longer() {
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
    };
    let end = now() + 4;
    let moment = jiff::Timestamp::from_second(i64::try_from(end).unwrap()).unwrap();
    let key = entry("short", USE, &format!(", expires: '{moment}'"));
    let hub = Hub::start(&format!("api_keys:\n{key}{}", alpha(&[])));
    let answer = get(&hub, USE, "/v1/models");
    // On a machine that took longer than that to start a hub there is nothing to see before the end.
    if now() < end {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    wait_until("the end of the key", SOON, || {
        get(&hub, USE, "/v1/models").status == 401
    });
    assert!(now() >= end);
}

#[test]
fn a_key_that_cannot_be_read_lets_nobody_in_and_is_told() {
    let hub = hub();
    let warnings = get(&hub, CONTROL, "/hub/status").json()["warnings"].to_string();
    for told in [
        "key `unset`: the environment variable NO_SUCH_VARIABLE_OF_THE_HUB is not set: the key lets nobody in",
        "key `gone`: `",
        "no-such-file` cannot be read: No such file or directory (os error 2): the key lets nobody in",
        "key `old`: it has expired, and lets nobody in any more",
    ] {
        assert!(warnings.contains(told), "no `{told}` in {warnings}");
    }
    let checked = hub.run(&["check"]);
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.contains("NO_SUCH_VARIABLE_OF_THE_HUB is not set"),
        "{checked}"
    );
    // With none that can be read the hub is closed, and not open.
    let lonely =
        "api_keys: [{name: unset, env: NO_SUCH_VARIABLE_OF_THE_HUB, may: [use, control]}]\n";
    let closed = Hub::start(&format!("{lonely}{}", alpha(&[])));
    for key in ["", "NO_SUCH_VARIABLE_OF_THE_HUB", WRONG] {
        assert_eq!(get(&closed, key, "/v1/models").status, 401, "{key}");
        assert_eq!(get(&closed, key, "/hub/status").status, 401, "{key}");
    }
}

#[test]
fn a_page_that_may_read_answers_is_told_that_it_needs_a_key() {
    let hub = hub();
    let origin = "http://localhost:3000";
    let refused = send(
        &hub,
        "GET",
        "/v1/models",
        &[("origin", origin)],
        &Value::Null,
    );
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
    let preflight = [
        ("origin", origin),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization"),
    ];
    // A browser sends no key with it.
    assert_eq!(
        send(&hub, "OPTIONS", CHAT, &preflight, &Value::Null).status,
        204
    );
    // A key is no pass for a page that may not control the hub.
    let value = bearer(CONTROL);
    let foreign = [
        ("origin", "https://evil.example"),
        ("authorization", value.as_str()),
    ];
    assert_eq!(
        send(&hub, "POST", "/hub/reload", &foreign, &Value::Null).status,
        403
    );
}

#[test]
fn a_policy_sees_the_name_of_a_key_and_never_the_key() {
    let policy = "hub.on('request.finished', function(event, hub) hub.state.last = tostring(event.key) end)
return { on_request = function(req, hub)
  if req.body and req.body.ask then
    local told = { tostring(req.key), tostring(hub.state.last) }
    for name, value in pairs(req.headers) do
      if name ~= 'x-other' and (value:find('key', 1, true) or name == 'cookie') then table.insert(told, name) end
    end
    return hub.reject{ status = 418, message = table.concat(told, ' ') }
  end
end }";
    let yaml = format!("{}{}", keys(), alpha(&[]));
    let hub = Hub::start_with(&yaml, &[("told.lua", policy), ("key.txt", IN_A_FILE)]);
    let value = bearer(USE);
    let headers = [
        ("authorization", value.as_str()),
        ("x-api-key", CONTROL),
        ("cookie", "a=b"),
    ];
    let chat =
        json!({"model": "alpha", "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]});
    let answer = send(&hub, "POST", CHAT, &headers, &chat).whole().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let ask = json!({"model": "alpha", "ask": true});
    wait_until("the policy to hear of the request", SOON, || {
        let told = send(&hub, "POST", CHAT, &headers, &ask).whole().unwrap();
        told.json()["error"]["message"] == "user user"
    });
}
