//! Clients that leave: what they held is freed, what others wait for goes on.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::http::chat;
use crate::support::{Hub, SOON, wait_until};
use crate::{
    CHAT, DIALECTS, ENDLESS, active, alpha, alpha_in, ask_and_wait, begin_stream, wait_for_active,
    wait_for_event,
};

/// A client that has left is missed within this time, wherever its request is.
const AT_ONCE: Duration = Duration::from_millis(100);

/// How many requests the worker is at: it counts one until its connection closes.
pub(crate) fn in_worker(hub: &Hub) -> Value {
    let stats = hub.http.get("/v1/queue/stats?model=alpha").json();
    stats["queue_stats"]["active_requests"].clone()
}

/// That what a client held is free [`AT_ONCE`] after it has left. The machine may do much else, so
/// what counts is the median of five.
#[track_caller]
pub(crate) fn assert_missed_at_once<C>(
    what: &str,
    mut come: impl FnMut() -> C,
    is_free: impl Fn() -> bool,
) {
    let mut times = [(); 5].map(|()| {
        let client = come();
        assert!(!is_free(), "{what}: nothing is held");
        let left = Instant::now();
        drop(client);
        wait_until(what, SOON, &is_free);
        left.elapsed()
    });
    times.sort();
    assert!(times[2] < AT_ONCE, "{what}: {times:?}");
}

#[test]
fn a_client_that_waits_for_a_load_is_missed_at_once() {
    let hub = Hub::start(&alpha(&["--load-seconds", "600"]));
    let waiting = || hub.model("alpha")["waiting_requests"].as_u64().unwrap();
    let come = || {
        let client = ask_and_wait(&hub, &chat("alpha", "hello", false));
        wait_until("it to wait", SOON, || waiting() == 1);
        client
    };
    assert_missed_at_once("its place", come, || waiting() == 0);
}

#[test]
fn a_client_that_a_policy_has_parked_is_missed_at_once() {
    let policy = "return { on_request = function() return hub.wait{ seconds = 600 } end }";
    let hub = Hub::start_with(&alpha(&[]), &[("wait.lua", policy)]);
    let parked = || hub.model("alpha")["parked_requests"].as_u64().unwrap();
    let come = || {
        let client = ask_and_wait(&hub, &chat("alpha", "hello", false));
        wait_until("it to be parked", SOON, || parked() == 1);
        client
    };
    assert_missed_at_once("its place", come, || parked() == 0);
}

#[test]
fn a_client_of_a_plain_answer_is_missed_at_once_by_hub_and_worker() {
    let hub = Hub::start(&alpha(&["--first-token-seconds", "600"]));
    let come = || {
        let client = ask_and_wait(&hub, &chat("alpha", "hello", false));
        wait_until("it to arrive", SOON, || in_worker(&hub) == json!(1));
        client
    };
    assert_missed_at_once("lease and connection", come, || {
        active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0)
    });
}

#[test]
fn a_client_of_a_stream_is_missed_at_once_by_hub_and_worker() {
    // While it comes, and while nothing of it comes.
    for pause in ["10", "600000"] {
        let hub = Hub::start(&alpha(&["--tokens", "100000", "--token-ms", pause]));
        assert_missed_at_once(
            "lease and connection",
            || begin_stream(&hub),
            || active(&hub, "alpha") == 0 && in_worker(&hub) == json!(0),
        );
    }
}

/// A chat whose body is larger than what the hub reads ahead, and of which some is never sent. With
/// `expect` the client is told to go on, and leaves that unread.
fn begin_large_upload(hub: &Hub, expect: &str, sent: usize) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let length = sent + 1_000_000;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: h\r\n{expect}content-length: {length}\r\n\r\n{{\"model\":\"alpha\",\"x\":\""
    );
    client.write_all(head.as_bytes()).unwrap();
    client
}

#[test]
fn a_client_is_missed_at_once_though_more_has_come_of_its_body_than_is_read() {
    let hub = Hub::start(&alpha(&["--load-seconds", "600"]));
    let waiting = || hub.model("alpha")["waiting_requests"].as_u64().unwrap();
    // All that is sent fits between client and hub, and the client's FIN behind it; or it does not,
    // and there is an RST, since the client has left something unread.
    let expect = "expect: 100-continue\r\n";
    for (expect, sent) in [("", (4 << 20) + (300 << 10)), (expect, 64 << 20)] {
        let come = || {
            let mut client = begin_large_upload(&hub, expect, sent);
            wait_until("it to wait", SOON, || waiting() == 1);
            client.set_nonblocking(true).unwrap();
            send_until_held_up(&mut client, sent);
            client
        };
        assert_missed_at_once("its place", come, || waiting() == 0);
    }
}

/// Sends so much, or less when the hub takes no more.
fn send_until_held_up(client: &mut TcpStream, length: usize) {
    let text = vec![b'x'; length];
    let mut sent = 0;
    let mut last = Instant::now();
    wait_until("the hub to read no more", SOON, || {
        while let Ok(more @ 1..) = client.write(&text[sent..]) {
            sent += more;
            last = Instant::now();
        }
        sent == length || last.elapsed() > AT_ONCE
    });
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: h\r\n\r\n";

/// What comes back when the client has ended its side before the hub sees the request.
fn half_closed(hub: &Hub, request: &str) -> String {
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    // The hub waits for the connection's next request then, and sees it together with the end.
    client.write_all(HEALTH.as_bytes()).unwrap();
    let mut first = vec![0; 1000];
    while !first.contains(&b'}') {
        let read = client.read(&mut first).unwrap();
        assert!(read > 0);
    }
    hub.signal(Signal::SIGSTOP);
    client.write_all(request.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    hub.signal(Signal::SIGCONT);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_client_that_ends_its_side_gets_what_the_hub_itself_answers() {
    let hub = Hub::start(&alpha(&[]));
    let unknown = r#"{"model":"nosuch"}"#;
    let unknown = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{unknown}",
        unknown.len()
    );
    for (request, status) in [
        (HEALTH, 200),
        ("GET /v1/models HTTP/1.1\r\nhost: h\r\n\r\n", 200),
        (&unknown, 404),
    ] {
        // The machine may be too busy for some.
        let answers = [(); 9].map(|()| half_closed(&hub, &request.repeat(2)));
        let status = format!("HTTP/1.1 {status} ");
        let both = |answer: &&String| answer.matches(&status).count() == 2;
        let whole = answers.iter().filter(both).count();
        assert!(whole > 4, "{request}: {whole} of {answers:?}");
    }
}

#[test]
fn a_client_that_leaves_while_a_model_loads_undoes_nothing() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--load-seconds", "1"]));
        hub.wait_for_state("alpha", "running", "unloaded");
        let client = ask_and_wait(&hub, &chat("alpha", "hello", true));
        wait_until("the load to begin", SOON, || {
            !hub.record.events("load").is_empty()
        });
        drop(client);
        hub.wait_for_state("alpha", "running", "loaded");
        assert_eq!(active(&hub, "alpha"), 0);
        // The next request is the first that the worker sees, in the same process.
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        assert_eq!(hub.record.requests(CHAT).len(), 1);
        assert_eq!(hub.record.events("start").len(), 1);
    }
}

#[test]
fn a_client_that_leaves_a_load_takes_nobody_with_it() {
    let hub = Hub::start(&alpha(&["--load-seconds", "1"]));
    let leaving = ask_and_wait(&hub, &chat("alpha", "hello", false));
    std::thread::scope(|scope| {
        let staying = scope.spawn(|| hub.http.chat("alpha", "hello").status);
        wait_for_event(&hub, "load", 1);
        drop(leaving);
        assert_eq!(staying.join().unwrap(), 200);
    });
    assert_eq!(hub.record.events("start").len(), 1);
}

#[test]
fn a_client_that_leaves_before_its_plain_answer_frees_lease_and_worker() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--first-token-seconds", "600"]));
        let client = ask_and_wait(&hub, &chat("alpha", "hello", false));
        wait_until("the request to arrive", SOON, || {
            !hub.record.requests(CHAT).is_empty()
        });
        assert_eq!(active(&hub, "alpha"), 1);
        assert_eq!(in_worker(&hub), json!(1));
        drop(client);
        wait_for_active(&hub, "alpha", 0);
        wait_until("the worker to notice", SOON, || in_worker(&hub) == json!(0));
        assert_eq!(hub.act("alpha", "stop").status, 200);
    }
}

#[test]
fn a_client_that_leaves_a_stream_frees_lease_and_worker() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &ENDLESS));
        let events = begin_stream(&hub);
        assert_eq!(active(&hub, "alpha"), 1);
        drop(events);
        wait_for_event(&hub, "cancelled", 1);
        wait_for_active(&hub, "alpha", 0);
        let model = hub.model("alpha");
        assert_eq!(model["memory_state"], "loaded", "{model}");
    }
}

#[test]
fn a_client_that_leaves_its_upload_frees_lease_and_worker() {
    let hub = Hub::start(&alpha(&[]));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n{{\"model\":\"alpha\",\"messages\":[\""
    );
    client.write_all(request.as_bytes()).unwrap();
    wait_for_active(&hub, "alpha", 1);
    drop(client);
    wait_for_event(&hub, "upload_aborted", 1);
    wait_for_active(&hub, "alpha", 0);
}
