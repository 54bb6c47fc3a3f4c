//! Signals: which end the hub, which make it read hub.yaml, and which do nothing.

use nix::sys::signal::Signal;

use crate::support::{Hub, SOON, processes, wait_until};
use crate::{models, worker};

fn yaml(model: &str) -> String {
    format!(
        "{}\n{}",
        worker(&[]),
        models(&[(model, "jit_enabled: true")])
    )
}

#[test]
fn a_hang_up_is_ignored_where_it_was_and_other_signals_do_nothing() {
    let hub = Hub::start_under(&yaml("alpha"), "trap '' HUP; exec \"$0\" \"$@\"");
    for signal in [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGIO,
        Signal::SIGQUIT,
        Signal::SIGXCPU,
        Signal::SIGXFSZ,
    ] {
        hub.signal(signal);
        assert_eq!(hub.http.get("/health").status, 200, "{signal}");
        assert!(processes::is_alive(hub.pid()), "{signal}");
    }
}

#[test]
fn a_hang_up_in_a_terminal_ends_the_hub_and_its_workers() {
    for is_replaced in [false, true] {
        let yaml = format!("{}\n{}", worker(&[]), models(&[("alpha", "default: true")]));
        let (mut hub, _terminal) = Hub::start_in_terminal(&yaml);
        hub.wait_for_state("alpha", "running", "loaded");
        if is_replaced {
            assert_eq!(hub.restart().status.code(), Some(0));
        }
        hub.signal(Signal::SIGHUP);
        assert_eq!(hub.wait_for_end().code(), Some(0));
        assert_eq!(hub.worker_processes(), [0; 0]);
        assert!(!hub.logs().join("hub_runtime.json").exists());
    }
}

#[test]
fn a_hang_up_in_the_background_reads_hub_yaml_again() {
    for hub in [
        Hub::start_in_background(&yaml("alpha")),
        Hub::start(&yaml("alpha")),
    ] {
        // In the foreground the process that got the signal passes it on.
        assert_eq!(hub.restart().status.code(), Some(0));
        hub.configure(&yaml("beta"));
        hub.signal(Signal::SIGHUP);
        wait_until("beta to be known", SOON, || {
            hub.status()["models"][0]["id"] == "beta"
        });
    }
}

#[test]
fn a_service_and_its_hub_end_together_however_they_do() {
    let mut hub = Hub::start(&yaml("alpha"));
    assert_eq!(hub.restart().status.code(), Some(0));
    let (service, serving) = (hub.pid(), hub.serving_pid());
    assert_ne!(service, serving);
    hub.kill();
    wait_until("the hub to end with its service", SOON, || {
        !processes::is_alive(serving)
    });
    hub.serve_again();
    assert_eq!(hub.restart().status.code(), Some(0));
    processes::send(hub.serving_pid(), Signal::SIGKILL);
    assert_eq!(hub.wait_for_end().code(), Some(137));
    hub.serve_again();
    assert_eq!(hub.http.get("/health").status, 200);
}

#[test]
fn a_restart_starts_no_second_hub_beside_a_service_that_was_killed() {
    let mut hub = Hub::start(&yaml("alpha"));
    let killed = hub.pid();
    hub.kill();
    let restarted = hub.run(&["restart"]);
    assert_eq!(restarted.status.code(), Some(1), "{restarted:?}");
    let said = String::from_utf8(restarted.stderr).unwrap();
    assert!(
        said.contains(&format!("the hub (PID {killed}) is gone without a stop")),
        "{said}"
    );
    hub.http.try_get("/health").unwrap_err();
    hub.serve_again();
    assert_eq!(hub.http.get("/health").status, 200);
    // In the background nothing but a command starts it.
    let mut hub = Hub::start_in_background(&yaml("alpha"));
    hub.kill();
    assert_eq!(hub.restart().status.code(), Some(0));
    assert_eq!(hub.http.get("/health").status, 200);
}

/// Streams of some seconds.
fn with_streams() -> String {
    let knobs = worker(&["--tokens", "80", "--token-ms", "50"]);
    format!("{knobs}\n{}", models(&[("alpha", "default: true")]))
}

#[test]
fn a_service_keeps_its_process_over_restarts_and_ends_when_it_is_told_to() {
    let mut hub = Hub::start(&with_streams());
    hub.wait_for_state("alpha", "running", "loaded");
    let mut hubs = vec![hub.serving_pid()];
    let service = hub.pid();
    let streams: Vec<_> = (0..4)
        .map(|number| {
            let stream = hub.http.stream("alpha", &format!("number {number}"));
            assert_eq!(hub.restart().status.code(), Some(0));
            hubs.push(hub.serving_pid());
            stream
        })
        .collect();
    assert_eq!(hub.model("alpha")["active_requests"], 4);
    for (number, stream) in streams.into_iter().enumerate() {
        assert!(stream.said().contains(&format!("number {number}")));
    }
    let (current, earlier) = hubs.split_last().unwrap();
    assert_eq!(earlier[0], service);
    wait_until("the hubs between to be gone", SOON, || {
        !earlier[1..].iter().any(|pid| processes::is_alive(*pid))
    });
    assert!(processes::is_alive(service) && processes::is_alive(*current));
    hub.signal(Signal::SIGTERM);
    assert_eq!(hub.wait_for_end().code(), Some(0));
    assert!(!processes::is_alive(*current));
    assert_eq!(hub.worker_processes(), [0; 0]);
}

#[test]
fn a_hub_that_ends_its_requests_outlives_a_crash_of_the_new_one() {
    for mut hub in [
        Hub::start_in_background(&with_streams()),
        Hub::start(&with_streams()),
    ] {
        hub.wait_for_state("alpha", "running", "loaded");
        // The service's process itself ends with the hub.
        assert_eq!(hub.restart().status.code(), Some(0));
        let stream = hub.http.stream("alpha", "hello");
        let old = hub.serving_pid();
        assert_eq!(hub.restart().status.code(), Some(0));
        let new = hub.serving_pid();
        processes::send(new, Signal::SIGKILL);
        wait_until("the new hub to be gone", SOON, || !processes::is_alive(new));
        if !hub.is_in_background() {
            assert_eq!(hub.wait_for_end().code(), Some(137));
        }
        hub.serve_again();
        assert_ne!(hub.serving_pid(), new);
        assert!(stream.said().contains("hello"));
        wait_until("the old hub to be gone", SOON, || !processes::is_alive(old));
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        assert_eq!(hub.record.workers().len(), 1);
    }
}
