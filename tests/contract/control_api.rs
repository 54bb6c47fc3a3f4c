//! Section 4: the HTTP control API.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::Home;
use crate::home::JIT;
use crate::support::http::Answer;

/// Like the models of the recordings: JIT, plain, one that cannot load; `a` and `b` share a cap.
fn three() -> String {
    format!(
        "groups: [{{name: small, max_loaded: 1}}]\n\
         models:\n\
         - {{name: a, model_path: org/a, jit_enabled: true, group: small, worker_command: {JIT}}}\n\
         - {{name: b, model_path: org/b, group: small}}\n\
         - {{name: d, model_path: org/d, env: {{STUB_FAIL_LOAD: 'true'}}}}\n"
    )
}

/// The answer is an error in the one form, and its message has this.
#[track_caller]
fn assert_error(answer: &Answer, status: u16, kind: &str, part: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    let error = body["error"].as_object().unwrap();
    let keys: Vec<_> = error.keys().collect();
    assert_eq!(keys, ["message", "type", "param", "code"], "{body}");
    assert!(error["code"].is_string(), "{body}");
    assert_eq!(error["type"], kind, "{body}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(part), "no `{part}` in: {message}");
}

#[track_caller]
fn assert_done(answer: &Answer, action: &str, model: &str) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["status"], "ok");
    assert_eq!(body["action"], action);
    assert_eq!(body["model"], model);
    assert!(body["message"].as_str().unwrap().contains(model), "{body}");
}

#[test]
fn health_is_that_of_a_controller() {
    let home = Home::started(&three());
    let health = home.http.get("/health");
    assert_eq!(
        health.text(),
        r#"{"status":"ok","model_id":null,"model_status":"controller"}"#
    );
}

#[test]
fn hub_is_the_page_with_and_without_a_slash_at_its_end() {
    let home = Home::started(&three());
    for path in ["/hub", "/hub/"] {
        let page = home.http.get(path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(
            page.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert!(
            page.text()
                .contains("<title>MLX Hub Status · MLX OpenAI Server</title>")
        );
    }
}

#[test]
fn every_answer_carries_a_request_id_and_its_time() {
    let home = Home::started(&three());
    for (method, path) in [
        ("GET", "/health"),
        ("GET", "/hub"),
        ("GET", "/hub/status"),
        ("GET", "/v1/models"),
        ("GET", "/nosuch"),
        ("PUT", "/hub/reload"),
        ("POST", "/hub/models/nosuch/start"),
        ("POST", "/v1/chat/completions"),
    ] {
        let theirs = [("x-request-id", "theirs-1")];
        let answer = home.http.send(method, path, &theirs, b"").unwrap();
        assert_eq!(answer.header("x-request-id"), Some("theirs-1"), "{path}");
        let time: f64 = answer.header("x-process-time").unwrap().parse().unwrap();
        assert!((0.0..30.0).contains(&time), "{path}: {time}");
        let ours = home.http.send(method, path, &[], b"").unwrap();
        assert!(!ours.header("x-request-id").unwrap().is_empty(), "{path}");
    }
}

#[test]
fn every_error_has_the_one_form() {
    let home = Home::started(&three());
    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        home.http
            .send(method, path, headers, body)
            .unwrap()
            .whole()
            .unwrap()
    };
    let invalid = "invalid_request_error";
    assert_error(&send("GET", "/nosuch", &[], b""), 404, invalid, "/nosuch");
    assert_error(&send("POST", "/", &[], b""), 405, invalid, "/");
    let not_allowed = send("GET", "/hub/models/a/start", &[], b"");
    assert_error(&not_allowed, 405, invalid, "GET");
    assert_error(&send("POST", "/hub/models/a", &[], b""), 404, invalid, "");
    let long = vec![b' '; 1 << 20];
    assert_error(&send("POST", "/hub/reload", &[], &long), 413, invalid, "");
    let foreign = [("origin", "http://evil.example")];
    let forbidden = send("POST", "/hub/reload", &foreign, b"");
    assert_error(&forbidden, 403, "permission_error", "evil.example");
    let rebound = send("GET", "/hub/status", &[("host", "evil.example")], b"");
    assert_error(&rebound, 421, invalid, "evil.example");
}

#[test]
fn verbs_answer_at_the_final_state_and_say_what_they_did() {
    let home = Home::started(&three());
    let state = |name| {
        let (process, memory) = home.states(name);
        format!("{process} {memory}")
    };
    for (model, action, after) in [
        ("a", "unload", "inactive unloaded"),
        ("a", "stop", "inactive unloaded"),
        ("a", "start", "running unloaded"),
        ("a", "start", "running unloaded"),
        ("a", "load", "running loaded"),
        ("a", "start", "running loaded"),
        ("a", "load", "running loaded"),
        ("a", "unload", "running unloaded"),
        ("a", "unload", "running unloaded"),
        ("a", "load", "running loaded"),
        ("a", "stop", "stopped unloaded"),
        ("a", "stop", "stopped unloaded"),
        ("b", "start", "running loaded"),
        ("b", "start", "running loaded"),
        ("b", "unload", "running unloaded"),
        ("b", "load", "running loaded"),
        ("b", "stop", "stopped unloaded"),
        ("b", "unload", "stopped unloaded"),
    ] {
        assert_done(&home.act(model, action), action, model);
        assert_eq!(state(model), after, "{action} {model}");
    }
    let again = home.act("b", "stop").json()["message"].clone();
    assert!(again.as_str().unwrap().contains("already"), "{again}");
}

#[test]
fn load_of_a_model_that_is_not_started_is_400_and_says_to_start_it() {
    let home = Home::started(&three());
    for path in ["load", "vram/load"] {
        assert_error(
            &home.act("a", path),
            400,
            "invalid_request_error",
            "Start it with",
        );
    }
    home.done("a", "start");
    home.done("a", "stop");
    assert_error(
        &home.act("a", "load"),
        400,
        "invalid_request_error",
        "Start it with",
    );
}

#[test]
fn the_vram_routes_are_load_and_unload() {
    let home = Home::started(&three());
    home.done("a", "start");
    let body = json!({"force": true, "timeout": 3});
    let load = home.http.post("/hub/models/a/vram/load", &body);
    assert_done(&load, "load", "a");
    assert_eq!(home.states("a").1, "loaded");
    let unload = home
        .http
        .post("/hub/models/a/vram/unload?force=true&timeout=3", &body);
    assert_done(&unload, "unload", "a");
    assert_eq!(home.states("a"), ("running".into(), "unloaded".into()));
}

#[test]
fn a_body_is_accepted_and_ignored() {
    let home = Home::started(&three());
    let json = [("content-type", "application/json")];
    for (path, headers, body) in [
        (
            "/hub/models/a/start",
            &json[..],
            &b"{\"reason\":\"dashboard\"}"[..],
        ),
        ("/hub/models/a/load", &[], b""),
        ("/hub/models/a/unload", &json, b"{broken"),
        (
            "/hub/models/a/stop",
            &[("content-type", "text/plain")],
            b"please",
        ),
        ("/hub/reload", &json, b"{\"reason\":\"dashboard\"}"),
    ] {
        let answer = home.http.send("POST", path, headers, body).unwrap();
        assert_eq!(answer.status, 200, "{path}");
    }
}

#[test]
fn a_name_is_percent_decoded_and_trimmed() {
    let home = Home::started(&three());
    for name in ["%61", "%20a%20", "a%09"] {
        assert_done(&home.act(name, "start"), "start", "a");
    }
    let invalid = "invalid_request_error";
    for verb in [
        "start",
        "stop",
        "load",
        "unload",
        "vram/load",
        "vram/unload",
    ] {
        for blank in ["", "%20%20"] {
            assert_error(&home.act(blank, verb), 400, invalid, "empty");
        }
        for unknown in ["nosuch", "A", "a%2Fb", "%ff"] {
            let answer = home.act(unknown, verb);
            // What is no UTF-8 can be no name.
            let status = if unknown == "%ff" { 400 } else { 404 };
            assert_error(&answer, status, invalid, "");
        }
    }
}

#[test]
fn a_load_over_the_cap_is_429_with_group_cap_and_holders() {
    let home = Home::started(&three());
    home.done("b", "start");
    home.done("a", "start");
    for _ in 0..2 {
        let refused = home.act("a", "load");
        assert_error(&refused, 429, "rate_limit_error", "`small`");
        for part in ["1", "b"] {
            assert!(refused.text().contains(part), "{part}: {}", refused.text());
        }
    }
    assert_eq!(home.states("a"), ("running".into(), "unloaded".into()));
    home.done("b", "unload");
    home.done("a", "load");
    assert_error(&home.act("b", "load"), 429, "rate_limit_error", "a");
}

#[test]
fn a_failed_load_is_503_with_model_and_reason() {
    let home = Home::started(&three());
    let failed = home.act("d", "start");
    assert_error(&failed, 503, "service_unavailable", "`d`");
    assert!(
        failed.text().contains("Failed to load model"),
        "{}",
        failed.text()
    );
    assert_eq!(home.states("d"), ("failed".into(), "failed".into()));
    // It is tried again, with the same result.
    assert_error(&home.act("d", "load"), 503, "service_unavailable", "`d`");
    assert_eq!(home.record.count("load", "d"), 2);
    home.done("d", "stop");
    assert_eq!(home.states("d"), ("stopped".into(), "unloaded".into()));
}

#[test]
fn a_client_that_hangs_up_does_not_undo_a_load() {
    let home = Home::started(
        "models: [{name: slow, model_path: org/slow, env: {STUB_LOAD_SECONDS: '0.5'}}]\n",
    );
    let mut connection = TcpStream::connect(("127.0.0.1", home.port)).unwrap();
    let request =
        "POST /hub/models/slow/start HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    connection.write_all(request.as_bytes()).unwrap();
    home.wait_for_state("slow", "starting", "loading");
    drop(connection);
    home.wait_for_state("slow", "running", "loaded");
    assert_eq!(home.record.count("load", "slow"), 1);
}

#[test]
fn reload_answers_with_the_three_lists() {
    let home = Home::started(&three());
    for path in ["/hub/reload", "/hub/runtime/reload"] {
        let answer = home.http.post(path, &Value::Null);
        let unchanged = r#"{"started":[],"stopped":[],"unchanged":["a","b","d"]}"#;
        assert_eq!(answer.text(), unchanged, "{path}");
    }
}

#[test]
fn a_bad_hub_yaml_changes_nothing_and_answers_400_with_the_reason() {
    let home = Home::started(&three());
    home.done("b", "start");
    let pid = home.model("b")["pid"].clone();
    for (broken, reason) in [
        ("models: []\n", "at least one"),
        ("models: [x\n", "hub.yaml:"),
        ("", "models"),
    ] {
        home.write(broken);
        for path in ["/hub/reload", "/hub/runtime/reload"] {
            let answer = home.http.post(path, &Value::Null);
            assert_error(&answer, 400, "invalid_request_error", reason);
        }
        assert_eq!(home.model("b")["pid"], pid);
    }
}

#[test]
fn shutdown_answers_at_once_and_then_stops_everything() {
    for path in ["/hub/shutdown", "/hub/runtime/shutdown"] {
        let home = Home::started(&three());
        home.done("b", "start");
        let answer = home.http.post(path, &json!({"reason": "dashboard"}));
        let body = answer.json();
        assert_eq!(body["status"], "ok");
        assert_eq!(body["action"], "stop");
        assert!(body["message"].is_string());
        assert_eq!(body["details"], json!({}));
        home.wait_for_end();
        home.assert_no_workers();
        assert!(!home.runtime_file().exists());
    }
}

#[test]
fn the_retired_shim_is_not_there() {
    let home = Home::started(&three());
    let base = ["/hub", "service"].join("/");
    for path in ["", "/start", "/stop", "/reload", "/status"] {
        for method in ["GET", "POST"] {
            let path = format!("{base}{path}");
            let answer = home
                .http
                .send(method, &path, &[], b"")
                .unwrap()
                .whole()
                .unwrap();
            assert_error(&answer, 404, "invalid_request_error", "");
        }
    }
    assert!(home.is_running());
}

#[test]
fn openapi_json_describes_the_control_api() {
    let home = Home::started(&three());
    let description = home.http.get("/openapi.json").json();
    assert!(description["openapi"].as_str().unwrap().starts_with("3."));
    let paths = description["paths"].as_object().unwrap();
    for path in [
        "/health",
        "/hub",
        "/hub/status",
        "/hub/reload",
        "/hub/shutdown",
        "/hub/models/{name}/start",
        "/hub/models/{name}/stop",
        "/hub/models/{name}/load",
        "/hub/models/{name}/unload",
        "/hub/models/{name}/vram/load",
        "/hub/models/{name}/vram/unload",
        "/hub/runtime/reload",
        "/hub/runtime/shutdown",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
}

#[test]
fn one_connection_takes_one_request_after_the_other() {
    let home = Home::started(&three());
    let mut connection = TcpStream::connect(("127.0.0.1", home.port)).unwrap();
    let mut text = String::new();
    for close in ["keep-alive", "close"] {
        let request = format!(
            "POST /hub/models/a/stop HTTP/1.1\r\nhost: localhost\r\nconnection: {close}\r\n\
             content-type: application/json\r\ncontent-length: 22\r\n\r\n{{\"reason\":\"dashboard\"}}"
        );
        connection.write_all(request.as_bytes()).unwrap();
    }
    connection.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
}

#[test]
fn the_root_leads_a_browser_to_the_page_and_tells_others_what_is_where() {
    let home = Home::started(&three());
    let send = |method: &str, path: &str, accept: &str| {
        let headers = [("accept", accept)];
        home.http.send(method, path, &headers, b"").unwrap()
    };
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let led = send("GET", "/", browser);
    assert_eq!((led.status, led.header("location")), (307, Some("/hub")));
    for accept in [browser, "*/*", "application/json"] {
        assert_eq!(send("HEAD", "/", accept).status, 200, "{accept}");
    }
    let told = send("GET", "/", "application/json").whole().unwrap();
    assert_eq!(told.status, 200);
    assert_eq!(told.json()["openai_api"], "/v1");
    let ollama = send("GET", "/", "*/*").whole().unwrap();
    assert_eq!((ollama.status, &*ollama.text()), (200, "Ollama is running"));
    let head = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut connection = TcpStream::connect(("127.0.0.1", home.http.port)).unwrap();
    connection.write_all(head).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("Ollama is running"), "{answer}");
    assert_eq!(send("GET", "/favicon.ico", "image/*").status, 204);
}

#[test]
fn a_wrong_base_url_is_told_the_right_one() {
    let home = Home::started(&three());
    let right = format!("`http://127.0.0.1:{}/v1`", home.port);
    for path in [
        "//v1/chat/completions",
        "/v1/v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/chat/completions",
        "/chat/completions",
        "/models",
        "/api/v1/models",
        "/openai/v1/embeddings",
        "/hub/v1/models",
    ] {
        let body = br#"{"model": "b"}"#;
        let answer = home.http.send("POST", path, &[], body);
        let answer = answer.unwrap().whole().unwrap();
        assert_error(&answer, 404, "invalid_request_error", &right);
    }
    assert_eq!(home.states("b").1, "unloaded");
}

#[test]
fn nothing_under_hub_is_taken_for_another_type_than_it_says() {
    let home = Home::started(&three());
    for (method, path, host) in [
        ("GET", "/hub", "localhost"),
        ("GET", "/hub/status", "localhost"),
        ("GET", "/hub/nosuch", "localhost"),
        ("PUT", "/hub/status", "localhost"),
        ("POST", "/hub/reload", "localhost"),
        ("GET", "/hub/status", "evil.example"),
    ] {
        let answer = home.http.send(method, path, &[("host", host)], b"");
        let answer = answer.unwrap();
        let sniffing = answer.header("x-content-type-options");
        assert_eq!(sniffing, Some("nosniff"), "{method} {path}");
    }
}

#[test]
fn connect_and_trace_are_not_allowed_anywhere() {
    let home = Home::started(&three());
    for method in ["CONNECT", "TRACE"] {
        for path in ["/v1/x?model=b", "/upstream/b/x", "/hub", "/"] {
            let answer = home.http.send(method, path, &[], b"").unwrap();
            assert_eq!(answer.status, 405, "{method} {path}");
            assert!(answer.header("allow").is_some(), "{method} {path}");
        }
    }
    assert_eq!(home.states("b").1, "unloaded");
}
