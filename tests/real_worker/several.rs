//! One model that several processes compute together, with the real `mlx.launch`: two of them on this machine.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;

use crate::models::{LOAD, real_worker, tiny_model};
use crate::support::home::Home;
use crate::support::{SOON, processes, wait_for, wait_until};

/// How often a model is loaded at most.
const TRIES: usize = 4;
/// Tokens of an answer that is compared.
const TOKENS: u32 = 24;

/// A home whose hub.yaml has the model `one`, and the same in two halves as `two`.
fn home() -> Option<Home> {
    let home = Home::with_real_worker(real_worker()?);
    let path = home.model_path("tiny");
    tiny_model(home.real_worker(), path.as_ref(), "0");
    home.configure(&format!(
        "engine: mlx_lm\nmodels:\n  - {{name: one, model_path: {path}, default: true, jit_enabled: true}}\n  \
         - {{name: two, model_path: {path}, default: true, jit_enabled: true, hosts: [127.0.0.1, 127.0.0.1]}}\n"
    ));
    Some(home)
}

/// What a model says. It is loaded by a command, which waits as long as that takes, and again if that fails: on a
/// machine that does much else its processes may begin so far apart that MLX's ring gives up on one of them.
#[track_caller]
fn said(home: &Home, model: &str) -> String {
    (0..TRIES).find(|_| home.run(&["load-model", model]).code == 0);
    let answer = home.chat(model, TOKENS);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = answer.json()["choices"][0]["message"]["content"].clone();
    said.as_str().expect("a text").to_owned()
}

/// The processes that `mlx.launch` has started.
fn ranks(home: &Home) -> Vec<u32> {
    processes::children(home.pid_of("two"))
}

#[test]
fn two_processes_answer_as_one_and_end_together() {
    let Some(home) = home() else { return };
    home.said(&["start"]);
    let expected = said(&home, "one");
    assert!(!expected.is_empty());
    assert_eq!(said(&home, "two"), expected);
    let leader = home.pid_of("two");
    assert_eq!(ranks(&home).len(), 2, "two halves");
    assert_eq!(processes::members(leader).len(), 3, "and who starts them");
    home.said(&["unload-model", "two"]);
    assert_eq!(processes::members(leader), [0; 0]);

    // A hub that is killed leaves them to the next.
    assert_eq!(said(&home, "two"), expected);
    let (leader, before) = (home.pid_of("two"), ranks(&home));
    kill_hub(&home);
    home.said(&["start"]);
    wait_until("the model to be adopted", SOON, || {
        home.states("two").1 == "loaded"
    });
    assert_eq!(home.pid_of("two"), leader, "adopted");
    assert_eq!(
        BTreeSet::from_iter(ranks(&home)),
        BTreeSet::from_iter(before)
    );
    assert_eq!(said(&home, "two"), expected);

    // Without a hub, `stop` ends them.
    kill_hub(&home);
    home.said(&["stop"]);
    assert_eq!(processes::members(leader), [0; 0]);
    assert_eq!(home.processes(), Vec::<String>::new());
}

fn kill_hub(home: &Home) {
    let daemon = home.daemon();
    processes::send(daemon, Signal::SIGKILL);
    wait_until("the daemon to be gone", SOON, || {
        !processes::is_alive(daemon)
    });
}

/// The others would wait for it, with busy processors, and the first would answer `/health`.
#[test]
fn a_half_that_dies_or_hangs_ends_both_and_the_next_request_loads_them_anew() {
    let Some(home) = home() else { return };
    home.said(&["start"]);
    let expected = said(&home, "two");
    for what in [Signal::SIGSTOP, Signal::SIGKILL] {
        let leader = home.pid_of("two");
        let second = ranks(&home)[1];
        processes::send(second, what);
        wait_for(&format!("{what} to be noticed"), LOAD, || {
            let is_gone = processes::members(leader).is_empty();
            (is_gone && home.states("two").1 != "loaded").then_some(())
        });
        assert_eq!(said(&home, "two"), expected);
        assert_ne!(home.pid_of("two"), leader);
    }
    home.said(&["stop"]);
    assert_eq!(home.processes(), Vec::<String>::new());
}
