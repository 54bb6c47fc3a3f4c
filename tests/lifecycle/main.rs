//! A real daemon with simulated workers: what must hold when many ask at once, clients leave, and
//! workers or the daemon misbehave.

mod download;
mod engines;
mod memory;
mod programs;
mod slow_policies;
mod start_wait;
#[path = "../support/mod.rs"]
mod support;

use std::io::Write as _;
use std::net::TcpStream;

use nix::sys::signal::Signal;
use support::http::chat;
use support::{Hub, SOON, processes, stub, wait_for, wait_until};

/// A hub.yaml with one model `m` that its first request loads.
fn one_jit_model(knobs: &[&str]) -> String {
    one_model(&format!(
        "\n    jit_enabled: true\n    worker_command: {}",
        stub(knobs)
    ))
}

/// A hub.yaml with one started model `m` and more keys.
fn one_model(keys: &str) -> String {
    format!("models:\n  - name: m\n    model_path: some/m\n    default: true{keys}\n")
}

#[test]
fn fifty_first_requests_are_one_load_in_both_dialects() {
    for dialect in ["jit", "1.8.1"] {
        let knobs = ["--dialect", dialect, "--load-seconds", "0.5"];
        let hub = Hub::start(&one_jit_model(&knobs));
        std::thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| assert_eq!(hub.http.chat("m", "hello").status, 200));
            }
        });
        assert_eq!(hub.record.events("load").len(), 1, "{dialect}");
        assert_eq!(hub.record.workers().len(), 1, "{dialect}");
        assert_eq!(hub.model("m")["memory_state"], "loaded");
    }
}

#[test]
fn tokens_pass_as_they_come() {
    let hub = Hub::start(&one_jit_model(&["--tokens", "100000", "--token-ms", "20"]));
    let mut events = hub.http.stream("m", "hello").events();
    for _ in 0..3 {
        events.next().unwrap().unwrap();
    }
    // An answer that was buffered would still be on its way after half an hour.
    assert_eq!(hub.model("m")["active_requests"], 1);
}

#[test]
fn a_client_that_leaves_frees_the_lease_and_the_worker() {
    let hub = Hub::start(&one_jit_model(&["--tokens", "100000", "--token-ms", "5"]));
    let mut events = hub.http.stream("m", "hello").events();
    events.next().unwrap().unwrap();
    drop(events);
    wait_until("the worker to notice", SOON, || {
        hub.record.count("cancelled", "m") == 1
    });
    wait_until("the lease to come back", SOON, || {
        hub.model("m")["active_requests"] == 0
    });
}

#[test]
fn a_client_that_leaves_does_not_undo_the_load() {
    let hub = Hub::start(&one_jit_model(&["--load-seconds", "1"]));
    let body = chat("m", "hello", true).to_string();
    let mut client = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1";
    write!(
        client,
        "{head}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    wait_until("the load", SOON, || hub.record.count("load", "m") == 1);
    drop(client);
    hub.wait_for_state("m", "running", "loaded");
    assert_eq!(
        hub.record.requests("/v1/chat/completions").len(),
        0,
        "nobody waits for an answer"
    );
}

#[test]
fn unload_waits_for_a_stream() {
    let hub = Hub::start(&one_jit_model(&["--tokens", "40", "--token-ms", "20"]));
    let mut events = hub.http.stream("m", "hello").events();
    events.next().unwrap().unwrap();
    let unload = std::thread::scope(|scope| {
        let unload = scope.spawn(|| hub.act("m", "unload"));
        assert_eq!(events.last().unwrap().unwrap(), "[DONE]");
        unload.join().unwrap()
    });
    assert_eq!(unload.status, 200, "{}", unload.text());
    assert_eq!(hub.model("m")["memory_state"], "unloaded");
    assert_eq!(hub.model("m")["process_state"], "running");
}

#[test]
fn a_stream_that_outlasts_the_drain_is_cut() {
    let knobs = ["--tokens", "100000", "--token-ms", "20"];
    let yaml = format!(
        "drain_timeout: 1\nstop_timeout: 2\n{}",
        one_jit_model(&knobs)
    );
    let hub = Hub::start(&yaml);
    let mut events = hub.http.stream("m", "hello").events();
    events.next().unwrap().unwrap();
    assert_eq!(hub.act("m", "stop").status, 200);
    assert!(events.any(|event| event.is_err()), "the stream was cut");
    assert_eq!(hub.worker_processes(), Vec::<u32>::new());
}

#[test]
fn a_worker_that_ignores_sigterm_gets_sigint() {
    let knobs = ["--ignore-sigterm"];
    let hub = Hub::start(&format!("stop_timeout: 2\n{}", one_jit_model(&knobs)));
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    assert_eq!(hub.act("m", "stop").status, 200);
    assert_eq!(hub.record.count("sigint", "m"), 1);
    assert_eq!(hub.worker_processes(), Vec::<u32>::new());
    assert_eq!(hub.model("m")["process_state"], "stopped");
    assert!(hub.model("m")["exit_code"].is_null());
}

#[test]
fn a_worker_that_ignores_both_signals_is_killed() {
    let knobs = ["--ignore-sigterm", "--ignore-sigint"];
    let hub = Hub::start(&format!("stop_timeout: 1\n{}", one_jit_model(&knobs)));
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    assert_eq!(hub.act("m", "stop").status, 200);
    assert_eq!(hub.worker_processes(), Vec::<u32>::new());
}

#[test]
fn a_stubborn_grandchild_does_not_outlive_a_stop() {
    let knobs = ["--dialect", "jit", "--grandchild", "stubborn"];
    let hub = Hub::start(&format!("stop_timeout: 1\n{}", one_jit_model(&knobs)));
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    assert_eq!(hub.worker_processes().len(), 2);
    assert_eq!(hub.act("m", "stop").status, 200);
    assert_eq!(hub.worker_processes(), Vec::<u32>::new());
}

#[test]
fn an_exit_with_0_while_loading_is_a_failure_that_shows_the_log() {
    for knobs in [&["--fail-load"][..], &["--dialect", "jit", "--fail-load"]] {
        let hub = Hub::start(&one_jit_model(knobs));
        let answer = hub.http.chat("m", "hello");
        assert_eq!(answer.status, 503, "{}", answer.text());
        let message = answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            message.contains("Failed to load model handler"),
            "{message}"
        );
        assert!(!message.contains('\x1b'), "no colours: {message}");
        assert_eq!(hub.model("m")["memory_state"], "failed");
    }
}

#[test]
fn a_worker_that_dies_is_failed_with_its_exit_code_and_tried_again() {
    let knobs = ["--crash-on-request", "2", "--exit-code", "7"];
    let hub = Hub::start(&one_jit_model(&knobs));
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    assert_eq!(hub.http.chat("m", "hello").status, 502);
    wait_until("it to be failed", SOON, || {
        hub.model("m")["process_state"] == "failed"
    });
    assert_eq!(hub.model("m")["exit_code"], 7);
    assert_eq!(hub.http.chat("m", "hello").status, 200, "a new worker");
    assert_eq!(hub.record.workers().len(), 2);
}

#[test]
fn death_by_a_signal_reads_as_its_negative() {
    let hub = Hub::start(&one_jit_model(&[]));
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    processes::send(hub.record.workers()[0], Signal::SIGKILL);
    wait_until("it to be failed", SOON, || {
        hub.model("m")["process_state"] == "failed"
    });
    assert_eq!(hub.model("m")["exit_code"], -9);
}

#[test]
fn a_blocked_worker_is_not_taken_for_dead() {
    let knobs = ["--dialect", "jit", "--blocking", "--load-seconds", "4"];
    let hub = Hub::start(&one_jit_model(&knobs));
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    assert_eq!(hub.record.workers().len(), 1);
}

#[test]
fn a_worker_under_jit_stays_up_unloaded_and_is_replaced_at_an_unload() {
    let hub = Hub::start(&one_jit_model(&["--dialect", "jit"]));
    let model = hub.wait_for_state("m", "running", "unloaded");
    let first = wait_for("a process", SOON, || hub.model("m")["pid"].as_u64());
    assert_eq!(model["memory_state"], "unloaded");
    assert_eq!(hub.act("m", "load").status, 200);
    assert_eq!(hub.model("m")["pid"].as_u64(), Some(first));
    assert_eq!(hub.act("m", "unload").status, 200);
    let second = wait_for("a fresh process", SOON, || hub.model("m")["pid"].as_u64());
    assert_ne!(first, second);
    assert_eq!(hub.record.count("load", "some/m"), 1);
}

#[test]
fn a_body_of_five_megabytes_arrives_as_it_was_sent() {
    let hub = Hub::start(&one_jit_model(&[]));
    let filler = "x".repeat(5_000_000);
    let body = chat("m", &filler, false).to_string();
    let head = [("content-type", "application/json")];
    let reply = hub
        .http
        .send("POST", "/v1/chat/completions", &head, body.as_bytes());
    assert_eq!(reply.unwrap().status, 200);
    let requests = hub.record.requests("/v1/chat/completions");
    assert_eq!(
        requests[0]["body_hash"],
        support::record::hash(body.as_bytes())
    );
}

#[test]
fn a_hub_after_a_killed_one_leaves_no_worker_of_it() {
    let mut hub = Hub::start(&one_jit_model(&[]));
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    let old = hub.record.workers()[0];
    hub.kill();
    assert_eq!(processes::members(old).len(), 3, "the workers survive");
    hub.serve_again();
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    // Adopted or replaced: after the stop that ends this test nothing of either may be left.
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert_eq!(hub.worker_processes(), Vec::<u32>::new());
}

#[test]
fn a_second_signal_skips_the_drain() {
    let mut hub = Hub::start(&one_jit_model(&["--tokens", "100000", "--token-ms", "20"]));
    let mut events = hub.http.stream("m", "hello").events();
    events.next().unwrap().unwrap();
    hub.signal(Signal::SIGTERM);
    hub.wait_for_state("m", "stopping", "unloading");
    assert_eq!(hub.http.chat("m", "hello").status, 503);
    hub.signal(Signal::SIGTERM);
    assert!(hub.wait_for_end().success());
    assert!(events.any(|event| event.is_err()), "the stream was cut");
}

#[test]
fn a_private_log_is_not_named() {
    let command = stub(&[]);
    let hub = Hub::start(&one_model(&format!(
        "\n    no_log_file: true\n    worker_command: {command}"
    )));
    hub.wait_for_state("m", "running", "loaded");
    assert!(hub.model("m")["log_path"].is_null());
}

#[test]
fn a_worker_that_does_nothing_about_its_requests_is_started_anew() {
    let yaml = one_jit_model(&["--first-token-seconds", "600"]);
    let hub = Hub::start(&format!("stall_timeout: 1\nstop_timeout: 1\n{yaml}"));
    let reply = hub.http.chat("m", "hello");
    assert_eq!(reply.status, 502, "{reply:?}");
    let failed = wait_for("the reason", SOON, || {
        let model = hub.model("m");
        model["memory_last_error"].as_str().map(str::to_owned)
    });
    assert!(failed.contains("`stall_timeout`"), "{failed}");
    // The model comes back by itself, with a worker of its own.
    wait_until("another start", SOON, || {
        hub.model("m")["process_state"] == "running"
    });
}
