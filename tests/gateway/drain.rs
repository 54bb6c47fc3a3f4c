//! Unload and stop: requests in flight come first, within limits; whoever comes later waits or is
//! told.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::support::{Hub, SOON, processes, wait_until};
use crate::{
    CHAT, DIALECTS, ENDLESS, alpha, alpha_in, begin_stream, wait_for_active, wait_for_event,
};

/// A stream of about two seconds.
const SHORT: [&str; 4] = ["--tokens", "20", "--token-ms", "100"];

/// A worker waits for its requests by itself, until SIGINT: a hub that does not drain cuts the stream
/// after half a second.
const SOON_CUT: &str = "stop_timeout: 1\n";

#[test]
fn unload_and_stop_wait_for_a_stream_in_flight() {
    for (action, process, memory) in [
        ("unload", "running", "unloading"),
        ("stop", "stopping", "unloading"),
    ] {
        for dialect in DIALECTS {
            let hub = Hub::start(&(SOON_CUT.to_owned() + &alpha_in(dialect, &SHORT)));
            let events = begin_stream(&hub);
            std::thread::scope(|scope| {
                let done = scope.spawn(|| hub.act("alpha", action));
                hub.wait_for_state("alpha", process, memory);
                assert_eq!(
                    events.last().unwrap().unwrap(),
                    "[DONE]",
                    "{action} {dialect}"
                );
                let answer = done.join().unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
            assert_eq!(hub.record.events("streamed").len(), 1);
            let model = hub.model("alpha");
            let after = if action == "stop" {
                "stopped"
            } else {
                "running"
            };
            assert_eq!(model["process_state"], after, "{action} {dialect}: {model}");
            assert_eq!(model["memory_state"], "unloaded");
            assert_eq!(model["exit_code"], serde_json::Value::Null);
        }
    }
}

#[test]
fn requests_during_an_unload_wait_and_load_again() {
    for dialect in DIALECTS {
        let hub = Hub::start(&(SOON_CUT.to_owned() + &alpha_in(dialect, &SHORT)));
        let events = begin_stream(&hub);
        std::thread::scope(|scope| {
            let unload = scope.spawn(|| hub.act("alpha", "unload").status);
            hub.wait_for_state("alpha", "running", "unloading");
            let late = scope.spawn(|| hub.http.stream("alpha", "late").said());
            assert_eq!(events.last().unwrap().unwrap(), "[DONE]");
            assert_eq!(unload.join().unwrap(), 200);
            assert!(late.join().unwrap().contains("“late”"));
        });
        assert_eq!(hub.record.events("start").len(), 2, "{dialect}");
        assert_eq!(hub.record.events("load").len(), 2, "{dialect}");
        assert_eq!(hub.model("alpha")["memory_state"], "loaded");
    }
}

#[test]
fn drain_timeout_cuts_what_is_still_in_flight() {
    for action in ["unload", "stop"] {
        let hub = Hub::start(&format!("drain_timeout: 2\n{SOON_CUT}{}", alpha(&ENDLESS)));
        let events = begin_stream(&hub);
        let asked = Instant::now();
        assert_eq!(hub.act("alpha", action).status, 200);
        assert!(
            asked.elapsed() >= Duration::from_secs(2),
            "{:?}",
            asked.elapsed()
        );
        let rest: Vec<_> = events.collect();
        assert!(rest.last().unwrap().is_err(), "a clean end");
        wait_for_active(&hub, "alpha", 0);
        assert_eq!(hub.worker_processes(), [0; 0]);
    }
}

#[test]
fn a_worker_that_ignores_sigterm_gets_sigint_then_sigkill() {
    for (knobs, signals) in [
        (&["--ignore-sigterm"][..], (1, 1)),
        (&["--ignore-sigterm", "--ignore-sigint"], (1, 1)),
    ] {
        let hub = Hub::start(&format!("stop_timeout: 2\n{}", alpha(knobs)));
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        let asked = Instant::now();
        assert_eq!(hub.act("alpha", "stop").status, 200);
        let took = asked.elapsed();
        let least = if knobs.len() == 1 { 1 } else { 2 };
        assert!(took >= Duration::from_secs(least), "{knobs:?}: {took:?}");
        assert!(took < Duration::from_secs(8), "{knobs:?}: {took:?}");
        let got = (
            hub.record.events("sigterm").len(),
            hub.record.events("sigint").len(),
        );
        assert_eq!(got, signals, "{knobs:?}");
        let model = hub.model("alpha");
        assert_eq!(model["process_state"], "stopped", "{model}");
        assert_eq!(model["exit_code"], serde_json::Value::Null, "{model}");
        assert_eq!(hub.worker_processes(), [0; 0]);
    }
}

#[test]
fn a_stubborn_grandchild_does_not_outlive_a_stop_or_an_unload() {
    for action in ["stop", "unload"] {
        let hub = Hub::start(&format!(
            "stop_timeout: 2\n{}",
            alpha(&["--grandchild", "stubborn"])
        ));
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        let worker = hub.record.workers()[0];
        assert_eq!(
            processes::members(worker).len(),
            4,
            "server, tracker, model, grandchild"
        );
        assert_eq!(hub.act("alpha", action).status, 200);
        assert_eq!(processes::members(worker), [0; 0], "{action}");
    }
}

#[test]
fn a_stop_during_a_load_ends_the_load() {
    for dialect in DIALECTS {
        let hub = Hub::start(&format!(
            "stop_timeout: 4\n{}",
            alpha_in(dialect, &["--load-seconds", "600"])
        ));
        std::thread::scope(|scope| {
            let client = scope.spawn(|| hub.http.chat("alpha", "hello").status);
            wait_until("the load", SOON, || !hub.record.events("load").is_empty());
            assert_eq!(hub.act("alpha", "stop").status, 200);
            assert_eq!(client.join().unwrap(), 503);
        });
        assert_eq!(hub.model("alpha")["process_state"], "stopped");
        assert_eq!(hub.worker_processes(), [0; 0], "{dialect}");
    }
}

#[test]
fn a_worker_frozen_by_a_signal_is_ended_all_the_same() {
    let hub = Hub::start(&format!("stop_timeout: 2\n{}", alpha(&[])));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    processes::send_to_group(hub.record.workers()[0], Signal::SIGSTOP);
    assert_eq!(hub.act("alpha", "stop").status, 200);
    assert_eq!(hub.worker_processes(), [0; 0]);
}

#[test]
fn a_reload_that_restarts_a_model_waits_for_its_stream_and_new_requests_for_the_new_worker() {
    for dialect in DIALECTS {
        restart_under_a_stream(dialect);
    }
}

fn restart_under_a_stream(dialect: &str) {
    let models = alpha_in(dialect, &SHORT);
    let hub = Hub::start(&(SOON_CUT.to_owned() + &models));
    let events = begin_stream(&hub);
    let changed = models.replace("default: true", "default: true, queue_size: 7");
    hub.configure(&(SOON_CUT.to_owned() + &changed));
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| hub.http.post("/hub/reload", &serde_json::json!({})).json());
        hub.wait_for_state("alpha", "running", "unloading");
        let other = scope.spawn(|| hub.http.chat("alpha", "hello"));
        let listed = hub.http.get("/v1/models").json();
        assert_eq!(listed["data"][0]["id"], "alpha", "{listed}");
        assert_eq!(events.last().unwrap().unwrap(), "[DONE]");
        let report = reload.join().unwrap();
        assert_eq!(report["stopped"], serde_json::json!(["alpha"]), "{report}");
        assert_eq!(report["started"], serde_json::json!(["alpha"]), "{report}");
        let other = other.join().unwrap();
        assert_eq!(other.status, 200, "{dialect}: {}", other.text());
    });
    wait_for_event(&hub, "start", 2);
    let args = hub.record.events("start")[1]["args"].to_string();
    assert!(args.contains("--queue-size"), "{args}");
    assert_eq!(hub.record.requests(CHAT).len(), 2, "{dialect}");
}
