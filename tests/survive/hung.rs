//! Workers that hang while they answer `/health`: stopped by a signal, spinning, or answering every request
//! with an error.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::support::http::chat;
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

/// Much longer than `stall_timeout`.
const LONG: Duration = Duration::from_secs(7);

/// For so long nothing happens, and the worker must stay the same.
fn stays(hub: &Hub, worker: u32) {
    let end = Instant::now() + LONG;
    while Instant::now() < end {
        assert_eq!(pid(hub, "m"), Some(worker), "{}", told(hub));
        // A look now and then: there is nothing to wait for.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn connect(hub: &Hub) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

#[test]
fn a_client_that_takes_long_to_send_is_no_silence_of_the_worker() {
    let hub = hub(&[], "");
    let worker = wait_for_pid(&hub, "m");
    let body = chat("m", "hello", false).to_string();
    let (first, rest) = body.split_at(body.len() - 10);
    let mut client = connect(&hub);
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close";
    write!(
        client,
        "{head}\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    )
    .unwrap();
    stays(&hub, worker);
    client.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(pid(&hub, "m"), Some(worker));
}

#[test]
fn a_client_that_takes_long_to_read_is_no_silence_of_the_worker() {
    // More than all buffers on the way hold.
    let hub = hub(&["--tokens", "200000"], "");
    let worker = wait_for_pid(&hub, "m");
    let stream = hub.http.stream("m", "hello");
    processes::wait_until_held_up(worker);
    stays(&hub, worker);
    let events = stream.events().collect::<Result<Vec<_>, _>>().unwrap();
    assert_eq!(events.last().map(String::as_str), Some("[DONE]"));
    assert!(events.len() > 200_000, "{}", events.len());
    assert_eq!(pid(&hub, "m"), Some(worker));
}

#[test]
fn a_websocket_on_which_nobody_speaks_is_no_silence_of_the_worker() {
    let hub = hub(&[], "");
    let worker = wait_for_pid(&hub, "m");
    let mut client = connect(&hub);
    write!(
        client,
        "GET /v1/realtime?model=m HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(hub.model("m")["active_requests"], 1);
    stays(&hub, worker);
    client.write_all(b"still there").unwrap();
    let mut back = [0; 11];
    client.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still there");
}
