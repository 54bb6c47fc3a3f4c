//! A hub as a gateway sees it: what it answers, what it refuses while it is drained, and that none of it loads a
//! model.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use mlx_openai_server_hub::config::KeyDigest;
use serde_json::{Value, json};

use crate::support::http::{Answer, chat};
use crate::support::{Hub, SOON, stub, wait_until};
use crate::{CHAT, error_of};

const KEY: &str = "a-key-that-may-use-the-models";

/// A port on which nobody listens: it belongs to the system, and is refused at once.
const NOBODY: &str = "http://127.0.0.1:1";

fn models() -> String {
    format!(
        "worker_command: {}\nmodels:\n- {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, jit_enabled: true}}\n",
        stub(&["--dialect", "jit"])
    )
}

fn with_gateway(gateway: &str) -> String {
    format!(
        "fleet: {{gateway: '{gateway}', advertise: 'http://127.0.0.1:9', heartbeat_seconds: 1}}\n{}",
        models()
    )
}

fn send(hub: &Hub, method: &str, path: &str, key: Option<&str>, body: &Value) -> Answer {
    let bearer = key.map(|key| format!("Bearer {key}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let sent = hub.http.send(method, path, &headers, body.as_bytes());
    sent.unwrap().whole().unwrap()
}

#[test]
fn what_a_gateway_asks_about_a_model_is_answered_and_loads_nothing() {
    let hub = Hub::start(&models());
    hub.http.wait_for_state("alpha", "running", "unloaded");
    for (path, status) in [
        ("/health", 200),
        ("/health/ready", 200),
        ("/v1/models", 200),
        ("/fleet/alpha/health", 200),
        ("/fleet/alpha/v1/models", 200),
        ("/fleet/alpha/v1/loads?include=core", 200),
        ("/fleet/alpha/server_info", 404),
        ("/fleet/alpha/model_info", 404),
        ("/fleet/alpha/loads", 404),
        ("/fleet/beta/health", 503),
        ("/fleet/nosuch/health", 404),
    ] {
        assert_eq!(hub.http.get(path).status, status, "{path}");
    }
    let waiting = || {
        let load = hub.http.get("/fleet/alpha/v1/loads").json();
        load["loads"][0]["num_waiting_uncached_tokens"].as_u64()
    };
    assert!(waiting() > Some(0));
    hub.http.wait_for_state("alpha", "running", "unloaded");

    let answer = hub.http.post(
        "/fleet/alpha/v1/chat/completions",
        &chat("alpha", "hello", false),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    hub.http.wait_for_state("alpha", "running", "loaded");
    assert_eq!(waiting(), Some(0));

    hub.http.act("alpha", "stop");
    let answer = hub.http.get("/health/ready");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("10"))
    );
}

#[test]
fn a_drained_hub_refuses_gateways_and_serves_its_own_clients() {
    let hub = Hub::start(&models());
    let member = "/fleet/alpha/v1/chat/completions";
    let status = |path: &str| hub.http.post(path, &chat("alpha", "hello", false)).status;
    assert_eq!((status(member), status(CHAT)), (200, 200));

    let report = hub.http.post("/hub/fleet/drain", &json!({})).json();
    assert_eq!(
        (&report["drained"], &report["state"]),
        (&json!(true), &json!("alone"))
    );
    for path in ["/health/ready", "/fleet/alpha/health"] {
        let answer = hub.http.get(path);
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("10")),
            "{path}"
        );
    }
    let refused = hub.http.post(member, &chat("alpha", "hello", false));
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("10"))
    );
    assert_eq!(error_of(&refused)["message"], "The hub is drained.");
    assert_eq!((status(CHAT), hub.http.get("/health").status), (200, 200));

    hub.http.post("/hub/fleet/undrain", &json!({}));
    assert_eq!(
        (status(member), hub.http.get("/health/ready").status),
        (200, 200)
    );
}

#[test]
fn a_gateway_needs_a_key_where_clients_do() {
    let hash = KeyDigest::of(KEY.as_bytes()).to_hex();
    let hub = Hub::start(&format!(
        "api_keys: [{{name: door, sha256: {hash}}}]\n{}",
        models()
    ));
    let ask = |path: &str, key| {
        let body = chat("alpha", "hello", false);
        send(&hub, "POST", path, key, &body).status
    };
    let get = |path: &str, key| send(&hub, "GET", path, key, &Value::Null).status;
    let member = "/fleet/alpha/v1/chat/completions";
    assert_eq!(ask(member, None), 401);
    assert_eq!(ask(member, Some("a-key-that-nobody-has-made")), 401);
    assert_eq!(ask(member, Some(KEY)), 200);
    for path in ["/fleet/alpha/v1/loads", "/fleet/alpha/v1/models"] {
        assert_eq!(
            (get(path, None), get(path, Some(KEY))),
            (401, 200),
            "{path}"
        );
    }
    // Those that check whether it is there need none.
    for path in ["/health", "/health/ready", "/fleet/alpha/health"] {
        assert_eq!(get(path, None), 200, "{path}");
    }
    assert_eq!(get("/hub/fleet", Some(KEY)), 403);
}

#[test]
fn a_gateway_that_is_not_there_is_a_warning_and_changes_nothing_else() {
    let hub = Hub::start(&with_gateway(NOBODY));
    let warned = |hub: &Hub| {
        hub.http.hub_status()["warnings"]
            .to_string()
            .contains("cannot be reached")
    };
    wait_until("a warning", SOON, || warned(&hub));
    let report = hub.http.get("/hub/fleet").json();
    assert_eq!(report["state"], "unreachable");
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    // Nobody can be told, and the hub is drained all the same.
    let report = hub.http.post("/hub/fleet/drain", &json!({})).json();
    assert_eq!(
        (&report["drained"], &report["state"]),
        (&json!(true), &json!("unreachable"))
    );
}

/// Something that answers every call like this, or never; its address.
fn answers(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            match answer {
                Some(answer) => {
                    read_head(&connection);
                    let _ = connection.write_all(answer.as_bytes());
                }
                None => open.push(connection),
            }
        }
    });
    format!("http://{address}")
}

fn read_head(connection: &TcpStream) {
    let lines = BufReader::new(connection).lines();
    let mut lines = lines.map_while(Result::ok);
    let _ = lines.find(String::is_empty);
}

#[test]
fn what_is_no_gateway_is_a_warning_and_changes_nothing_else() {
    let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    for (answer, said) in [
        (
            format!("{ok}<html>hello</html>"),
            "does not answer like a gateway",
        ),
        (
            format!("{ok}{{\"workers\": 7}}"),
            "does not answer like a gateway",
        ),
        // It says yes to everything and does nothing.
        (
            format!("{ok}{{\"workers\": []}}"),
            "does not answer like a gateway",
        ),
        (
            format!("{ok}{{\"workers\": [], \"worker_id\": \"x\", \"id\": \"x\", \"url\": \"x\"}}"),
            "the gateway does not know it",
        ),
        (
            "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: /elsewhere\r\n\r\n".to_owned(),
            "answers 302",
        ),
        (
            "HTTP/1.1 500 Oh\r\nconnection: close\r\n\r\n\u{1b}[31mred".to_owned(),
            "answers 500: \\u{1b}[31mred",
        ),
        (String::new(), "cannot be reached"),
        ("never".to_owned(), "cannot be reached"),
    ] {
        let answer: &str = answer.leak();
        let gateway = answers((answer != "never").then_some(answer));
        let hub = Hub::start(&with_gateway(&gateway));
        hub.http.wait_for_state("alpha", "running", "unloaded");
        let mut report = Value::Null;
        wait_until(&format!("{said} for {answer:?}"), SOON, || {
            report = hub.http.get("/hub/fleet").json();
            let error = report["error"].as_str().unwrap_or_default();
            let differs = report["entries"][0]["differs"][0].as_str();
            error.contains(said) || differs.is_some_and(|differs| differs.contains(said))
        });
        let state = report["state"].as_str().unwrap();
        assert!(["unreachable", "differs"].contains(&state), "{report}");
        let warnings = hub.http.hub_status()["warnings"].to_string();
        assert!(warnings.contains("the fleet's gateway"), "{warnings}");
        hub.http.wait_for_state("alpha", "running", "unloaded");
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    }
}
