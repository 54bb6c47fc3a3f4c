//! A server that lives on while its model process is dead: its requests are ended, and it is replaced.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::models::{LOAD, home_with_two, real_worker};
use crate::rounds::{ENDLESS, SOME, cut};
use crate::support::home::Home;
use crate::support::{SOON, processes, wait_until};

const STALL: Duration = Duration::from_secs(3);
/// Looks, the end of the group, a busy machine: well below the 300 s that are the default, and below
/// the times that a client or this worker would give up by itself.
const MARGIN: Duration = Duration::from_secs(15);

#[test]
fn a_worker_whose_model_process_is_killed_is_replaced_within_the_stall_time() {
    let Some(worker) = real_worker() else { return };
    let home = home_with_two(worker);
    home.configure_two(&format!("stall_timeout: {}\n", STALL.as_secs()));
    home.said(&["start"]);
    wait_until("plain to be loaded", LOAD, || {
        home.states("plain").1 == "loaded"
    });

    let mut events = home.stream("plain", ENDLESS).events();
    events.next().expect("an event").expect("a stream");
    let (pid, killed) = kill_model_process(&home);
    let rest: Vec<_> = events.collect();
    assert!(killed.elapsed() < STALL + MARGIN, "{:?}", killed.elapsed());
    assert_eq!(cut(&rest), "stream: error event");
    is_replaced(&home, pid);

    let (answer, pid, killed) = std::thread::scope(|scope| {
        let client = scope.spawn(|| home.chat("plain", ENDLESS));
        wait_until("the request to be in flight", SOON, || {
            home.model("plain")["active_requests"] == 1
        });
        let (pid, killed) = kill_model_process(&home);
        (client.join().expect("an answer"), pid, killed)
    });
    assert!(killed.elapsed() < STALL + MARGIN, "{:?}", killed.elapsed());
    assert_eq!(answer.status, 502, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["type"], "service_unavailable", "{error}");
    is_replaced(&home, pid);

    home.said(&["stop"]);
    assert_eq!(home.processes(), Vec::<String>::new());
}

/// SIGKILL to the child that holds the weights; says which server it had, and when.
fn kill_model_process(home: &Home) -> (u32, Instant) {
    let server = home.pid_of("plain");
    let members = processes::members(server);
    assert_eq!(members.len(), 3, "server, tracker, model");
    let others = members.into_iter().filter(|member| *member != server);
    // The tracker holds little.
    let model = others
        .max_by_key(|member| processes::memory_kib(*member))
        .expect("two");
    processes::send(model, Signal::SIGKILL);
    (server, Instant::now())
}

/// By another process, which answers.
fn is_replaced(home: &Home, old: u32) {
    wait_until("another worker", LOAD, || {
        let model = home.model("plain");
        model["memory_state"] == "loaded" && model["pid"] != old
    });
    assert_eq!(processes::members(old), [0; 0]);
    let answer = home.chat("plain", SOME);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(matches!(
        answer.json()["choices"][0]["message"],
        Value::Object(_)
    ));
}
