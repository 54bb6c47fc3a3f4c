//! The APIs on the port, one by one: what a client hears while it waits, and what is free when it has left.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::disconnects::{assert_missed_at_once, in_worker};
use crate::doors::{Door, OTHERS, TRANSLATED};
use crate::support::http::Reply;
use crate::support::{Hub, SOON, wait_until};
use crate::{ENDLESS, active, alpha_in};

/// The request of a client that will leave, and reads nothing before.
fn come(hub: &Hub, door: &Door, stream: bool) -> TcpStream {
    let body = (door.ask)("hello", stream).to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        door.path,
        body.len()
    );
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    client.write_all((head + &body).as_bytes()).unwrap();
    client
}

/// Every way to a model that is not OpenAI's own.
fn all() -> impl Iterator<Item = &'static Door> {
    TRANSLATED.iter().chain(&OTHERS)
}

fn count(hub: &Hub, what: &str) -> u64 {
    hub.model("alpha")[what].as_u64().unwrap()
}

#[test]
fn a_client_that_leaves_its_answer_frees_all_at_once() {
    for (knobs, stream) in [
        (&ENDLESS[..], true),
        (&["--first-token-seconds", "600"], true),
        (&["--first-token-seconds", "600"], false),
    ] {
        let hub = Hub::start(&alpha_in("jit", knobs));
        hub.act("alpha", "load");
        for door in all() {
            // Only a stream can be without an end.
            if knobs == ENDLESS && !door.streams() {
                continue;
            }
            let begin = || {
                let mut client = come(&hub, door, stream);
                wait_until("it to arrive", SOON, || in_worker(&hub) == json!(1));
                if knobs == ENDLESS {
                    client.read_exact(&mut [0; 400]).unwrap();
                }
                client
            };
            let what = format!("{} {knobs:?} {stream}: lease and connection", door.path);
            assert_missed_at_once(&what, begin, || {
                active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0)
            });
        }
    }
}

#[test]
fn a_client_that_leaves_a_load_or_a_queue_is_missed_at_once() {
    let parking = "return { on_request = function() return hub.wait{ seconds = 600 } end }";
    let loading = alpha_in("jit", &["--load-seconds", "600"]);
    for (hub, what) in [
        (
            // The head of a stream has been sent, or not.
            Hub::start(&format!("loading_notice: 1\n{loading}")),
            "waiting_requests",
        ),
        (
            Hub::start_with(&alpha_in("jit", &[]), &[("wait.lua", parking)]),
            "parked_requests",
        ),
    ] {
        for door in all() {
            for stream in [true, false] {
                let begin = || {
                    let mut client = come(&hub, door, stream);
                    wait_until("it to wait", SOON, || count(&hub, what) == 1);
                    if stream && door.streams() && what == "waiting_requests" {
                        client.read_exact(&mut [0; 20]).unwrap();
                    }
                    client
                };
                let place = format!("{} {stream}: {what}", door.path);
                assert_missed_at_once(&place, begin, || count(&hub, what) == 0);
            }
        }
    }
}

/// A hub whose model loads for so long, with a word for its clients every second.
fn slow(knobs: &[&str]) -> Hub {
    let knobs = [&["--load-seconds", "3", "--tokens", "3"], knobs].concat();
    let hub = Hub::start(&format!("loading_notice: 1\n{}", alpha_in("jit", &knobs)));
    hub.wait_for_state("alpha", "running", "unloaded");
    hub
}

/// The pieces of a stream: events with their comments, or lines.
fn pieces(reply: Reply, path: &str) -> Vec<String> {
    assert_eq!(reply.status, 200);
    let text = reply.whole().unwrap().text();
    let end = if path.starts_with("/api") {
        "\n"
    } else {
        "\n\n"
    };
    text.split_terminator(end).map(str::to_owned).collect()
}

#[test]
fn a_stream_says_that_its_model_loads_and_then_what_its_clients_wait_for() {
    for door in &TRANSLATED {
        let hub = slow(&[]);
        let pieces = pieces(
            hub.http.open(door.path, &(door.ask)("hello", true)),
            door.path,
        );
        let (notice, last) = match door.path {
            "/v1/messages" => ("{\"type\":\"ping\"}", "event: message_stop"),
            "/v1/responses" => (": loading alpha", "event: response.completed"),
            _ => ("\"done\":false", "\"done\":true"),
        };
        let notices = pieces[..2].iter();
        assert!(notices.clone().all(|it| it.contains(notice)), "{pieces:?}");
        assert!(pieces.last().unwrap().contains(last), "{pieces:?}");
    }
}

#[test]
fn a_load_that_fails_ends_a_stream_in_the_words_of_its_api() {
    for door in &TRANSLATED {
        let hub = slow(&["--fail-load"]);
        let pieces = pieces(
            hub.http.open(door.path, &(door.ask)("hello", true)),
            door.path,
        );
        let last = pieces.last().unwrap();
        let (begin, message): (_, fn(&Value) -> &Value) = match door.path {
            "/v1/messages" => ("event: error\ndata: ", |it| &it["error"]["message"]),
            "/v1/responses" => ("event: response.failed\ndata: ", |it| {
                assert_eq!(it["response"]["status"], "failed");
                &it["response"]["error"]["message"]
            }),
            _ => ("", |it| &it["error"]),
        };
        let json = last.strip_prefix(begin).expect(last);
        let json: Value = serde_json::from_str(json).unwrap();
        assert!(message(&json).as_str().unwrap().contains("alpha"), "{json}");
    }
}

#[test]
fn a_client_without_a_stream_waits_for_the_load_and_gets_its_answer_or_the_failure() {
    let hub = slow(&[]);
    for door in &OTHERS {
        let body = (door.ask)("hello", false);
        let answer = door.post(&hub, &body, &[]);
        assert_eq!(answer.status, 200, "{}: {}", door.path, answer.text());
        let field = match door.path {
            "/api/embed" => "embeddings",
            "/api/embeddings" => "embedding",
            "/api/v0/embeddings" => "data",
            _ => "choices",
        };
        assert!(!answer.json()[field].is_null(), "{}", answer.text());
        hub.act("alpha", "unload");
        let failing = Hub::start(&alpha_in("jit", &["--fail-load"]));
        let answer = door.post(&failing, &body, &[]);
        door.assert_refused(&answer, 503, &["`alpha`"]);
    }
}

#[test]
fn a_client_that_prefers_not_to_wait_is_told_when_to_ask_again() {
    for door in all() {
        let hub = slow(&[]);
        let body = (door.ask)("hello", true);
        let answer = door.post(&hub, &body, &[("prefer", "wait=1")]);
        door.assert_refused(&answer, 503, &["loading alpha"]);
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&after), "{after}");
    }
}

#[test]
fn a_full_queue_is_said_in_the_words_of_each_api() {
    let policy = "return { on_request = function() return hub.wait{ seconds = 600 } end }";
    let yaml = alpha_in("jit", &[]).replace("{name: alpha,", "{name: alpha, queue_size: 1,");
    let hub = Hub::start_with(&yaml, &[("wait.lua", policy)]);
    let _first = come(&hub, &TRANSLATED[0], false);
    wait_until("it to be parked", SOON, || {
        count(&hub, "parked_requests") == 1
    });
    for door in all() {
        let answer = door.post(&hub, &(door.ask)("hello", true), &[]);
        door.assert_refused(&answer, door.busy(), &["`alpha`"]);
        assert!(answer.header("retry-after").is_some(), "{}", door.path);
    }
}
