//! SIGKILL of the daemon: the next one finds the workers and takes over those that still fit.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::support::{Hub, SOON, processes, wait_for, wait_until};
use crate::{models, pid, state, wait_for_pid, worker};

/// A hub with a model in every state that a hub may be killed in. `busy` is loading.
fn hub_with_every_state() -> Hub {
    let slow = worker(&["--load-seconds", "4"]);
    let resident = worker(&["--dialect", "jit"]);
    let yaml = models(&[
        ("loaded", "default: true"),
        (
            "resident_loaded",
            &format!("jit_enabled: true, default: true, {resident}"),
        ),
        (
            "resident",
            &format!("jit_enabled: true, default: true, {resident}"),
        ),
        ("standby", "jit_enabled: true, default: true"),
        ("never", "jit_enabled: true"),
        ("busy", &slow),
    ]);
    let hub = Hub::start(&format!("{}\n{yaml}", worker(&[])));
    hub.wait_for_state("loaded", "running", "loaded");
    hub.wait_for_state("standby", "running", "unloaded");
    for model in ["resident", "resident_loaded"] {
        hub.wait_for_state(model, "running", "unloaded");
        wait_for_pid(&hub, model);
    }
    assert_eq!(hub.http.chat("resident_loaded", "hello").status, 200);
    let http = hub.http;
    // The answer would come when the load is over.
    std::thread::spawn(move || http.send("POST", "/hub/models/busy/start", &[], b""));
    hub
}

const STATES: [&str; 6] = [
    "loaded",
    "resident_loaded",
    "resident",
    "standby",
    "never",
    "busy",
];

#[test]
fn a_killed_hub_loses_no_model_in_any_state() {
    let mut hub = hub_with_every_state();
    wait_until("the load", SOON, || hub.record.count("load", "busy") == 1);
    hub.wait_for_state("busy", "starting", "loading");
    let before = STATES.map(|model| state(&hub, model));
    let pids = STATES.map(|model| pid(&hub, model));
    let workers = hub.record.workers();
    hub.kill();
    hub.serve_again();
    wait_until("the workers to be known", SOON, || {
        STATES.map(|model| pid(&hub, model)) == pids
    });
    for (model, before) in STATES[..5].iter().zip(&before) {
        wait_until(&format!("{model} to be {before:?} again"), SOON, || {
            state(&hub, model) == *before
        });
    }
    hub.wait_for_state("busy", "running", "loaded");
    assert_eq!(STATES.map(|model| pid(&hub, model)), pids);
    for model in ["loaded", "resident_loaded", "busy"] {
        assert_eq!(hub.http.chat(model, "hello").status, 200, "{model}");
    }
    assert_eq!(hub.record.workers(), workers, "no worker was started anew");
    assert_eq!(hub.record.count("sigterm", "loaded"), 0);
    // Those that were not in memory are loaded by the worker that is there, or by a first one.
    assert_eq!(hub.http.chat("resident", "hello").status, 200);
    assert_eq!(hub.record.workers(), workers);
    assert_eq!(hub.http.chat("standby", "hello").status, 200);
    assert_eq!(hub.record.workers().len(), workers.len() + 1);
    assert_eq!(hub.http.chat("never", "hello").status, 400, "never started");
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert_eq!(hub.worker_processes(), [0; 0]);
}

/// Not `default`, so that the next hub has no other reason to start it.
#[test]
fn what_was_stopped_by_hand_stays_stopped_unless_it_is_default() {
    let mut hub = Hub::start(&format!(
        "{}\n{}",
        worker(&[]),
        models(&[("alpha", "jit_enabled: false"), ("beta", "default: true")])
    ));
    hub.wait_for_state("beta", "running", "loaded");
    assert_eq!(hub.act("alpha", "start").status, 200);
    assert_eq!(hub.act("alpha", "stop").status, 200);
    hub.kill();
    hub.serve_again();
    assert_eq!(state(&hub, "alpha")[2], Value::Null);
    assert_eq!(hub.record.count("start", "alpha"), 1);
    assert_eq!(hub.record.count("start", "beta"), 1);
}

/// The log file goes on from launch to launch, and from hub to hub.
#[test]
fn the_last_words_of_an_adopted_worker_are_those_of_its_own_launch() {
    let mut hub = Hub::start(&format!(
        "{}\n{}",
        worker(&[]),
        models(&[("alpha", "default: true")])
    ));
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.act("alpha", "stop").status, 200);
    assert_eq!(hub.act("alpha", "start").status, 200);
    let log = std::fs::read_to_string(hub.logs().join("alpha.log")).unwrap();
    assert_eq!(log.matches("shutdown complete").count(), 1, "{log}");
    let worker = pid(&hub, "alpha").unwrap();
    hub.kill();
    hub.serve_again();
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(pid(&hub, "alpha"), Some(worker));
    processes::send_to_group(worker, Signal::SIGKILL);
    let error = wait_for("what happened", SOON, || {
        let error = &hub.model("alpha")["memory_last_error"];
        error.as_str().map(str::to_owned)
    });
    assert!(error.contains("Model loaded"), "{error}");
    assert!(!error.contains("shutdown complete"), "{error}");
}

#[test]
fn a_worker_that_no_longer_fits_is_ended_before_its_model_is_started_anew() {
    let yaml = |context: u32| {
        let keys = format!("default: true, context_length: {context}");
        format!(
            "{}\n{}",
            worker(&["--exit-seconds", "0.3"]),
            models(&[("alpha", &keys)])
        )
    };
    let mut hub = Hub::start(&yaml(1024));
    hub.wait_for_state("alpha", "running", "loaded");
    let old = pid(&hub, "alpha").unwrap();
    hub.kill();
    hub.configure(&yaml(2048));
    hub.serve_again();
    hub.wait_for_state("alpha", "running", "loaded");
    assert_ne!(pid(&hub, "alpha").unwrap(), old);
    assert_eq!(processes::members(old), [0; 0]);
    let lines = hub.record.lines();
    let exit = lines
        .iter()
        .position(|line| line["event"] == "exit")
        .unwrap();
    let starts: Vec<_> = (0..lines.len())
        .filter(|at| lines[*at]["event"] == "start")
        .collect();
    assert_eq!(starts.len(), 2);
    assert!(exit < starts[1], "two workers at once: {lines:?}");
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
}

#[test]
fn the_worker_of_a_model_that_is_gone_from_hub_yaml_is_ended() {
    let both = [("alpha", "default: true"), ("beta", "default: true")];
    let mut hub = Hub::start(&format!("{}\n{}", worker(&[]), models(&both)));
    for (model, _) in both {
        hub.wait_for_state(model, "running", "loaded");
    }
    let gone = pid(&hub, "beta").unwrap();
    let stays = pid(&hub, "alpha");
    hub.kill();
    hub.configure(&format!("{}\n{}", worker(&[]), models(&both[..1])));
    hub.serve_again();
    wait_until("it to be ended", SOON, || {
        processes::members(gone).is_empty()
    });
    assert_eq!(pid(&hub, "alpha"), stays);
}

#[test]
fn a_stop_whose_hub_is_killed_says_what_is_left_and_the_next_one_ends_it() {
    let knobs = ["--tokens", "100000", "--token-ms", "20"];
    let yaml = format!(
        "{}\n{}",
        worker(&knobs),
        models(&[("alpha", "default: true")])
    );
    let mut hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    let old = pid(&hub, "alpha").unwrap();
    let _stream = hub.http.stream("alpha", "hello");
    let mut stop = hub.command(&["stop"]);
    let stop = stop.stdout(Stdio::null()).stderr(Stdio::piped());
    let stop = stop.spawn().unwrap();
    wait_until("the stop to begin", SOON, || {
        hub.model("alpha")["process_state"] == "stopping"
    });
    hub.kill();
    let said = stop.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{error}");
    assert!(error.contains(&format!("(processes {old})")), "{error}");
    assert!(error.contains("`start` takes them over"), "{error}");
    hub.serve_again();
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert_eq!(hub.worker_processes(), [0; 0]);
}

/// The model comes back while its worker still thinks about the SIGTERM that it got for it.
#[test]
fn a_model_that_comes_back_to_hub_yaml_waits_for_the_end_of_its_old_worker() {
    let head = "stop_timeout: 2\n".to_owned() + &worker(&["--ignore-sigterm", "--ignore-sigint"]);
    let both = [("alpha", "default: true"), ("beta", "jit_enabled: true")];
    let yaml = format!("{head}\n{}", models(&both));
    let mut hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    let old = pid(&hub, "alpha").unwrap();
    hub.kill();
    hub.configure(&format!("{head}\n{}", models(&both[1..])));
    hub.serve_again();
    wait_until("the first signal", SOON, || {
        hub.record.count("sigterm", "alpha") > 0
    });
    hub.configure(&yaml);
    assert_eq!(hub.http.post("/hub/reload", &Value::Null).status, 200);
    wait_until("a new worker", SOON, || hub.record.workers().len() == 2);
    assert_eq!(processes::members(old), [0; 0]);
    hub.wait_for_state("alpha", "running", "loaded");
}

/// The clean stop comes while the worker still thinks about its SIGTERM.
#[test]
fn a_stop_waits_for_the_worker_of_a_model_that_is_gone_from_hub_yaml() {
    let head = "stop_timeout: 2\n".to_owned() + &worker(&["--ignore-sigterm", "--ignore-sigint"]);
    let both = [("alpha", "default: true"), ("beta", "jit_enabled: true")];
    let mut hub = Hub::start(&format!("{head}\n{}", models(&both)));
    hub.wait_for_state("alpha", "running", "loaded");
    hub.kill();
    hub.configure(&format!("{head}\n{}", models(&both[1..])));
    hub.serve_again();
    wait_until("the first signal", SOON, || {
        hub.record.count("sigterm", "alpha") == 1
    });
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert_eq!(hub.worker_processes(), [0; 0]);
}

#[test]
fn the_exit_of_an_adopted_worker_is_noticed_at_once_and_has_no_code() {
    let mut hub = Hub::start(&format!(
        "{}\n{}",
        worker(&[]),
        models(&[("alpha", "jit_enabled: true, default: true")])
    ));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let worker = pid(&hub, "alpha").unwrap();
    hub.kill();
    hub.serve_again();
    hub.wait_for_state("alpha", "running", "loaded");
    processes::send(worker, Signal::SIGKILL);
    let killed = Instant::now();
    wait_until("the exit to be noticed", SOON, || {
        pid(&hub, "alpha").is_none()
    });
    let took = killed.elapsed();
    // 200 ms where nothing else runs: 50 to look, 15 to see the group gone.
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(hub.model("alpha")["exit_code"], Value::Null);
    assert_eq!(processes::members(worker), [0; 0], "its group goes with it");
    assert_eq!(hub.http.chat("alpha", "hello").status, 200, "a new worker");
}

/// The group of a worker that died while no hub was there to see it: whatever is left of it would
/// hold the model's memory beside the new worker's.
#[test]
fn what_is_left_of_a_worker_that_died_between_two_hubs_is_ended_before_a_new_one_starts() {
    let knobs = ["--grandchild", "stubborn", "--linger-seconds", "600"];
    let mut hub = Hub::start(&format!(
        "{}\n{}",
        worker(&knobs),
        models(&[("alpha", "default: true")])
    ));
    hub.wait_for_state("alpha", "running", "loaded");
    let old = pid(&hub, "alpha").unwrap();
    assert_eq!(processes::members(old).len(), 4);
    hub.kill();
    processes::send(old, Signal::SIGKILL);
    wait_until("the leader to be gone", SOON, || !processes::is_alive(old));
    assert_eq!(processes::members(old).len(), 3);
    hub.serve_again();
    assert_eq!(processes::members(old), [0; 0]);
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.record.workers().len(), 2);
}

/// A hub that is killed between the start of a worker and the note about it knows nothing of it.
#[test]
fn a_worker_that_was_never_written_down_is_ended() {
    let mut hub = Hub::start(&format!(
        "{}\n{}",
        worker(&["--load-seconds", "600"]),
        models(&[("alpha", "default: true")])
    ));
    wait_until("the load", SOON, || hub.record.count("load", "alpha") == 1);
    let old = hub.record.workers()[0];
    hub.kill();
    // What the file would hold a moment earlier.
    let file = hub.logs().join("hub_runtime.json");
    let mut runtime: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    runtime["workers"] = Value::Array(Vec::new());
    std::fs::write(&file, runtime.to_string()).unwrap();
    hub.serve_again();
    assert_eq!(processes::members(old), [0; 0]);
    wait_until("a new worker", SOON, || hub.record.workers().len() == 2);
}
