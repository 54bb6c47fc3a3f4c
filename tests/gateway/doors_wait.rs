//! The APIs on the port, one by one: what a client hears while it waits, and what is free when it has left.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::disconnects::{assert_missed_at_once, in_worker};
use crate::doors::{Door, LOOKS, OTHERS, TRANSLATED};
use crate::support::http::Reply;
use crate::support::{Hub, SOON, stub, wait_until};
use crate::{active, alpha_in};

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

/// An answer that takes 20 s. Of one without an end the worker would write all the events of a response first.
const LONG: [&str; 4] = ["--tokens", "2000", "--token-ms", "10"];

/// Every way to a model that is not OpenAI's own.
fn all() -> impl Iterator<Item = &'static Door> {
    TRANSLATED.iter().chain(&OTHERS)
}

/// The same with the dialect of a worker: one has the route of OpenAI's responses itself.
fn by_dialect() -> [(&'static str, Vec<&'static Door>); 2] {
    let responses = TRANSLATED.iter().find(|it| it.path == "/v1/responses");
    [
        ("jit", all().collect()),
        ("1.8.1", responses.into_iter().collect()),
    ]
}

/// Those of them that stream.
fn streaming() -> impl Iterator<Item = (&'static str, &'static Door)> {
    let all = by_dialect().into_iter();
    let all = all.flat_map(|(dialect, doors)| doors.into_iter().map(move |door| (dialect, door)));
    all.filter(|(_, door)| door.streams())
}

fn count(hub: &Hub, what: &str) -> u64 {
    hub.model("alpha")[what].as_u64().unwrap()
}

#[test]
fn a_client_that_leaves_its_answer_frees_all_at_once() {
    for (knobs, stream) in [
        (&LONG[..], true),
        (&["--first-token-seconds", "600"], true),
        (&["--first-token-seconds", "600"], false),
    ] {
        for (dialect, doors) in by_dialect() {
            let hub = Hub::start(&alpha_in(dialect, knobs));
            hub.act("alpha", "load");
            for door in doors {
                // Only a stream can be without an end.
                if knobs == LONG && !door.streams() {
                    continue;
                }
                let begin = || {
                    let mut client = come(&hub, door, stream);
                    wait_until("it to arrive", SOON, || in_worker(&hub) == json!(1));
                    if knobs == LONG {
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
fn slow(dialect: &str, knobs: &[&str]) -> Hub {
    let knobs = [&["--load-seconds", "3", "--tokens", "3"], knobs].concat();
    let hub = Hub::start(&format!("loading_notice: 1\n{}", alpha_in(dialect, &knobs)));
    hub.wait_for_state("alpha", "running", "unloaded");
    hub
}

/// The pieces of a stream: events with their comments, or lines.
fn pieces(reply: Reply, path: &str) -> Vec<String> {
    assert_eq!(reply.status, 200);
    let text = reply.whole().unwrap().text();
    let end = match path {
        "/api/chat" | "/api/generate" => "\n",
        _ => "\n\n",
    };
    text.split_terminator(end).map(str::to_owned).collect()
}

#[test]
fn a_stream_says_that_its_model_loads_and_then_what_its_clients_wait_for() {
    for (dialect, door) in streaming() {
        let hub = slow(dialect, &[]);
        let pieces = pieces(
            hub.http.open(door.path, &(door.ask)("hello", true)),
            door.path,
        );
        let (notice, last) = match door.path {
            "/v1/messages" => ("{\"type\":\"ping\"}", "event: message_stop"),
            "/v1/responses" => (": loading alpha", "event: response.completed"),
            "/api/v0/chat/completions" => (": loading alpha", "data: [DONE]"),
            _ => ("\"done\":false", "\"done\":true"),
        };
        let notices = pieces[..2].iter();
        assert!(notices.clone().all(|it| it.contains(notice)), "{pieces:?}");
        assert!(pieces.last().unwrap().contains(last), "{pieces:?}");
    }
}

#[test]
fn a_load_that_fails_ends_a_stream_in_the_words_of_its_api() {
    for (dialect, door) in streaming() {
        let hub = slow(dialect, &["--fail-load"]);
        let pieces = pieces(
            hub.http.open(door.path, &(door.ask)("hello", true)),
            door.path,
        );
        let last = pieces.last().unwrap();
        if door.path == "/v1/responses" {
            // OpenAI's client takes no other event first.
            let first = &pieces[pieces.len() - 2];
            assert!(first.contains("event: response.created\n"), "{pieces:?}");
        }
        let (begin, message): (_, fn(&Value) -> &Value) = match door.path {
            "/v1/messages" => ("event: error\ndata: ", |it| &it["error"]["message"]),
            "/v1/responses" => ("event: response.failed\ndata: ", |it| {
                assert_eq!(it["response"]["status"], "failed");
                &it["response"]["error"]["message"]
            }),
            "/api/v0/chat/completions" => ("data: ", |it| &it["error"]["message"]),
            _ => ("", |it| &it["error"]),
        };
        let json = last.strip_prefix(begin).expect(last);
        let json: Value = serde_json::from_str(json).unwrap();
        assert!(message(&json).as_str().unwrap().contains("alpha"), "{json}");
    }
}

#[test]
fn a_client_without_a_stream_waits_for_the_load_and_gets_its_answer_or_the_failure() {
    let hub = slow("jit", &[]);
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
        let hub = slow("jit", &[]);
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

#[test]
fn what_the_hub_answers_itself_waits_for_nothing() {
    let hub = Hub::start(&alpha_in("jit", &["--load-seconds", "600"]));
    let _other = come(&hub, &TRANSLATED[0], false);
    wait_until("it to wait", SOON, || count(&hub, "waiting_requests") == 1);
    for door in &LOOKS {
        let prefers = [("prefer", "wait=0")];
        let answer = door.post(&hub, &(door.ask)("hello", true), &prefers);
        assert_eq!(answer.status, 200, "{}: {}", door.path, answer.text());
    }
    assert_eq!(count(&hub, "waiting_requests"), 1);
}

/// Models of one program, which has the route of Anthropic's messages itself: `alpha` says nothing for long, `slow`
/// and `broken` load for some time, and a policy has all requests for `full` wait.
fn hub_of_messages() -> Hub {
    let policy = "return { on_request = function(req) if req.model == 'full' then return hub.wait{ seconds = 600 } end end }";
    let model = |name: &str, keys: &str| {
        format!(
            "- {{name: {name}, model_path: org/{name}, jit_enabled: true, default: true, {keys}}}\n"
        )
    };
    let yaml = format!(
        "loading_notice: 1\nworker_command: {}\nmodels:\n{}{}{}{}",
        stub(&["--dialect", "jit", "--serves", "/v1/messages"]),
        model("alpha", "env: {STUB_FIRST_TOKEN_SECONDS: '600'}"),
        model("slow", "env: {STUB_LOAD_SECONDS: '3'}"),
        model(
            "broken",
            "env: {STUB_LOAD_SECONDS: '3', STUB_FAIL_LOAD: 'true'}"
        ),
        model("full", "queue_size: 1"),
    );
    let hub = Hub::start_with(&yaml, &[("wait.lua", policy)]);
    hub.act("alpha", "load");
    let routes = hub.logs().join("routes.json");
    wait_until("its routes to be known", SOON, || routes.exists());
    hub
}

#[test]
fn a_worker_with_the_route_of_messages_is_waited_for_in_the_same_words() {
    let door = &TRANSLATED[0];
    let hub = hub_of_messages();
    let ask = |model: &str, stream: bool| {
        let mut body = (door.ask)("hello", stream);
        body["model"] = json!(model);
        body
    };
    let told = pieces(hub.http.open(door.path, &ask("slow", true)), door.path);
    assert!(
        told[..2]
            .iter()
            .all(|it| it.contains("{\"type\":\"ping\"}")),
        "{told:?}"
    );
    assert!(told.last().unwrap().contains("[DONE]"), "{told:?}");
    assert_eq!(hub.record.requests(door.path).len(), 1);

    let answer = door.post(&hub, &ask("broken", true), &[("prefer", "wait=1")]);
    door.assert_refused(&answer, 503, &["loading broken"]);
    let told = pieces(hub.http.open(door.path, &ask("broken", true)), door.path);
    assert!(
        told.last().unwrap().starts_with("event: error\n"),
        "{told:?}"
    );

    let mut first = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let body = ask("full", false).to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        door.path,
        body.len()
    );
    first.write_all((head + &body).as_bytes()).unwrap();
    wait_until("it to be parked", SOON, || {
        hub.model("full")["parked_requests"] == 1
    });
    let answer = door.post(&hub, &ask("full", true), &[]);
    door.assert_refused(&answer, 429, &["`full`"]);
    drop(first);
    wait_until("it to be missed", SOON, || {
        hub.model("full")["parked_requests"] == 0
    });

    for stream in [true, false] {
        let begin = || {
            let client = come(&hub, door, stream);
            wait_until("it to arrive", SOON, || in_worker(&hub) == json!(1));
            client
        };
        assert_missed_at_once("lease and connection", begin, || {
            active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0)
        });
    }
    assert!(hub.record.requests(crate::CHAT).is_empty());
}
