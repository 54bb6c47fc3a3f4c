//! The life of a model of the engine `mlx_vlm`, with the real `mlx_vlm.server`, which serves a language model here.
//!
//! It is a virtual environment under target/mlx-vlm beside that of the real worker, made by tests/run.

use std::path::Path;

use serde_json::json;

use crate::mlx_lm::{ends, fails_with_its_log, home_of, lives_as_any_other};
use crate::support::home::Home;

/// `None` where the program is not installed; with CI=true that is a failure.
#[expect(clippy::print_stdout, reason = "what the test run did not check")]
fn home() -> Option<Home> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mlx-vlm/bin/mlx_vlm.server");
    if !program.exists() {
        println!("not run: mlx_vlm: there is no {}", program.display());
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "no mlx_vlm.server"
        );
        return None;
    }
    let home = home_of("mlx_vlm")?;
    home.write_script(
        "mlx_vlm.server",
        &format!("exec '{}' \"$@\"", program.display()),
    );
    Some(home)
}

#[test]
fn a_model_of_mlx_vlm_lives_as_any_other() {
    let Some(home) = home() else { return };
    lives_as_any_other(&home, what_it_serves);
}

/// What it speaks is passed on, and the rest is refused before anything is loaded.
fn what_it_serves(home: &Home) {
    let message = json!({"model": "plain", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]});
    let answer = home.http.post("/v1/messages", &message);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["type"], "message", "{}", answer.text());
    let question = json!({"model": "plain", "max_output_tokens": 4, "input": "hello"});
    let answer = home.http.post("/v1/responses", &question);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "response", "{}", answer.text());
    let prompt = json!({"model": "jit", "prompt": "hello"});
    let answer = home.http.post("/v1/completions", &prompt);
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("mlx_vlm"), "{}", answer.text());
}

#[test]
fn a_model_of_mlx_vlm_that_cannot_be_loaded_fails_with_its_log() {
    let Some(home) = home() else { return };
    let path = home.path().join("models/jit/config.json");
    std::fs::write(path, "{}").unwrap();
    fails_with_its_log(&home, "Failed to load model");
    ends(&home);
}
