//! What arrives at the worker for every endpoint that a client may know.

use serde_json::{Value, json};

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, stub};
use crate::{DIALECTS, assert_error};

/// Two models whose workers have the names that tests look for.
fn two(dialect: &str) -> Hub {
    Hub::start(&format!(
        "worker_command: {}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, jit_enabled: true, default: true}}\n",
        // It says that it serves all of them, or the hub would refuse what it does not.
        stub(&[
            "--dialect",
            dialect,
            "--tokens",
            "3",
            "--describes",
            "/v1/{rest}"
        ])
    ))
}

fn send(hub: &Hub, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
    let headers: &[(&str, &str)] = if body.is_empty() {
        &[]
    } else {
        &[("content-type", kind)]
    };
    hub.http
        .send(method, path, headers, body)
        .and_then(Reply::whole)
        .unwrap()
}

/// The requests that have arrived at workers, without the hub's own: health checks and loads.
fn arrived(hub: &Hub) -> Vec<Value> {
    let mut requests = hub.record.events("request");
    requests.retain(|request| {
        let path = request["path"].as_str().unwrap();
        let loads = path == "/v1/queue/stats" && request["query"].is_null();
        !loads && path != "/health" && path != "/v1/models"
    });
    requests
}

fn form(model: &str) -> String {
    format!(
        "--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nRIFF\r\n\
         --B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{model}\r\n--B--\r\n"
    )
}

#[test]
fn every_endpoint_reaches_the_worker_of_the_model_it_names() {
    for dialect in DIALECTS {
        let hub = two(dialect);
        let mut expected = Vec::new();
        for model in ["alpha", "beta"] {
            let mut json = |path: &str, rest: &str| {
                let body = format!("{{\"model\":\"{model}\",{rest}}}");
                send(&hub, "POST", path, "application/json", body.as_bytes());
                expected.push((model, "POST".to_owned(), path.to_owned(), body));
            };
            json(
                "/v1/chat/completions",
                r#""messages":[{"role":"user","content":"x"}]"#,
            );
            json("/v1/completions", r#""prompt":"x""#);
            json("/v1/responses", r#""input":"x""#);
            json("/v1/embeddings", r#""input":["x"]"#);
            json("/v1/rerank", r#""query":"x","documents":["y"]"#);
            json("/v1/images/generations", r#""prompt":"x""#);
            json("/v1/audio/speech", r#""input":"x","voice":"alloy""#);
            json("/v1/moderations", r#""input":"x""#);
            json("/v1/something/new", r#""x":1"#);
            for path in [
                "/v1/images/edits",
                "/v1/audio/transcriptions",
                "/v1/audio/translations",
            ] {
                let form = form(model);
                send(
                    &hub,
                    "POST",
                    path,
                    "multipart/form-data; boundary=B",
                    form.as_bytes(),
                );
                expected.push((model, "POST".to_owned(), path.to_owned(), form));
            }
            for (method, path) in [
                ("GET", "/v1/queue/stats"),
                ("GET", "/v1/files"),
                ("DELETE", "/v1/files/f-1"),
                ("PUT", "/v1/something/new"),
            ] {
                send(&hub, method, &format!("{path}?x=1&model={model}"), "", b"");
                expected.push((model, method.to_owned(), path.to_owned(), String::new()));
            }
        }
        let arrived: Vec<_> = arrived(&hub)
            .iter()
            .map(|request| {
                let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
                // A worker is recorded under its served name, or else its path.
                let model = text("model").replace("org/", "");
                (model, text("method"), text("path"), text("body"))
            })
            .collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(model, method, path, body)| (model.to_owned(), method, path, body))
            .collect();
        assert_eq!(arrived, expected, "{dialect}");
    }
}

#[test]
fn a_response_is_asked_for_at_the_model_that_made_it() {
    let hub = two("1.8.1");
    let make = |model: &str| {
        let made = hub
            .http
            .post("/v1/responses", &json!({"model": model, "input": "x"}));
        made.json()["id"].as_str().unwrap().to_owned()
    };
    let (of_alpha, of_beta) = (make("alpha"), make("org/beta"));
    let before = arrived(&hub).len();
    for (method, below) in [
        ("GET", ""),
        ("GET", "?include=x"),
        ("GET", "/input_items?limit=2"),
        ("POST", "/cancel"),
        ("DELETE", ""),
    ] {
        for id in [&of_alpha, &of_beta] {
            // The simulated worker has no such route: the answer is its own.
            let answer = send(&hub, method, &format!("/v1/responses/{id}{below}"), "", b"");
            assert_eq!(
                answer.json(),
                json!({"detail": "Not Found"}),
                "{method} {below}"
            );
        }
    }
    let arrived = &arrived(&hub)[before..];
    assert_eq!(arrived.len(), 10);
    for pair in arrived.chunks(2) {
        assert_eq!(
            (&pair[0]["model"], &pair[1]["model"]),
            (&json!("alpha"), &json!("beta"))
        );
        assert!(pair[0]["path"].as_str().unwrap().contains(&of_alpha));
        assert!(pair[1]["path"].as_str().unwrap().contains(&of_beta));
    }
    assert_eq!(
        arrived[4]["path"],
        format!("/v1/responses/{of_alpha}/input_items")
    );
    assert_eq!(arrived[4]["query"], "limit=2");
}

#[test]
fn a_response_that_nobody_made_is_a_404_unless_its_model_is_named() {
    let hub = two("1.8.1");
    let answer = send(&hub, "GET", "/v1/responses/resp_unknown", "", b"");
    assert_error(
        &answer,
        404,
        "invalid_request_error",
        "404",
        &["`resp_unknown`", "?model="],
    );
    assert_eq!(arrived(&hub).len(), 0);
    let answer = send(
        &hub,
        "DELETE",
        "/v1/responses/resp_unknown?model=beta",
        "",
        b"",
    );
    assert_eq!(answer.json(), json!({"detail": "Not Found"}));
    assert_eq!(arrived(&hub)[0]["model"], "beta");
}

#[test]
fn a_workers_own_routes_are_reached_below_upstream() {
    for dialect in DIALECTS {
        let hub = two(dialect);
        // It loads the model as a request does.
        let stats = send(
            &hub,
            "GET",
            "/upstream/alpha/v1/queue/stats?x=%20y",
            "",
            b"",
        );
        assert_eq!(stats.json()["status"], "ok", "{}", stats.text());
        assert_eq!(hub.model("alpha")["memory_state"], "loaded");
        assert_eq!(hub.model("beta")["memory_state"], "unloaded");
        send(
            &hub,
            "PATCH",
            "/upstream/org%2Fbeta/a/b%2Fc",
            "text/plain",
            b"{\"model\":\"alpha\"}",
        );
        send(&hub, "DELETE", "/upstream/beta", "", b"");
        let arrived: Vec<Value> = arrived(&hub)
            .iter()
            .map(|request| {
                let model = request["model"].as_str().unwrap().replace("org/", "");
                json!([
                    model,
                    request["method"],
                    request["path"],
                    request["query"],
                    request["body"]
                ])
            })
            .collect();
        assert_eq!(
            arrived,
            [
                json!(["alpha", "GET", "/v1/queue/stats", "x=%20y", ""]),
                json!(["beta", "PATCH", "/a/b%2Fc", null, "{\"model\":\"alpha\"}"]),
                json!(["beta", "DELETE", "/", null, ""]),
            ],
            "{dialect}"
        );
        let unknown = send(&hub, "GET", "/upstream/nosuch/health", "", b"");
        assert_error(
            &unknown,
            404,
            "invalid_request_error",
            "model_not_found",
            &["`nosuch`"],
        );
        for path in ["/upstream", "/upstream/"] {
            assert_error(
                &send(&hub, "GET", path, "", b""),
                404,
                "invalid_request_error",
                "404",
                &[path],
            );
        }
    }
}

#[test]
fn a_web_page_may_not_change_a_worker() {
    let hub = two("1.8.1");
    let headers = [("origin", "https://evil.example")];
    let answer = hub
        .http
        .send("POST", "/upstream/alpha/reset", &headers, b"")
        .and_then(Reply::whole)
        .unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    let headers = [("host", "evil.example"), ("user-agent", "Mozilla/5.0")];
    let answer = hub
        .http
        .send("GET", "/upstream/alpha/health", &headers, b"")
        .and_then(Reply::whole)
        .unwrap();
    assert_eq!(answer.status, 421, "{}", answer.text());
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
}
