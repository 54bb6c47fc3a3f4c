//! `capture: true`: the bodies of requests and answers, for whoever may control the hub, and for a while.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::http::{Answer, Reply, chat};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, alpha, begin_stream};

fn capturing(knobs: &[&str]) -> String {
    format!("capture: true\n{}", alpha(knobs))
}

/// Sends a body with an id and a key that are of no use to this hub.
fn ask(hub: &Hub, id: &str, path: &str, more: &[(&str, &str)], body: &[u8]) -> Answer {
    let own = [
        ("content-type", "application/json"),
        ("x-request-id", id),
        ("authorization", "Bearer hunter2"),
        ("x-api-key", "hunter2"),
        ("cookie", "hunter2"),
    ];
    let headers = [&own[..], more].concat();
    let reply = hub.http.send("POST", path, &headers, body);
    reply.and_then(Reply::whole).unwrap()
}

fn captured(hub: &Hub, id: &str) -> Answer {
    hub.http.get(&format!("/hub/requests/{id}/capture"))
}

#[test]
fn nothing_is_kept_unless_it_is_asked_for() {
    let hub = Hub::start(&alpha(&["--tokens", "2"]));
    let body = chat("alpha", "hello", false).to_string();
    assert_eq!(ask(&hub, "one", CHAT, &[], body.as_bytes()).status, 200);
    let nothing = captured(&hub, "one");
    assert_eq!(nothing.status, 404);
    assert_eq!(
        nothing.json()["error"]["message"],
        "Bodies of requests are not kept: hub.yaml does not have `capture: true`."
    );
    assert_eq!(hub.status().get("capture"), None);
}

#[test]
fn the_bodies_of_a_request_are_kept_without_keys_and_images() {
    let hub = Hub::start(&capturing(&["--tokens", "3"]));
    assert_eq!(hub.status()["capture"], true);
    let image = format!("data:image/png;base64,{}", "iVBORw0KGgo/".repeat(10_000));
    let content = json!([
        {"type": "image_url", "image_url": {"url": image}},
        {"type": "text", "text": "What is it?"},
    ]);
    let body = json!({"model": "alpha", "stream": true, "messages": [{"role": "user", "content": content}]});
    let body = body.to_string();
    let answer = ask(&hub, "one", CHAT, &[], body.as_bytes());
    assert_eq!(answer.status, 200);
    let kept = captured(&hub, "one");
    assert_eq!(kept.header("cache-control"), Some("no-store"));
    assert!(!kept.text().contains("hunter2"), "{}", kept.text());
    let kept = kept.json();
    assert_eq!((&kept["id"], &kept["status"]), (&json!("one"), &json!(200)));
    let request = &kept["request"];
    assert_eq!(request["bytes"], body.len());
    assert_eq!(request["content_type"], "application/json");
    let text = request["text"].as_str().unwrap();
    assert!(text.contains("What is it?"), "{text}");
    assert!(text.contains("base64,iVBORw0KGgo/"), "{text}");
    assert!(
        text.contains("more characters]") && text.len() < 1000,
        "{text}"
    );
    let events = kept["answer"]["text"].as_str().unwrap();
    assert_eq!(events.as_bytes(), answer.body);
    assert_eq!(kept["answer"]["cut"], Value::Null);

    // The hub's own answers are kept as well, and what has no body is not.
    let body = json!({"model": "nobody", "messages": []}).to_string();
    assert_eq!(ask(&hub, "two", CHAT, &[], body.as_bytes()).status, 404);
    let kept = captured(&hub, "two").json();
    assert_eq!(
        (&kept["status"], &kept["request"]["text"]),
        (&json!(404), &json!(body))
    );
    assert!(kept["answer"]["text"].as_str().unwrap().contains("nobody"));
    let reply = hub
        .http
        .send("GET", "/v1/models", &[("x-request-id", "three")], b"");
    assert_eq!(reply.and_then(Reply::whole).unwrap().status, 200);
    let nothing = captured(&hub, "three");
    assert_eq!(nothing.status, 404);
    assert!(
        nothing
            .text()
            .contains("Nothing is kept of a request `three`"),
        "{}",
        nothing.text()
    );
}

#[test]
fn a_body_in_a_coding_is_kept_as_it_is_read_and_an_answer_as_the_client_gets_it() {
    let hub = Hub::start(&capturing(&["--tokens", "3"]));
    let body = json!({
        "model": "alpha",
        "max_tokens": 3,
        "messages": [{"role": "user", "content": "hello there"}],
    });
    let mut coded = GzEncoder::new(Vec::new(), Compression::default());
    coded.write_all(body.to_string().as_bytes()).unwrap();
    let coded = coded.finish().unwrap();
    let answer = ask(
        &hub,
        "one",
        "/v1/messages",
        &[("content-encoding", "gzip")],
        &coded,
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kept = captured(&hub, "one").json();
    let text = kept["request"]["text"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), body);
    assert_eq!(kept["answer"]["text"], answer.text());
}

#[test]
fn they_can_be_read_while_the_answer_goes_on_and_go_by_a_reload_without_the_key() {
    let hub = Hub::start(&capturing(&crate::ENDLESS));
    let events = begin_stream(&hub);
    let listed = hub.http.get("/hub/requests").json();
    let id = listed["in_flight"][0]["id"].as_str().unwrap().to_owned();
    let kept = captured(&hub, &id).json();
    assert!(
        kept["request"]["text"].as_str().unwrap().contains("hello"),
        "{kept}"
    );
    wait_until("more of the answer", SOON, || {
        captured(&hub, &id).json()["answer"]["bytes"].as_u64() > kept["answer"]["bytes"].as_u64()
    });

    let reload = || assert_eq!(hub.http.post("/hub/reload", &json!({})).status, 200);
    hub.configure(&alpha(&crate::ENDLESS));
    reload();
    assert!(captured(&hub, &id).text().contains("not kept: hub.yaml"));
    hub.configure(&capturing(&crate::ENDLESS));
    reload();
    // What was kept is gone for good, and the request goes on unseen.
    let nothing = captured(&hub, &id);
    assert_eq!(nothing.status, 404);
    assert!(nothing.text().contains("Nothing is kept of a request"));
    drop(events);
}

#[test]
fn only_a_key_that_may_control_the_hub_shows_them() {
    let keys = "api_keys:\n\
         - {name: user, sha256: a3b142af6e97cfc3bb23e409ab83467af7d16ded7dc0632be6a6a9023e49ce8b}\n\
         - {name: boss, sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad, may: [use, control]}\n";
    let hub = Hub::start(&format!("{keys}{}", capturing(&["--tokens", "2"])));
    let send = |method: &str, path: &str, key: &str, body: &[u8]| {
        let headers = [
            ("authorization", key),
            ("x-request-id", "one"),
            ("content-type", "application/json"),
        ];
        hub.http
            .send(method, path, &headers, body)
            .and_then(Reply::whole)
            .unwrap()
    };
    let body = chat("alpha", "hello", false).to_string();
    assert_eq!(
        send("POST", CHAT, "Bearer use", body.as_bytes()).status,
        200
    );
    let path = "/hub/requests/one/capture";
    assert_eq!(send("GET", path, "Bearer use", b"").status, 403);
    assert_eq!(send("GET", path, "Bearer guess", b"").status, 401);
    let kept = send("GET", path, "Bearer abc", b"");
    assert_eq!(kept.status, 200);
    assert_eq!(kept.json()["request"]["text"], body);
}
