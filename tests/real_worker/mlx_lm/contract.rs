//! Section 5 of the contract with the real `mlx_lm.server`: what tests/contract/lifecycle tells of the default engine.

use serde_json::{Value, json};

use super::{answers, is_loaded};
use crate::models::{LOAD, real_worker, tiny_model};
use crate::rounds::{ENDLESS, SOME};
use crate::support::home::Home;
use crate::support::{processes, wait_until};

/// So many tokens take a few seconds.
const LONG: u32 = SOME * 15;

/// A home with the tiny models `plain`, which its start loads, and `jit`, which its first request loads.
fn home() -> Option<Home> {
    let home = Home::with_real_worker(real_worker()?);
    for name in ["plain", "jit"] {
        tiny_model(home.real_worker(), home.model_path(name).as_ref(), "0");
    }
    Some(home)
}

/// Writes hub.yaml with `top` above the models; the entry of `jit` ends with `more`.
fn configure(home: &Home, top: &str, more: &str) {
    let [plain, jit] = ["plain", "jit"].map(|name| home.model_path(name));
    home.configure(&format!(
        "engine: mlx_lm\n{top}models:\n- {{name: plain, model_path: {plain}}}\n\
         - {{name: jit, model_path: {jit}, jit_enabled: true, default: true{more}}}\n"
    ));
}

fn is_in(home: &Home, model: &str, process: &str, memory: &str) {
    wait_until("the model to be in its state", LOAD, || {
        home.states(model) == (process.to_owned(), memory.to_owned())
    });
}

/// Of all processes of models nothing is left.
fn nothing_is_left(home: &Home) {
    assert_eq!(home.processes(), Vec::<String>::new());
}

#[test]
fn looking_loads_nothing_and_many_requests_load_once() {
    let Some(home) = home() else { return };
    configure(
        &home,
        "groups: [{name: one, max_loaded: 1}]\n",
        ", group: one",
    );
    home.said(&["start"]);
    is_in(&home, "jit", "running", "unloaded");
    home.assert_states("plain", "inactive", "unloaded");
    for path in [
        "/health",
        "/hub",
        "/hub/status",
        "/v1/models",
        "/v1/models/jit",
    ] {
        assert_eq!(home.http.get(path).status, 200, "{path}");
    }
    home.said(&["status"]);
    assert_eq!(home.model("jit")["pid"], Value::Null);

    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| answers(&home, "jit"));
        }
        scope.spawn(|| home.done("jit", "load"));
    });
    home.assert_states("jit", "running", "loaded");
    let pid = home.pid_of("jit");
    let loads = home
        .app_log()
        .matches("memory loading hub_model=jit")
        .count();
    assert_eq!(loads, 1, "one for all");
    wait_until("its memory to be known", LOAD, || {
        home.model("jit")["memory_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 0)
    });

    // The group is full, and nobody makes room; a change of the other model's entry restarts that one alone.
    let path = home.model_path("plain");
    let more = format!(
        ", group: one}}\n- {{name: third, model_path: {path}, group: one, default: true, jit_enabled: true"
    );
    configure(&home, "groups: [{name: one, max_loaded: 1}]\n", &more);
    let reloaded = home.reload();
    assert_eq!(
        reloaded,
        json!({"started": ["third"], "stopped": [], "unchanged": ["plain", "jit"]})
    );
    assert_eq!(home.pid_of("jit"), pid);
    let refused = home.chat("third", SOME);
    assert_eq!(refused.status, 429, "{}", refused.text());
    configure(
        &home,
        "groups: [{name: one, max_loaded: 1}]\n",
        ", group: one, max_tokens: 7",
    );
    let reloaded = home.reload();
    assert_eq!(
        reloaded,
        json!({"started": ["jit"], "stopped": ["third", "jit"], "unchanged": ["plain"]})
    );
    assert_eq!(processes::members(pid), [0; 0]);
    answers(&home, "jit");
    home.said(&["stop"]);
    nothing_is_left(&home);
}

#[test]
fn requests_in_flight_end_before_an_unload_a_stop_and_a_shutdown() {
    let Some(home) = home() else { return };
    configure(&home, "", "");
    home.said(&["start"]);
    home.said(&["start-model", "plain"]);
    let first = home.pid_of("plain");
    std::thread::scope(|scope| {
        let mut events = home.stream("plain", LONG).events();
        events.next().unwrap().unwrap();
        scope.spawn(|| home.done("plain", "unload"));
        is_in(&home, "plain", "running", "unloading");
        let waiting = scope.spawn(|| answers(&home, "plain"));
        assert_eq!(events.last().unwrap().unwrap(), "[DONE]", "not cut short");
        waiting.join().unwrap();
    });
    is_loaded(&home, "plain");
    assert_ne!(
        home.pid_of("plain"),
        first,
        "the memory was freed in between"
    );

    std::thread::scope(|scope| {
        let mut events = home.stream("plain", LONG).events();
        events.next().unwrap().unwrap();
        scope.spawn(|| home.done("plain", "stop"));
        is_in(&home, "plain", "stopping", "unloading");
        let refused = home.chat("plain", SOME);
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(events.last().unwrap().unwrap(), "[DONE]", "not cut short");
    });
    home.assert_states("plain", "stopped", "unloaded");

    answers(&home, "jit");
    std::thread::scope(|scope| {
        let mut events = home.stream("jit", LONG).events();
        events.next().unwrap().unwrap();
        scope.spawn(|| home.said(&["stop"]));
        is_in(&home, "jit", "stopping", "unloading");
        assert_eq!(events.last().unwrap().unwrap(), "[DONE]", "not cut short");
    });
    nothing_is_left(&home);
}

#[test]
fn after_their_time_requests_and_processes_are_cut_and_a_stop_ends_a_load() {
    let Some(home) = home() else { return };
    configure(&home, "drain_timeout: 1\nstop_timeout: 2\n", "");
    home.said(&["start"]);
    for verb in ["unload", "stop"] {
        home.done("plain", "start");
        home.done("plain", "load");
        let pid = home.pid_of("plain");
        let mut events = home.stream("plain", ENDLESS).events();
        events.next().unwrap().unwrap();
        home.done("plain", verb);
        let ended = events.last().unwrap();
        assert!(
            ended.is_err() || ended.unwrap() != "[DONE]",
            "{verb}: it was cut"
        );
        assert_eq!(processes::members(pid), [0; 0], "{verb}");
    }

    // One that hears no signal.
    home.done("plain", "start");
    let pid = home.pid_of("plain");
    processes::send_to_group(pid, nix::sys::signal::Signal::SIGSTOP);
    home.done("plain", "stop");
    home.assert_states("plain", "stopped", "unloaded");
    assert_eq!(processes::members(pid), [0; 0]);

    std::thread::scope(|scope| {
        let start = scope.spawn(|| home.act("plain", "start").status);
        is_in(&home, "plain", "starting", "loading");
        home.done("plain", "stop");
        assert_eq!(start.join().unwrap(), 503);
    });
    home.assert_states("plain", "stopped", "unloaded");
    home.said(&["stop"]);
    nothing_is_left(&home);
}
