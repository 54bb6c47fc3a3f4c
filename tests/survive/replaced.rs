//! `restart`: another daemon, the same workers, and nobody notices.

use serde_json::Value;

use crate::support::{Hub, SOON, processes, wait_until};
use crate::{models, pid, worker};

#[test]
fn a_restart_lets_streams_finish_and_keeps_every_worker() {
    let knobs = ["--tokens", "100", "--token-ms", "20"];
    let resident = worker(&["--dialect", "jit"]);
    let entries = [
        ("alpha", "default: true"),
        (
            "beta",
            &format!("jit_enabled: true, default: true, {resident}"),
        ),
    ];
    let mut hub = Hub::start(&format!("{}\n{}", worker(&knobs), models(&entries)));
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
    let (daemon, workers) = (hub.pid(), [pid(&hub, "alpha"), pid(&hub, "beta")]);
    let http = hub.http;
    let said = std::thread::scope(|scope| {
        let stream = http.stream("alpha", "hello");
        let client = scope.spawn(move || stream.said());
        let restarted = hub.restart();
        assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
        assert!(
            client.is_finished(),
            "the old daemon went before the stream was over"
        );
        client.join().unwrap()
    });
    assert!(said.contains("hello"), "{said}");
    assert_ne!(hub.pid(), daemon);
    assert!(!processes::is_alive(daemon));
    assert_eq!([pid(&hub, "alpha"), pid(&hub, "beta")], workers);
    hub.wait_for_state("alpha", "running", "loaded");
    hub.wait_for_state("beta", "running", "loaded");
    for model in ["alpha", "beta"] {
        assert_eq!(hub.http.chat(model, "hello").status, 200);
    }
    assert_eq!(hub.record.workers().len(), 2);
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    wait_until("the daemon to be gone", SOON, || {
        !processes::is_alive(hub.pid())
    });
    assert_eq!(hub.worker_processes(), [0; 0]);
}

#[test]
fn a_restart_takes_up_a_new_log_level_and_a_changed_model() {
    let yaml = |level: &str, context: u32| {
        let keys = format!("default: true, context_length: {context}, log_level: INFO");
        let entries = [
            ("alpha", keys.as_str()),
            ("beta", "default: true, log_level: INFO"),
            (
                "standby",
                "default: true, jit_enabled: true, log_level: INFO",
            ),
        ];
        format!("log_level: {level}\n{}\n{}", worker(&[]), models(&entries))
    };
    let mut hub = Hub::start(&yaml("INFO", 1024));
    for model in ["alpha", "beta"] {
        hub.wait_for_state(model, "running", "loaded");
    }
    let (changed, same) = (pid(&hub, "alpha"), pid(&hub, "beta"));
    hub.wait_for_state("standby", "running", "unloaded");
    hub.configure(&yaml("DEBUG", 2048));
    let restarted = hub.restart();
    assert_eq!(restarted.status.code(), Some(0));
    let said = String::from_utf8(restarted.stdout).unwrap();
    let (lines, _) = said.split_once("Status page").unwrap();
    let lines = lines.replace(&hub.pid().to_string(), "PID");
    insta::assert_snapshot!(lines, @"
    [ok] Hub manager restart requested; its models stay
    Starting hub manager...
    Hub manager process started (PID: PID)
    Hub manager is now running.
    [ok] alpha: start requested
    [ok] beta: already running
    [ok] standby: already running
    ");
    hub.wait_for_state("alpha", "running", "loaded");
    assert_ne!(pid(&hub, "alpha"), changed);
    assert_eq!(pid(&hub, "beta"), same);
    assert_eq!(hub.model("beta")["exit_code"], Value::Null);
}
