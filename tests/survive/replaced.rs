//! `restart`: another daemon, the same workers, and nobody notices.

use std::process::Command;

use serde_json::Value;

use crate::support::hub::in_home;
use crate::support::{BINARY, Hub, SOON, processes, wait_until};
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
    let yaml = format!("{}\n{}", worker(&knobs), models(&entries));
    for hub in [Hub::start(&yaml), Hub::start_in_background(&yaml)] {
        hub.wait_for_state("alpha", "running", "loaded");
        assert_eq!(hub.http.chat("beta", "hello").status, 200);
        let (daemon, workers) = (hub.serving_pid(), [pid(&hub, "alpha"), pid(&hub, "beta")]);
        let http = hub.http;
        let said = std::thread::scope(|scope| {
            let stream = http.stream("alpha", "hello");
            let client = scope.spawn(move || stream.said());
            let restarted = hub.restart();
            assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
            assert!(!client.is_finished(), "the new daemon has waited for it");
            assert_eq!(hub.model("alpha")["active_requests"], 1);
            assert_eq!(hub.http.chat("beta", "hello").status, 200);
            client.join().unwrap()
        });
        assert!(said.contains("hello"), "{said}");
        assert_ne!(hub.serving_pid(), daemon);
        wait_until("its requests to be over", SOON, || {
            hub.model("alpha")["active_requests"] == 0
        });
        assert_eq!([pid(&hub, "alpha"), pid(&hub, "beta")], workers);
        hub.wait_for_state("alpha", "running", "loaded");
        hub.wait_for_state("beta", "running", "loaded");
        for model in ["alpha", "beta"] {
            assert_eq!(hub.http.chat(model, "hello").status, 200);
        }
        assert_eq!(hub.record.workers().len(), 2);
        let all = [daemon, hub.pid(), hub.serving_pid()];
        assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
        for process in all {
            wait_until("the daemons to be gone", SOON, || {
                !processes::is_alive(process)
            });
        }
        assert_eq!(hub.worker_processes(), [0; 0]);
    }
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
        let slow = worker(&["--load-seconds", "1"]);
        format!("log_level: {level}\n{slow}\n{}", models(&entries))
    };
    let hub = Hub::start(&yaml("INFO", 1024));
    for model in ["alpha", "beta"] {
        hub.wait_for_state(model, "running", "loaded");
    }
    let (changed, same) = (pid(&hub, "alpha"), pid(&hub, "beta"));
    hub.wait_for_state("standby", "running", "unloaded");
    hub.configure(&yaml("DEBUG", 2048));
    let restarted = hub.restart();
    assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
    let said = String::from_utf8(restarted.stdout).unwrap();
    let (lines, _) = said.split_once("Status page").unwrap();
    let lines = lines.replace(&hub.serving_pid().to_string(), "PID");
    insta::assert_snapshot!(lines, @"
    [ok] Hub restarted (PID: PID); its models stay
    [ok] alpha: starting
    [ok] beta: running
    [ok] standby: running
    ");
    hub.wait_for_state("alpha", "running", "loaded");
    assert_ne!(pid(&hub, "alpha"), changed);
    assert_eq!(pid(&hub, "beta"), same);
    assert_eq!(hub.model("beta")["exit_code"], Value::Null);
}

/// A hub with a loaded model, and the process id of its worker.
fn hub_with_alpha(more: &str) -> (Hub, Option<u32>) {
    let hub = Hub::start(&yaml_with_alpha(more));
    hub.wait_for_state("alpha", "running", "loaded");
    let worker = pid(&hub, "alpha");
    (hub, worker)
}

fn yaml_with_alpha(more: &str) -> String {
    let alpha = models(&[("alpha", "default: true")]);
    format!("{more}\n{}\n{alpha}", worker(&[]))
}

#[test]
fn a_hub_serves_on_when_no_other_one_can_take_its_place() {
    let (hub, worker) = hub_with_alpha("");
    let daemon = hub.serving_pid();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let broken = "import this\n";
    for (more, reason) in [
        (format!("port: {port}"), "another program listens there"),
        (
            "host: 192.0.2.7".to_owned(),
            "this machine has no such address",
        ),
        ("log_path: /dev/null/logs".to_owned(), "log_path"),
        (format!("worker_command: {broken}"), "worker_command"),
    ] {
        hub.configure(&yaml_with_alpha(&more));
        let refused = hub.restart();
        assert_eq!(refused.status.code(), Some(1), "{more}: {refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(reason), "{more}: {said}");
        assert_eq!(hub.http.chat("alpha", "hello").status, 200, "{more}");
        assert_eq!(hub.serving_pid(), daemon, "{more}");
        assert_eq!(pid(&hub, "alpha"), worker, "{more}");
    }
    hub.configure(&yaml_with_alpha(""));
    assert_eq!(hub.restart().status.code(), Some(0));
    assert_ne!(hub.serving_pid(), daemon);
    assert_eq!(pid(&hub, "alpha"), worker);
}

#[test]
fn a_new_log_folder_takes_the_workers_along() {
    let (hub, worker) = hub_with_alpha("");
    let daemon = hub.serving_pid();
    hub.configure(&yaml_with_alpha("log_path: newlogs"));
    let restarted = hub.restart();
    assert_eq!(restarted.status.code(), Some(0), "{restarted:?}");
    assert_eq!(pid(&hub, "alpha"), worker);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    assert_eq!(hub.record.workers().len(), 1);
    let runtime = |folder: &str| hub.folder().join(folder).join("hub_runtime.json");
    assert!(runtime("newlogs").exists());
    assert!(!runtime("logs").exists());
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert!(!processes::is_alive(daemon));
    assert_eq!(hub.worker_processes(), [0; 0]);
}

#[test]
fn a_restart_by_another_program_runs_that_one() {
    let (hub, worker) = hub_with_alpha("");
    let program = hub.folder().join("newer-hub");
    std::fs::copy(BINARY, &program).unwrap();
    let mut restart = in_home(Command::new(&program), hub.folder());
    let restarted = restart
        .arg("--config")
        .arg(hub.config())
        .arg("restart")
        .output();
    assert_eq!(restarted.unwrap().status.code(), Some(0));
    let serving = hub.serving_pid().to_string();
    let running = processes::with_argument(program.to_str().unwrap());
    let is_new = |line: &String| line.split_whitespace().next() == Some(&serving);
    assert!(running.iter().any(is_new), "{serving} in {running:?}");
    assert_eq!(pid(&hub, "alpha"), worker);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
}

#[test]
fn a_new_port_and_a_wider_host_take_the_workers_along() {
    let (mut hub, worker) = hub_with_alpha("");
    let port = hub.http.port;
    // The same port on every address: the old hub still has it on one of them.
    for more in ["host: 0.0.0.0".to_owned(), format!("port: {}", port + 30)] {
        hub.configure(&yaml_with_alpha(&more));
        let restarted = hub.restart();
        assert_eq!(restarted.status.code(), Some(0), "{more}: {restarted:?}");
        if more.starts_with("port") {
            hub.http.port = port + 30;
            wait_until("the old port to be free", SOON, || processes::is_free(port));
        }
        assert_eq!(pid(&hub, "alpha"), worker, "{more}");
        assert_eq!(hub.http.chat("alpha", "hello").status, 200, "{more}");
    }
    assert_eq!(hub.record.workers().len(), 1);
}
