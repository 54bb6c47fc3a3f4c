//! The main job with the real `mlx-openai-server` 1.8.1 and two tiny models: started by the command
//! line, used through the official `openai` client, stopped without a trace. And the same in rounds of
//! kills and restarts.
//!
//! The worker is a virtual environment under target/real-worker, made by tests/run.

#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

#[path = "../support/browser.rs"]
#[allow(dead_code, reason = "the page's tests do more with it")]
mod browser;
mod census;
mod counts;
mod dead_model;
mod llama_server;
mod mlx_lm;
mod mlx_vlm;
mod models;
mod rounds;
mod several;
mod spare;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use models::{LOAD, SPARE, home_with_two, real_worker, text};
use nix::sys::signal::Signal;
use support::home::Home;
use support::{processes, spares, wait_for, wait_until};

#[test]
fn the_main_job_with_the_real_worker() {
    let Some(worker) = real_worker() else { return };
    let home = home_with_two(worker);

    let started = home.said(&["start"]);
    assert!(started.contains("[ok] plain"), "{started}");
    assert!(
        started.contains("/hub for the status dashboard"),
        "{started}"
    );
    wait_until("plain to be loaded", LOAD, || {
        home.states("plain").1 == "loaded"
    });
    home.assert_states("jit", "running", "unloaded");

    // A group has all processes of a worker: 1.8.1's children do not name the home.
    let group = |name: &str| {
        let pid = home.model(name)["pid"].as_u64()?;
        u32::try_from(pid).ok()
    };
    let mut groups = vec![group("plain").expect("a loaded model has a process")];
    assert_eq!(
        processes::members(groups[0]).len(),
        3,
        "server, tracker, model"
    );

    the_openai_client_is_served(&home);
    home.assert_states("jit", "running", "loaded");
    groups.extend(group("jit"));

    watch_shows_both(&home);

    assert!(home.said(&["unload-model", "jit"]).contains("[ok]"));
    home.assert_states("jit", "running", "unloaded");
    assert!(home.said(&["load-model", "jit"]).contains("[ok]"));
    home.assert_states("jit", "running", "loaded");
    groups.extend(group("jit"));

    let unchanged = home.said(&["reload"]);
    assert!(unchanged.contains("unchanged=plain, jit"), "{unchanged}");
    home.configure_two("    queue_size: 7\n");
    let restarted = home.said(&["reload"]);
    assert!(restarted.contains("started=jit"), "{restarted}");
    assert!(restarted.contains("stopped=jit"), "{restarted}");
    assert!(restarted.contains("unchanged=plain"), "{restarted}");

    assert!(home.said(&["stop-model", "plain"]).contains("[ok]"));
    home.assert_states("plain", "stopped", "unloaded");
    assert!(processes::members(groups[0]).is_empty(), "plain has ended");
    let refused = home.http.chat("plain", "hello");
    assert_eq!(refused.status, 400, "{}", refused.text());

    // Something must be there to be stopped.
    home.said(&["load-model", "jit"]);
    groups.extend(group("jit"));
    home.said(&["stop"]);
    assert!(
        home.http.try_get("/health").is_err(),
        "the daemon has ended"
    );
    for group in groups {
        assert_eq!(
            processes::members(group),
            Vec::<u32>::new(),
            "group {group}"
        );
    }
    assert_eq!(home.processes(), Vec::<String>::new());
    let again = home.said(&["stop"]);
    assert!(
        again.contains("Hub manager is not running; nothing to stop"),
        "{again}"
    );
}

/// The first request to the JIT model loads it.
fn the_openai_client_is_served(home: &Home) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/openai_client.py");
    let client = Command::new(home.real_worker().join("bin/python"))
        .arg(script)
        .arg(format!("http://127.0.0.1:{}/v1", home.port))
        .args([
            "plain",
            &home.model_path("plain"),
            "jit",
            &home.model_path("jit"),
        ])
        .output()
        .unwrap();
    assert!(client.status.success(), "{}", text(&client));
}

fn watch_shows_both(home: &Home) {
    let mut watch = home
        .command(["watch", "--interval", "0.5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let shown: Vec<String> = lines
        .by_ref()
        .map(Result::unwrap)
        .take(20)
        .take_while(|line| !line.trim_start().starts_with("plain"))
        .collect();
    assert!(shown[0].starts_with("Watching hub manager"), "{shown:?}");
    assert!(
        shown.iter().any(|line| line.contains("models=2 running=2")),
        "{shown:?}"
    );
    processes::send(watch.id(), Signal::SIGINT);
    let ended = wait_for("watch to end", support::SOON, || watch.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_path_that_is_no_model_is_a_failure_with_its_log() {
    let Some(worker) = real_worker() else { return };
    let home = home_with_two(worker);
    std::fs::remove_dir_all(home.model_path("jit")).unwrap();
    std::fs::create_dir(home.model_path("jit")).unwrap();
    home.said(&["start"]);
    if spares::are_kept() {
        wait_until("a spare process", SPARE, || {
            home.status()["spares"][0]["ready"] == true
        });
    }
    let answer = home.http.chat("jit", "hello");
    assert_eq!(answer.status, 503, "{}", answer.text());
    let message = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("jit"), "{message}");
    assert!(
        message.contains("config.json"),
        "the log's last lines: {message}"
    );
    let log = std::fs::read_to_string(home.logs().join("jit.log")).unwrap();
    assert_eq!(
        log.matches("Starting server on").count(),
        1,
        "one try: {log}"
    );
    home.said(&["stop"]);
    assert_eq!(home.processes(), Vec::<String>::new());
}
