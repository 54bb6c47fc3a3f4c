//! What clients hear while their model loads: comments in a stream, an error event, or a 503 for those
//! who do not want to wait.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::http::{Answer, Reply, chat};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, DIALECTS, active, alpha_in, assert_error, wait_for_active, wait_for_event};

/// Notices after a second instead of five.
fn slow(dialect: &str, knobs: &[&str]) -> Hub {
    let knobs = [&["--load-seconds", "3", "--tokens", "3"], knobs].concat();
    let hub = Hub::start(&format!("loading_notice: 1\n{}", alpha_in(dialect, &knobs)));
    hub.wait_for_state("alpha", "running", "unloaded");
    hub
}

fn send(hub: &Hub, headers: &[(&str, &str)], body: &Value) -> Reply {
    let reply = hub
        .http
        .send("POST", CHAT, headers, body.to_string().as_bytes());
    reply.unwrap()
}

/// The comments of a stream, and its events.
fn told(answer: &Answer) -> (Vec<String>, Vec<String>) {
    let text = answer.text();
    let lines = |prefix: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
        lines.map(str::to_owned).collect()
    };
    (lines(": "), lines("data: "))
}

#[test]
fn a_stream_begins_with_comments_while_its_model_loads() {
    for dialect in DIALECTS {
        let hub = slow(dialect, &[]);
        let reply = send(&hub, &[], &chat("alpha", "hello", true));
        // The head is there before the model is.
        assert_eq!(reply.status, 200);
        assert_eq!(hub.model("alpha")["memory_state"], "loading");
        let kind = reply.header("content-type").unwrap();
        assert!(kind.starts_with("text/event-stream"), "{kind}");
        let (comments, events) = told(&reply.whole().unwrap());
        assert!(comments.len() >= 2, "{comments:?}");
        for comment in &comments {
            assert!(comment.starts_with("loading alpha "), "{comment}");
            assert!(
                !comment.contains("about"),
                "nothing is known yet: {comment}"
            );
        }
        assert_eq!(events.last().unwrap(), "[DONE]");
        assert_eq!(events.len(), 6, "{events:?}");
        wait_for_active(&hub, "alpha", 0);

        // The next load is told with the time of the first.
        assert_eq!(hub.act("alpha", "unload").status, 200);
        let reply = send(&hub, &[], &chat("alpha", "hello", true));
        let (comments, _) = told(&reply.whole().unwrap());
        let first = comments.first().expect("a comment");
        let (_, about) = first.split_once("s of about ").expect(first);
        let about: u64 = about.strip_suffix('s').unwrap().parse().unwrap();
        assert!(about >= 3, "{first}");
    }
}

#[test]
fn accept_asks_for_a_stream_too_and_an_answer_that_is_none_becomes_an_event() {
    let hub = slow("1.8.1", &[]);
    let headers = [("accept", "text/event-stream")];
    let reply = send(&hub, &headers, &chat("alpha", "hello", false));
    let (comments, events) = told(&reply.whole().unwrap());
    assert!(!comments.is_empty());
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    let answer: Value = serde_json::from_str(event).unwrap();
    assert_eq!(answer["object"], "chat.completion");
}

#[test]
fn a_load_that_fails_after_the_head_is_an_error_event() {
    for dialect in DIALECTS {
        let hub = slow(dialect, &["--fail-load"]);
        let reply = send(&hub, &[], &chat("alpha", "hello", true));
        assert_eq!(reply.status, 200);
        let (comments, events) = told(&reply.whole().unwrap());
        assert!(!comments.is_empty());
        let [event] = &events[..] else {
            panic!("{events:?}");
        };
        let error: Value = serde_json::from_str(event).unwrap();
        assert!(
            error["error"]["message"]
                .as_str()
                .unwrap()
                .contains("alpha"),
            "{error}"
        );
        assert_eq!(error.as_object().unwrap().len(), 1, "{error}");
    }
}

#[test]
fn an_error_of_the_worker_after_the_head_is_an_error_event() {
    let hub = slow("1.8.1", &[]);
    // Without messages the worker refuses it.
    let reply = send(&hub, &[], &json!({"model": "alpha", "stream": true}));
    assert_eq!(reply.status, 200);
    let (_, events) = told(&reply.whole().unwrap());
    let error: Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(error["error"]["code"], "422", "{error}");
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn others_wait_in_silence_for_their_own_status() {
    let hub = slow("1.8.1", &[]);
    let answer = hub.http.chat("alpha", "hello");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["object"], "chat.completion");
}

#[test]
fn a_quick_load_leaves_a_stream_as_it_is() {
    let hub = Hub::start(&alpha_in(
        "1.8.1",
        &["--load-seconds", "0.2", "--tokens", "3"],
    ));
    let reply = send(&hub, &[], &chat("alpha", "hello", true));
    let (comments, events) = told(&reply.whole().unwrap());
    assert_eq!(comments, [""; 0]);
    assert_eq!(events.len(), 6);
}

#[test]
fn who_prefers_a_short_wait_gets_a_503_and_a_time_to_come_back() {
    let hub = slow("1.8.1", &[]);
    // Without any wait the load may not have begun.
    for (wait, progress) in [
        ("wait=0", "alpha "),
        ("respond-async, wait=1", "loading alpha "),
    ] {
        for stream in [false, true] {
            let headers = [("prefer", wait)];
            let reply = send(&hub, &headers, &chat("alpha", "hello", stream));
            let answer = reply.whole().unwrap();
            assert_error(
                &answer,
                503,
                "service_unavailable",
                "model_loading",
                &["The model is not ready yet (", progress],
            );
            assert_eq!(answer.header("retry-after"), Some("10"));
        }
    }
    // The load went on without them.
    assert_eq!(hub.record.events("load").len(), 1);
    let headers = [("prefer", "wait=60")];
    let answer = send(&hub, &headers, &chat("alpha", "hello", false))
        .whole()
        .unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(hub.record.events("load").len(), 1);

    // From then on it is known how long a load takes.
    assert_eq!(hub.act("alpha", "unload").status, 200);
    let headers = [("prefer", "wait=1")];
    let answer = send(&hub, &headers, &chat("alpha", "hello", false))
        .whole()
        .unwrap();
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds >= 1, "{seconds}");
    let message = answer.json()["error"]["message"].clone();
    insta::with_settings!({ filters => [(r"\d+s", "TIME")] }, {
        insta::assert_snapshot!(message, @r#""The model is not ready yet (loading alpha TIME of about TIME). Ask again later, or prefer a longer wait.""#);
    });
}

#[test]
fn a_client_that_leaves_between_comments_is_missed() {
    let endless = alpha_in("1.8.1", &["--load-seconds", "600"]);
    let hub = Hub::start(&format!("loading_notice: 1\n{endless}"));
    let body = chat("alpha", "hello", true).to_string();
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let length = body.len();
    let request =
        format!("POST {CHAT} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}");
    client.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(client.try_clone().unwrap()).lines();
    let comment = lines.find(|line| line.as_ref().unwrap().starts_with(": "));
    assert!(comment.is_some());
    assert_eq!(hub.model("alpha")["waiting_requests"], 1);
    client.shutdown(std::net::Shutdown::Both).unwrap();
    wait_until("it is not waited for any more", SOON, || {
        hub.model("alpha")["waiting_requests"] == 0
    });
    wait_for_event(&hub, "load", 1);
    assert_eq!(active(&hub, "alpha"), 0);
    let _ = client.read(&mut [0]);
}
