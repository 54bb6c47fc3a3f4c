//! Another `host` on the same port: whoever connects to an address that both hubs have is answered.

use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::http::{Http, chat};
use crate::support::{Hub, SOON, wait_until};
use crate::{models, worker};

const CLIENTS: usize = 16;

/// What the clients met.
#[derive(Default)]
struct Findings {
    answered: AtomicUsize,
    faults: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

fn ask_again_and_again(http: Http, findings: &Findings) {
    let body = chat("alpha", "hello", false);
    while !findings.is_over.load(Ordering::Relaxed) {
        match http.try_post("/v1/chat/completions", &body) {
            Ok(answer) if answer.status == 200 => {
                findings.answered.fetch_add(1, Ordering::Relaxed);
            }
            other => findings.faults.lock().unwrap().push(format!("{other:?}")),
        }
    }
}

#[test]
fn a_change_of_host_loses_no_connection() {
    let yaml = |host: &str| {
        let alpha = models(&[("alpha", "default: true")]);
        format!("host: '{host}'\n{}\n{alpha}", worker(&[]))
    };
    let hub = Hub::start(&yaml("127.0.0.1"));
    hub.wait_for_state("alpha", "running", "loaded");
    let findings = Findings::default();
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let hosts = [
        "0.0.0.0",
        "127.0.0.1",
        "localhost",
        "127.0.0.1",
        "::",
        "0.0.0.0",
    ];
    let hosts = hosts.iter().filter(|host| has_ipv6 || **host != "::");
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask_again_and_again(hub.http, &findings));
        }
        for host in hosts {
            hub.configure(&yaml(host));
            let restarted = hub.restart();
            if restarted.status.code() != Some(0) {
                findings
                    .faults
                    .lock()
                    .unwrap()
                    .push(format!("{host}: {restarted:?}"));
            }
            let answered = findings.answered.load(Ordering::Relaxed);
            wait_until("answers by the new hub", SOON, || {
                findings.answered.load(Ordering::Relaxed) > answered + CLIENTS
            });
        }
        findings.is_over.store(true, Ordering::Relaxed);
    });
    let faults = findings.faults.into_inner().unwrap();
    assert!(
        faults.is_empty(),
        "{} of {:?}: {faults:#?}",
        faults.len(),
        findings.answered
    );
    assert_eq!(hub.record.workers().len(), 1);
}
