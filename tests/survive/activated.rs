//! A hub on sockets that its service manager holds: killed and started again, it refuses no connection.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::http::chat;
use crate::support::{Hub, SOON, processes, wait_until};
use crate::{models, pid, worker};

const KILLS: usize = 5;
const CLIENTS: usize = 4;

/// What the clients met.
#[derive(Default)]
struct Findings {
    answered: AtomicUsize,
    /// Broken off, per client.
    lost: [AtomicUsize; CLIENTS],
    refused: AtomicUsize,
    /// Answers that are none.
    failed: AtomicUsize,
    is_over: AtomicBool,
}

impl Findings {
    fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }
}

#[test]
fn a_killed_hub_on_a_held_socket_refuses_no_connection() {
    let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
    let (mut hub, listener) = Hub::start_activated(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    let worker = pid(&hub, "alpha").unwrap();
    let (http, findings) = (hub.http, &Findings::default());
    std::thread::scope(|scope| {
        for lost in &findings.lost {
            scope.spawn(move || {
                while !findings.is_over.load(Ordering::Relaxed) {
                    let body = chat("alpha", "hello", false);
                    let count = match http.try_post("/v1/chat/completions", &body) {
                        Ok(answer) if answer.status == 200 => &findings.answered,
                        Ok(_) => &findings.failed,
                        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                            &findings.refused
                        }
                        Err(_) => lost,
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..KILLS {
            let before = findings.answered();
            wait_until("answers", SOON, || findings.answered() > before + CLIENTS);
            hub.kill();
            // Nobody accepts it now.
            TcpStream::connect(("127.0.0.1", http.port)).unwrap();
            hub.activate_again(&listener);
        }
        findings.is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(findings.refused.load(Ordering::Relaxed), 0, "refused");
    assert_eq!(findings.failed.load(Ordering::Relaxed), 0, "failed");
    // Each has one request at a time, so that a kill meets one of each at most.
    for lost in &findings.lost {
        assert!(lost.load(Ordering::Relaxed) <= KILLS, "{lost:?}");
    }
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(pid(&hub, "alpha"), Some(worker));
    assert_eq!(hub.record.workers(), [worker]);

    // What the hub has started has no part in the socket.
    hub.kill();
    drop(listener);
    let refused = TcpStream::connect(("127.0.0.1", http.port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(processes::is_alive(worker));
}

#[test]
fn a_hub_on_a_held_socket_is_replaced_on_that_one_only() {
    let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
    let (mut hub, listener) = Hub::start_activated(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    let worker = pid(&hub, "alpha");
    let (first, port) = (hub.serving_pid(), hub.http.port);
    assert_eq!(hub.restart().status.code(), Some(0));
    let second = hub.serving_pid();
    assert_ne!(second, first);
    assert_eq!(pid(&hub, "alpha"), worker);
    let other = port + 1;
    hub.configure(&format!("port: {other}\n{yaml}"));
    let refused = hub.restart();
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    let both = format!("listens on `127.0.0.1:{port}` for the hub, and `port` is `{other}`");
    assert!(told.contains(&both), "{told}");
    assert_eq!(hub.serving_pid(), second);
    assert_eq!(hub.http.get("/health").status, 200);
    hub.configure(&yaml);
    drop(listener);
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    hub.wait_for_end();
}

#[test]
fn a_stop_does_not_have_the_service_manager_start_the_hub_again() {
    let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
    let (mut hub, listener) = Hub::start_activated(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    listener.set_nonblocking(true).unwrap();
    let stopped = hub.run(&["stop"]);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    let said = String::from_utf8(stopped.stdout).unwrap();
    assert!(
        said.contains("starts the hub at the next connection"),
        "{said}"
    );
    hub.wait_for_end();
    // A connection would be its order to start.
    let nobody = listener.accept().unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
    assert_eq!(hub.worker_processes(), [0; 0]);
}
