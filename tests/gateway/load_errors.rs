//! Loads that fail: the waiting request hears why, with the last lines of the worker's log.

use crate::support::{Hub, stub};
use crate::{DIALECTS, alpha, alpha_in, assert_error};

const DOWN: &str = "service_unavailable";

#[test]
fn a_failed_load_is_a_503_with_the_end_of_the_log() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--fail-load"]));
        let words = ["`alpha`", "Failed to load model handler: no such model"];
        let answer = hub.http.chat("alpha", "hello");
        assert_error(&answer, 503, DOWN, "503", &words);
        // Colours are for terminals.
        assert!(!answer.text().contains("\\u001b"), "{}", answer.text());
        let model = hub.model("alpha");
        assert_eq!(model["memory_state"], "failed", "{dialect}: {model}");
        assert!(
            model["memory_last_error"]
                .as_str()
                .unwrap()
                .contains("no such model")
        );
    }
}

#[test]
fn a_worker_that_exits_before_it_is_ready_has_failed_whatever_its_code() {
    for code in ["0", "3"] {
        let hub = Hub::start(&alpha(&["--crash-on-start", "--exit-code", code]));
        let answer = hub.http.chat("alpha", "hello");
        let words = ["`alpha`", &format!("code {code}"), "Simulated crash"];
        assert_error(&answer, 503, DOWN, "503", &words);
        let model = hub.model("alpha");
        assert_eq!(model["process_state"], "failed", "{model}");
        assert_eq!(model["exit_code"].to_string(), code, "{model}");
    }
}

#[test]
fn all_who_wait_for_a_load_hear_that_it_failed() {
    let hub = Hub::start(&alpha(&["--fail-load", "--load-seconds", "0.5"]));
    let http = hub.http;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                let answer = http.chat("alpha", "hello");
                assert_error(&answer, 503, DOWN, "503", &["no such model"]);
            });
        }
    });
}

#[test]
fn a_failed_model_is_tried_again_by_the_next_request() {
    let hub = Hub::start(&format!(
        "worker_command: {}\nmodels:\n\
         - {{name: alpha, model_path: org/alpha, default: true, env: {{STUB_FAIL_LOAD: 'true'}}}}\n",
        stub(&[])
    ));
    hub.wait_for_state("alpha", "failed", "failed");
    hub.configure(&format!(
        "worker_command: {}\nmodels:\n- {{name: alpha, model_path: org/alpha, default: true}}\n",
        stub(&[])
    ));
    assert_eq!(
        hub.http.post("/hub/reload", &serde_json::json!({})).status,
        200
    );
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
}

#[test]
fn a_worker_that_gives_no_sign_of_life_is_given_up() {
    let yaml = alpha(&["--load-seconds", "600"]);
    let hub = Hub::start(&format!("load_timeout: 1\nstop_timeout: 2\n{yaml}"));
    let answer = hub.http.chat("alpha", "hello");
    assert_error(&answer, 503, DOWN, "503", &["`alpha`", "load_timeout"]);
}
