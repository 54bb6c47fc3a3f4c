//! Workers that are killed: clients hear of it, the state says so, the next request starts afresh.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::http::chat;
use crate::support::{Hub, SOON, processes, wait_until};
use crate::{CHAT, DIALECTS, ENDLESS, alpha, alpha_in, assert_error, wait_for_active};

const DOWN: &str = "service_unavailable";

/// SIGKILL to the whole group of the worker that was started last.
fn kill_worker(hub: &Hub) {
    let worker = *hub.record.workers().last().unwrap();
    processes::send_to_group(worker, Signal::SIGKILL);
}

fn wait_for_death(hub: &Hub) -> Value {
    wait_until("the death to be noticed", SOON, || {
        hub.model("alpha")["process_state"] == "failed"
    });
    let model = hub.model("alpha");
    assert_eq!(model["exit_code"], -9, "{model}");
    assert_eq!(model["pid"], Value::Null, "{model}");
    assert_eq!(model["active_requests"], 0, "{model}");
    model
}

fn is_served_again(hub: &Hub) {
    let starts = hub.record.events("start").len();
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.record.events("start").len(), starts + 1);
    let model = hub.model("alpha");
    assert_eq!(
        (&model["process_state"], &model["exit_code"]),
        (&"running".into(), &Value::Null)
    );
}

#[test]
fn an_idle_worker_that_is_killed_has_failed_and_is_started_by_the_next_request() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &[]));
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        kill_worker(&hub);
        wait_for_death(&hub);
        is_served_again(&hub);
    }
}

#[test]
fn a_request_just_after_the_death_is_answered_by_a_new_worker_or_told_502() {
    let hub = Hub::start(&alpha(&[]));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    for _ in 0..5 {
        kill_worker(&hub);
        wait_until("a new worker to answer", SOON, || {
            let answer = hub.http.chat("alpha", "hello");
            if answer.status != 200 {
                assert_error(&answer, 502, DOWN, "502", &["`alpha`"]);
            }
            answer.status == 200
        });
    }
    assert_eq!(hub.record.events("start").len(), 6);
}

#[test]
fn a_killed_server_takes_its_group_along() {
    let hub = Hub::start(&alpha(&[
        "--grandchild",
        "stubborn",
        "--linger-seconds",
        "600",
    ]));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let server = hub.record.workers()[0];
    assert_eq!(processes::members(server).len(), 4);
    processes::send(server, Signal::SIGKILL);
    wait_for_death(&hub);
    assert_eq!(processes::members(server), [0; 0]);
    is_served_again(&hub);
}

#[test]
fn a_plain_request_in_flight_is_told_502() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--first-token-seconds", "600"]));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| hub.http.chat("alpha", "hello"));
            wait_until("the request to arrive", SOON, || {
                !hub.record.requests(CHAT).is_empty()
            });
            kill_worker(&hub);
            assert_error(&client.join().unwrap(), 502, DOWN, "502", &["`alpha`"]);
        });
        wait_for_death(&hub);
    }
}

#[test]
fn a_stream_in_flight_ends_with_an_error_event_and_a_cut_never_cleanly() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &ENDLESS));
        let mut events = hub.http.stream("alpha", "hello").events();
        for _ in 0..3 {
            events.next().unwrap().unwrap();
        }
        kill_worker(&hub);
        let mut rest: Vec<_> = events.collect();
        let cut = rest.pop().unwrap();
        assert!(cut.is_err(), "a clean end: {cut:?}");
        let last = rest.pop().unwrap().unwrap();
        let last: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(last["error"]["type"], DOWN, "{last}");
        assert_eq!(last["error"]["code"], "502", "{last}");
        assert!(
            last["error"]["message"]
                .as_str()
                .unwrap()
                .contains("`alpha`"),
            "{last}"
        );
        assert!(
            rest.iter()
                .all(|event| event.as_ref().is_ok_and(|data| data != "[DONE]"))
        );
        wait_for_active(&hub, "alpha", 0);
        wait_for_death(&hub);
    }
}

#[test]
fn all_who_wait_for_a_load_are_told_503_when_its_worker_is_killed() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--load-seconds", "600"]));
        std::thread::scope(|scope| {
            let hub = &hub;
            let clients = [false, true, false].map(|stream| {
                scope.spawn(move || hub.http.post(CHAT, &chat("alpha", "hello", stream)))
            });
            wait_until("the load", SOON, || !hub.record.events("load").is_empty());
            kill_worker(hub);
            for client in clients {
                let words = ["`alpha`", "signal 9", "MLX Server Starting"];
                assert_error(&client.join().unwrap(), 503, DOWN, "503", &words);
            }
        });
        wait_for_death(&hub);
        assert_eq!(hub.record.events("start").len(), 1, "{dialect}");
    }
}

#[test]
fn a_worker_that_crashes_in_its_answer_is_told_apart_by_its_code() {
    let hub = Hub::start(&alpha(&["--crash-after-events", "3", "--exit-code", "7"]));
    let events: Vec<_> = hub.http.stream("alpha", "hello").events().collect();
    assert!(events.last().unwrap().is_err(), "{events:?}");
    wait_until("the death to be noticed", SOON, || {
        hub.model("alpha")["process_state"] == "failed"
    });
    assert_eq!(hub.model("alpha")["exit_code"], 7);
}
