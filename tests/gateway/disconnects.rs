//! Clients that leave: what they held is freed, what others wait for goes on.

use serde_json::json;

use crate::support::http::chat;
use crate::support::{Hub, SOON, wait_until};
use crate::{
    CHAT, DIALECTS, ENDLESS, active, alpha, alpha_in, ask_and_wait, begin_stream, wait_for_active,
    wait_for_event,
};

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
        // The worker counts a request until its connection closes.
        let in_worker = || {
            let stats = hub.http.get("/v1/queue/stats?model=alpha").json();
            stats["queue_stats"]["active_requests"].clone()
        };
        assert_eq!(in_worker(), json!(1));
        drop(client);
        wait_for_active(&hub, "alpha", 0);
        wait_until("the worker to notice", SOON, || in_worker() == json!(0));
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
    let mut client = std::net::TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n{{\"model\":\"alpha\",\"messages\":[\""
    );
    std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
    wait_for_active(&hub, "alpha", 1);
    drop(client);
    wait_for_event(&hub, "upload_aborted", 1);
    wait_for_active(&hub, "alpha", 0);
}
