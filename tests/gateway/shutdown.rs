//! The end of the hub: it drains, a second signal cuts, and nothing is left.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{Hub, SOON, processes, stub, wait_until};
use crate::{DIALECTS, ENDLESS, alpha, assert_error, begin_stream};

fn assert_nothing_is_left(hub: &mut Hub) {
    let end = hub.wait_for_end();
    assert!(end.success(), "{end}\n{}", hub.output());
    assert_eq!(hub.worker_processes(), [0; 0]);
    assert!(!hub.logs().join("hub_runtime.json").exists());
    assert!(processes::is_free(hub.http.port), "the port is still taken");
}

#[test]
fn a_signal_lets_a_stream_end_first() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // Without the hub's patience the worker would cut the stream after half a second.
        let short = alpha(&["--tokens", "20", "--token-ms", "100"]);
        let mut hub = Hub::start(&format!("stop_timeout: 1\n{short}"));
        let events = begin_stream(&hub);
        assert!(hub.logs().join("hub_runtime.json").exists());
        hub.signal(signal);
        let left: Vec<_> = events.collect::<Result<_, _>>().expect("a whole stream");
        assert_eq!(left.last().unwrap(), "[DONE]", "{signal}");
        assert_nothing_is_left(&mut hub);
        assert_eq!(hub.record.events("streamed").len(), 1);
    }
}

#[test]
fn a_second_signal_cuts_the_stream() {
    for (first, second) in [
        (Signal::SIGTERM, Signal::SIGTERM),
        (Signal::SIGINT, Signal::SIGINT),
        (Signal::SIGINT, Signal::SIGTERM),
    ] {
        let mut hub = Hub::start(&alpha(&ENDLESS));
        let mut events = begin_stream(&hub);
        hub.signal(first);
        wait_until("the drain to begin", SOON, || {
            hub.output().contains("shutting down")
        });
        events.next().unwrap().unwrap();
        hub.signal(second);
        let rest: Vec<_> = events.collect();
        assert!(
            rest.last().unwrap().is_err(),
            "{first}, {second}: a clean end"
        );
        assert_nothing_is_left(&mut hub);
    }
}

#[test]
fn nobody_is_admitted_while_the_hub_drains() {
    let mut hub = Hub::start(&alpha(&ENDLESS));
    let mut events = begin_stream(&hub);
    let answer = hub.http.post("/hub/shutdown", &json!({}));
    assert_eq!(answer.status, 200);
    assert_eq!(
        (&answer.json()["status"], &answer.json()["action"]),
        (&json!("ok"), &json!("stop"))
    );
    wait_until("the drain to begin", SOON, || {
        hub.output().contains("process stopping")
    });
    let answer = hub.http.chat("alpha", "hello");
    assert_error(&answer, 503, "service_unavailable", "503", &[]);
    assert_eq!(hub.act("alpha", "load").status, 503);
    events.next().unwrap().unwrap();
    drop(events);
    assert_nothing_is_left(&mut hub);
}

#[test]
fn whatever_a_worker_is_doing_it_ends_with_the_hub() {
    for dialect in DIALECTS {
        let mut hub = Hub::start(&format!(
            "worker_command: {}\n\
             stop_timeout: 4\n\
             models:\n\
             - {{name: idle, model_path: org/idle, default: true}}\n\
             - {{name: loading, model_path: org/loading, default: true, env: {{STUB_LOAD_SECONDS: '600'}}}}\n\
             - {{name: booting, model_path: org/booting, default: true, env: {{STUB_BOOT_SECONDS: '600'}}}}\n\
             - {{name: deaf, model_path: org/deaf, default: true, env: {{STUB_IGNORE_SIGTERM: 'true'}}}}\n\
             - {{name: unloaded, model_path: org/unloaded, jit_enabled: true, default: true}}\n",
            stub(&["--dialect", dialect])
        ));
        hub.wait_for_state("idle", "running", "loaded");
        wait_until("all to be started", SOON, || {
            hub.record.events("start").len() >= 4 && hub.record.events("load").len() >= 3
        });
        hub.signal(Signal::SIGTERM);
        assert_nothing_is_left(&mut hub);
    }
}

#[test]
fn a_client_that_holds_its_connection_open_does_not_hold_up_the_hub() {
    let mut hub = Hub::start(&alpha(&[]));
    let idle = std::net::TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    hub.signal(Signal::SIGTERM);
    assert_nothing_is_left(&mut hub);
    drop(idle);
}
