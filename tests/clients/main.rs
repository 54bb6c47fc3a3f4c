//! The official `openai` clients, for Python and for Node, against a hub with simulated workers: plain,
//! streamed, while a model loads, and refused.
//!
//! tests/run puts them under target/: the Python client is part of the real worker's environment.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Hub, stub};

/// `quick` and `slow`, of which the second loads for longer than its clients wait in silence.
fn hub() -> Hub {
    let model = |name: &str, knobs: &[&str]| {
        let command = stub(&[&["--tokens", "7"], knobs].concat());
        format!(
            "- {{name: {name}, model_path: org/{name}, jit_enabled: true, default: true, \
             worker_command: {command}}}\n"
        )
    };
    Hub::start(&format!(
        "loading_notice: 1\nmodels:\n{}{}{}",
        model("quick", &[]),
        model("slow", &["--load-seconds", "3"]),
        model("broken", &["--load-seconds", "2", "--fail-load"]),
    ))
}

fn target(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target")
        .join(path)
}

/// Whether a client is there. With CI=true it has to be.
#[expect(clippy::print_stdout, reason = "a test that is not run says so")]
fn is_there(what: &str, path: &Path) -> bool {
    if path.exists() {
        return true;
    }
    println!("not run: {what}: it is not in {}", path.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no {what}");
    false
}

/// Runs a client's script against a hub of its own.
fn is_served(program: &Path, arguments: &[&Path], script: &str) {
    let hub = hub();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let said = Command::new(program)
        .arg(script)
        .arg(format!("http://127.0.0.1:{}/v1", hub.http.port))
        .args(arguments)
        .output()
        .unwrap();
    let (out, error) = (&said.stdout, &said.stderr);
    assert!(
        said.status.success(),
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(error)
    );
    // It went to the end of the script.
    assert!(String::from_utf8_lossy(out).ends_with("all served\n"));
    assert_eq!(hub.record.count("load", "slow"), 1);
}

#[test]
fn the_python_client_is_served() {
    let python = target("real-worker/bin/python");
    if is_there("the Python client", &python) {
        is_served(&python, &[], "tests/support/openai_client_loading.py");
    }
}

#[test]
fn the_node_client_is_served() {
    let client = target("openai-node");
    if is_there("the Node client", &client) {
        is_served(
            Path::new("node"),
            &[&client],
            "tests/support/openai_client.mjs",
        );
    }
}
