//! Processes that end unasked, and those that only seem to.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{both, pid, states};
use crate::Home;
use crate::home::JIT;
use crate::support::processes;

#[test]
fn a_process_that_ends_before_it_is_ready_has_failed_whatever_its_code() {
    let home = Home::started(
        "models:\n\
         - {name: zero, model_path: org/zero, env: {STUB_FAIL_LOAD: 'true'}}\n\
         - {name: seven, model_path: org/seven, \
            env: {STUB_CRASH_ON_START: 'true', STUB_EXIT_CODE: '7'}}\n",
    );
    for (name, code) in [("zero", 0), ("seven", 7)] {
        assert_eq!(home.act(name, "start").status, 503);
        let model = home.model(name);
        assert_eq!(home.states(name), states("failed", "failed"));
        assert_eq!(model["exit_code"], code, "{name}");
        assert_eq!(model["pid"], Value::Null);
        let error = model["memory_last_error"].as_str().unwrap();
        assert!(error.contains(&format!("code {code}")), "{error}");
        assert!(model["stopped_at"].is_f64());
    }
}

#[test]
fn a_process_that_ends_unasked_has_failed_and_the_next_request_tries_again() {
    let home = Home::started(&both("default: true"));
    for name in ["classic", "jit"] {
        let model = home.wait_for_state(name, "running", "loaded");
        let worker = u32::try_from(model["pid"].as_u64().unwrap()).unwrap();
        processes::send(worker, Signal::SIGKILL);
        let model = home.wait_for_state(name, "failed", "failed");
        assert_eq!(model["exit_code"], -9, "death by a signal");
        assert!(processes::members(worker).is_empty(), "nor its children");
        assert_eq!(home.http.chat(name, "hello").status, 200);
        let model = home.wait_for_state(name, "running", "loaded");
        assert_eq!(model["exit_code"], Value::Null);
        assert_eq!(model["memory_last_error"], Value::Null);
    }
}

#[test]
fn a_jit_load_that_fails_keeps_the_model_started() {
    let home = Home::started(&format!(
        "models: [{{name: jit, model_path: org/jit, jit_enabled: true, worker_command: {JIT}, \
         env: {{STUB_FAIL_LOAD: 'true'}}}}]\n"
    ));
    home.done("jit", "start");
    for _ in 0..2 {
        let failed = home.http.chat("jit", "hello");
        assert_eq!(failed.status, 503, "{}", failed.text());
        assert!(failed.text().contains("jit"), "{}", failed.text());
        assert_eq!(home.states("jit"), states("running", "failed"));
        assert!(home.model("jit")["memory_last_error"].is_string());
    }
    let listed = home.http.get("/v1/models").json();
    let metadata = &listed["data"][0]["metadata"];
    assert!(metadata["vram_load_error"].is_string(), "{listed}");
}

#[test]
fn a_worker_that_does_not_answer_in_time_is_not_dead() {
    let home = Home::started(&format!(
        "models: [{{name: a, model_path: org/a, worker_command: {JIT}, default: true, \
         env: {{STUB_BLOCKING: 'true', STUB_FIRST_TOKEN_SECONDS: '7'}}}}]\n"
    ));
    let worker = home.wait_for_state("a", "running", "loaded")["pid"].clone();
    let answer = home.http.chat("a", "hello");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(pid(&home, "a"), worker);
}
