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
        Signal::SIGQUIT,
    ] {
        hub.signal(signal);
        assert_eq!(hub.http.get("/health").status, 200, "{signal}");
        assert!(processes::is_alive(hub.pid()), "{signal}");
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
