//! Workers that hang while they answer `/health`: stopped by a signal, spinning, or answering every request
//! with an error.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Hub, SOON, processes, wait_until};
use crate::{models, pid, wait_for_pid, worker};

/// No client waits so long.
const PATIENCE: Duration = Duration::from_millis(300);

fn hub(knobs: &[&str], more: &str) -> Hub {
    let models = models(&[("m", "default: true")]);
    let worker = worker(knobs);
    let hub = Hub::start(&format!(
        "stall_timeout: 2\nstop_timeout: 2\n{more}{worker}\n{models}"
    ));
    hub.wait_for_state("m", "running", "loaded");
    hub
}

/// Asks, waits for a while, and hangs up.
fn ask_impatiently(hub: &Hub) {
    let mut stream = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = r#"{"model": "m", "messages": [{"role": "user", "content": "hello"}]}"#;
    let length = body.len();
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
    // Nothing comes in time.
    let _ = stream.read(&mut [0]);
}

/// What the log of the hub says of the replacement.
fn told(hub: &Hub) -> String {
    let log = std::fs::read_to_string(hub.logs().join("app.log")).unwrap_or_default();
    let mut lines = log.lines();
    let line = lines.find_map(|line| line.split_once("its worker is replaced: "));
    line.map(|(_, reason)| reason.to_owned())
        .unwrap_or_default()
}

#[test]
fn a_worker_that_is_stopped_is_replaced_however_impatient_its_clients_are() {
    let hub = hub(&[], "");
    let old = wait_for_pid(&hub, "m");
    processes::send_to_group(old, Signal::SIGSTOP);
    wait_until("another worker", SOON, || {
        ask_impatiently(&hub);
        pid(&hub, "m").is_some_and(|pid| pid != old)
    });
    let reason = told(&hub);
    assert!(
        reason.contains("used no CPU for 2 s (`stall_timeout`)"),
        "{reason}"
    );
    hub.wait_for_state("m", "running", "loaded");
    assert_eq!(hub.http.chat("m", "hello").status, 200);
    assert_eq!(processes::members(old), [0; 0]);
}

#[test]
fn a_worker_that_spins_with_a_green_health_is_replaced() {
    // Nobody waits ten minutes for a test.
    let policy = "policy: {create_hub: {busy_minutes: 0.05, busy_factor: 0}}\n";
    let hub = hub(&["--spin"], policy);
    let old = wait_for_pid(&hub, "m");
    assert_eq!(hub.http.get("/upstream/m/health").status, 200);
    wait_until("another worker", SOON, || {
        ask_impatiently(&hub);
        assert_eq!(hub.http.get("/health").status, 200);
        pid(&hub, "m").is_some_and(|pid| pid != old)
    });
    let reason = told(&hub);
    assert!(reason.contains("were to be expected"), "{reason}");
}

#[test]
fn a_worker_that_answers_everything_with_500_is_replaced_after_five() {
    let hub = hub(&["--fail-requests"], "");
    let old = wait_for_pid(&hub, "m");
    for _ in 0..5 {
        assert_eq!(hub.http.chat("m", "hello").status, 500);
        // A look proves nothing.
        assert_eq!(hub.http.get("/upstream/m/health").status, 200);
    }
    wait_until("another worker", SOON, || {
        pid(&hub, "m").is_some_and(|pid| pid != old)
    });
    let reason = told(&hub);
    assert!(
        reason.contains("5 answers in a row were errors, the last one 500"),
        "{reason}"
    );
}
