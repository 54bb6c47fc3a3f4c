//! A hub that runs out of file descriptors: it survives, and serves when there are some again.

use std::net::TcpStream;

use crate::support::http::{Reply, chat};
use crate::support::{Hub, SOON, wait_until};
use crate::{CHAT, alpha, wait_for_active};

/// The hub's limit, and more connections than that.
const DESCRIPTORS: u32 = 64;
const CONNECTIONS: usize = 150;

#[test]
fn a_hub_out_of_file_descriptors_serves_again_when_clients_have_left() {
    let hub = Hub::start_with_descriptors(&alpha(&[]), DESCRIPTORS);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(("127.0.0.1", hub.http.port)).unwrap())
        .collect();
    // One more is accepted by the system, and waits there: nobody can take it.
    let log = hub.logs().join("app.log");
    wait_until("the hub to run out", SOON, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("cannot accept connections"))
    });
    drop(clients);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    wait_for_active(&hub, "alpha", 0);
    assert_eq!(hub.act("alpha", "unload").status, 200);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
}

/// Connections to workers need descriptors too: clients that have one are told what is wrong.
#[test]
fn a_request_that_finds_no_descriptor_for_its_worker_is_a_502() {
    let hub = Hub::start_with_descriptors(&alpha(&["--token-ms", "20"]), DESCRIPTORS);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let worker = hub.model("alpha")["pid"].clone();
    let http = hub.http;
    let body = chat("alpha", "hello", true).to_string();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    http.send("POST", CHAT, &[], body.as_bytes())
                        .and_then(Reply::whole)
                })
            })
            .collect();
        for client in clients {
            let answer = client.join().unwrap().unwrap();
            assert!([200, 502].contains(&answer.status), "{}", answer.text());
        }
    });
    wait_for_active(&hub, "alpha", 0);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let model = hub.model("alpha");
    assert_eq!(model["process_state"], "running", "{model}");
    // It was not the worker's fault.
    assert_eq!(model["pid"], worker, "{model}");
}
