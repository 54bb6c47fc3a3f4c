//! Requests that are cancelled at the hub: their clients are told, and what they held is free at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::disconnects::in_worker;
use crate::support::http::{Answer, Reply, chat};
use crate::support::{Hub, SOON, processes, wait_for, wait_until};
use crate::{CHAT, ENDLESS, active, alpha, assert_error};

/// Time in which all of it has to be over. The machine may do much else.
const AT_ONCE: Duration = Duration::from_secs(2);

fn ask(hub: &Hub, path: &str, id: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let own = [("content-type", "application/json"), ("x-request-id", id)];
    let headers = [&own[..], headers].concat();
    let body = body.to_string();
    hub.http
        .send("POST", path, &headers, body.as_bytes())
        .unwrap()
}

/// The request in flight of that id, once it is at that stage.
fn wait_for_stage(hub: &Hub, id: &str, stage: &str) -> Value {
    wait_for(&format!("{id} to be {stage}"), SOON, || {
        let requests = hub.http.get("/hub/requests").json();
        let in_flight = requests["in_flight"].as_array().unwrap().clone();
        let is_it = |one: &Value| one["id"] == id && one["stage"] == stage;
        in_flight.into_iter().find(is_it)
    })
}

fn cancel(hub: &Hub, id: &str) -> Answer {
    hub.http
        .post(&format!("/hub/requests/{id}/cancel"), &json!({}))
}

/// The entry of the ended request of that id.
fn ended(hub: &Hub, id: &str) -> Value {
    wait_for(&format!("{id} to be listed"), SOON, || {
        let requests = hub.http.get("/hub/requests").json();
        let ended = requests["requests"].as_array().unwrap().clone();
        ended.into_iter().find(|one| one["id"] == id)
    })
}

fn assert_was_cancelled(hub: &Hub, id: &str) {
    let ended = ended(hub, id);
    assert_eq!(
        (&ended["status"], &ended["cancelled"]),
        (&json!(503), &json!(true)),
        "{ended}"
    );
}

#[test]
fn a_request_at_its_worker_is_listed_cancelled_and_told() {
    let hub = Hub::start(&alpha(&["--first-token-seconds", "600"]));
    let client = std::thread::spawn({
        let http = hub.http;
        let body = chat("alpha", "hello", false).to_string();
        let headers = [
            ("content-type", "application/json"),
            ("x-request-id", "plain"),
        ];
        move || {
            http.send("POST", CHAT, &headers, body.as_bytes())
                .unwrap()
                .whole()
        }
    });
    let listed = wait_for_stage(&hub, "plain", "sent");
    assert_eq!(listed["model"], "alpha");
    assert_eq!(listed["path"], CHAT);
    assert_eq!(listed["client"], "127.0.0.1");
    wait_until("it to arrive", SOON, || in_worker(&hub) == json!(1));

    let answer = cancel(&hub, "plain");
    let said = json!({"status": "ok", "action": "cancel", "id": "plain", "message": "Request 'plain' cancelled"});
    assert_eq!(answer.json(), said);
    wait_until("all of it to be free", AT_ONCE, || {
        active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0)
    });
    let told = client.join().unwrap().unwrap();
    let code = "request_cancelled";
    assert_error(
        &told,
        503,
        "service_unavailable",
        code,
        &["cancelled at the hub"],
    );
    assert_eq!(told.header("x-should-retry"), Some("false"));
    assert_was_cancelled(&hub, "plain");

    let again = cancel(&hub, "plain");
    assert_error(
        &again,
        404,
        "invalid_request_error",
        "404",
        &["`plain`", "has ended"],
    );
}

#[test]
fn a_stream_ends_with_an_error_and_not_as_if_it_were_whole() {
    for (path, id) in [
        (CHAT, "openai"),
        ("/v1/messages", "anthropic"),
        ("/api/chat", "ollama"),
    ] {
        let hub = Hub::start(&alpha(&ENDLESS));
        let mut body = chat("alpha", "hello", true);
        body["max_tokens"] = json!(1000);
        let reply = ask(&hub, path, id, &[], &body);
        assert_eq!(reply.status, 200);
        wait_for_stage(&hub, id, "answering");
        assert_eq!(cancel(&hub, id).status, 200);
        wait_until("all of it to be free", AT_ONCE, || {
            active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0)
        });
        let mut told = Vec::new();
        let end = reply.read_to_end(&mut told);
        let told = String::from_utf8_lossy(&told);
        assert!(end.is_err(), "{path}: the stream looks whole: {told}");
        assert!(told.contains("cancelled at the hub"), "{path}: {told}");
        assert_was_cancelled(&hub, id);
    }
}

#[test]
fn a_translated_answer_is_cancelled_before_it_is_whole() {
    let hub = Hub::start(&alpha(&["--first-token-seconds", "600"]));
    let client = std::thread::spawn({
        let http = hub.http;
        let mut body = chat("alpha", "hello", false);
        body["max_tokens"] = json!(1000);
        let headers = [
            ("content-type", "application/json"),
            ("x-request-id", "whole"),
        ];
        move || {
            let body = body.to_string();
            http.send("POST", "/v1/messages", &headers, body.as_bytes())
                .unwrap()
                .whole()
        }
    });
    wait_for_stage(&hub, "whole", "sent");
    cancel(&hub, "whole");
    wait_until("all of it to be free", AT_ONCE, || {
        active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0)
    });
    let told = client.join().unwrap().unwrap();
    assert_eq!(told.status, 503);
    assert_eq!(told.json()["error"]["type"], "overloaded_error");
    assert_eq!(told.header("x-should-retry"), Some("false"));
    assert_was_cancelled(&hub, "whole");
}

#[test]
fn requests_that_wait_are_cancelled_too() {
    let policy = "return { on_request = function(req) if req.headers['x-park'] then return hub.wait{ seconds = 600 } end end }";
    let config = format!("loading_notice: 1\n{}", alpha(&["--load-seconds", "600"]));
    let hub = Hub::start_with(&config, &[("wait.lua", policy)]);
    let facts = |key: &str| hub.model("alpha")[key].as_u64().unwrap();
    for (id, header, key) in [
        ("loads", ("x-load", "1"), "waiting_requests"),
        ("parked", ("x-park", "1"), "parked_requests"),
    ] {
        let client = std::thread::spawn({
            let http = hub.http;
            move || {
                let body = chat("alpha", "hello", false).to_string();
                let headers = [
                    ("content-type", "application/json"),
                    ("x-request-id", id),
                    header,
                ];
                http.send("POST", CHAT, &headers, body.as_bytes())
                    .unwrap()
                    .whole()
            }
        });
        let listed = wait_for_stage(&hub, id, "waiting");
        wait_until("it to wait", SOON, || facts(key) == 1);
        assert_eq!(listed["method"], "POST");
        assert_eq!(cancel(&hub, id).status, 200);
        wait_until("its place to be free", AT_ONCE, || facts(key) == 0);
        let told = client.join().unwrap().unwrap();
        assert_error(&told, 503, "service_unavailable", "request_cancelled", &[]);
        assert_was_cancelled(&hub, id);
    }

    // One that is told about the load meanwhile.
    let reply = ask(&hub, CHAT, "told", &[], &chat("alpha", "hello", true));
    assert_eq!(reply.status, 200);
    assert_eq!(cancel(&hub, "told").status, 200);
    let told = reply.whole().unwrap().text();
    assert!(told.contains("request_cancelled"), "{told}");
    wait_until("its place to be free", AT_ONCE, || {
        facts("waiting_requests") == 0
    });
    assert_was_cancelled(&hub, "told");
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let hub = Hub::start(&alpha(&["--tokens", "10000000"]));
    let body = chat("alpha", &"long ".repeat(1000), true).to_string();
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: h\r\nx-request-id: stuck\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    client
        .write_all(format!("{head}{body}").as_bytes())
        .unwrap();
    wait_for_stage(&hub, "stuck", "answering");
    // What lies between worker and client is full then, and hyper holds what is left.
    let worker = hub.model("alpha")["pid"].as_u64().unwrap();
    processes::wait_until_held_up(worker.try_into().unwrap());
    assert_eq!(active(&hub, "alpha"), 1);
    assert_eq!(cancel(&hub, "stuck").status, 200);
    wait_until("all of it to be free", AT_ONCE, || {
        active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0)
    });
    assert_was_cancelled(&hub, "stuck");
}

#[test]
fn a_connection_serves_its_next_request_after_one_was_cancelled() {
    let config = format!("loading_notice: 1\n{}", alpha(&["--load-seconds", "4"]));
    let hub = Hub::start(&config);
    let client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let send = |id: &str| {
        let body = chat("alpha", "hello", true).to_string();
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: h\r\nx-request-id: {id}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (&client)
            .write_all(format!("{head}{body}").as_bytes())
            .unwrap();
        Reply::read(std::io::BufReader::new(client.try_clone().unwrap())).unwrap()
    };
    let first = send("first");
    assert_eq!(cancel(&hub, "first").status, 200);
    assert!(first.whole().unwrap().text().contains("request_cancelled"));
    let second = send("second");
    assert_eq!(second.status, 200);
    assert!(second.whole().unwrap().text().contains("[DONE]"));
    assert_eq!(ended(&hub, "second")["cancelled"], false);
}

#[test]
fn a_websocket_is_cancelled() {
    let hub = Hub::start(&alpha(&[]));
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let handshake = "GET /v1/realtime?model=alpha HTTP/1.1\r\nhost: h\r\nx-request-id: tunnel\r\n\
        connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    client.write_all(handshake.as_bytes()).unwrap();
    wait_for_stage(&hub, "tunnel", "answering");
    assert_eq!(active(&hub, "alpha"), 1);
    assert_eq!(cancel(&hub, "tunnel").status, 200);
    wait_until("all of it to be free", AT_ONCE, || {
        active(&hub, "alpha") == 0
    });
    client.set_read_timeout(Some(SOON)).unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 101 "));
}
