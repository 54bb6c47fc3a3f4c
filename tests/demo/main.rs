//! The demo, as someone on a fresh clone sees it.

#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

#[path = "../support/demo.rs"]
mod demo;
#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use demo::Demo;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::http::chat;
use support::{BINARY, SOON, processes, wait_for};
use tempfile::TempDir;

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// The tour up to its last line; what follows tells what the models do, as they do it.
fn snapshot(name: &str, output: &str) {
    let end = output.find("Ctrl+C ends the demo").unwrap();
    let last = output[end..]
        .find('\n')
        .map_or(output.len(), |line| end + line);
    let settings = {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"\S+/mlx-openai-server-hub-demo-\w+", "FOLDER");
        settings.add_filter(r"\[warn\] Port 8000 is taken.*\n", "");
        settings.add_filter(r"\[info\] (starting the hub|loading parrot) .*\n", "");
        settings.add_filter(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT");
        settings.add_filter(r"after \d+ ms", "after TIME");
        settings.add_filter(r"after [\d.]+ s:", "after TIME:");
        settings
    };
    settings.bind(|| insta::assert_snapshot!(name, &output[..last]));
}

#[test]
fn the_demo_shows_the_main_job_and_leaves_nothing() {
    let mut demo = Demo::start();
    demo.wait_for_line("Ctrl+C ends the demo");
    let output = demo.output();
    assert!(
        output.contains("I am parrot, and this is what comes to mind."),
        "{output}"
    );
    assert!(
        output.contains("return hub.unload()"),
        "the policy is shown: {output}"
    );
    assert!(!output.contains('\x1b'), "no colour in a file: {output}");
    snapshot("the_tour", &output);

    let http = demo.http();
    assert_eq!(http.get("/hub").status, 200);
    assert!(
        http.stream("night-owl", "hello")
            .said()
            .contains("I am night-owl")
    );
    let full = http.post("/v1/chat/completions", &chat("early-bird", "hello", false));
    assert_eq!(full.status, 429, "{}", full.text());
    demo.wait_for_line("night-owl is loaded");

    let status = http.get("/hub/status").json();
    let pids = status["models"].as_array().unwrap().iter();
    let groups: Vec<u32> = pids
        .filter_map(|model| u32::try_from(model["metadata"]["pid"].as_u64()?).ok())
        .collect();
    assert_eq!(groups.len(), 2, "parrot and night-owl have processes");

    processes::send(demo.process.id(), Signal::SIGINT);
    let ended = wait_for("the demo to end", SOON, || demo.process.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    let output = demo.output();
    let last = "[ok] The demo is over: every simulated model has ended, its folder is gone.";
    assert_eq!(output.lines().last(), Some(last));
    for group in groups {
        assert_eq!(processes::members(group), Vec::<u32>::new());
    }
    assert!(
        is_empty(&demo.home.path().join("tmp")),
        "its folder is gone"
    );
    let home = std::fs::read_dir(demo.home.path()).unwrap().count();
    assert_eq!(home, 2, "nothing but `output` and `tmp` in the home");
}

#[test]
fn the_demo_answers_clients_of_every_api() {
    let demo = Demo::start();
    demo.wait_for_line("The page:");
    let http = demo.http();
    let said = json!([{"role": "user", "content": "hello"}]);
    let text = |answer: &Value, path: &str| answer.pointer(path).cloned();
    // A worker that has the Responses API itself, and one for which all is translated.
    for model in ["parrot", "night-owl"] {
        for (path, body, place) in [
            (
                "/v1/messages",
                json!({"model": model, "max_tokens": 30, "messages": said}),
                "/content/0/text",
            ),
            (
                "/v1/responses",
                json!({"model": model, "input": "hello"}),
                "/output/0/content/0/text",
            ),
            (
                "/api/chat",
                json!({"model": model, "messages": said, "stream": false}),
                "/message/content",
            ),
            (
                "/api/v0/chat/completions",
                chat(model, "hello", false),
                "/choices/0/message/content",
            ),
        ] {
            let answer = http.post(path, &body);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            let answer = answer.json();
            let said = text(&answer, place);
            let said = said.as_ref().and_then(Value::as_str);
            let is_it = said.is_some_and(|said| said.contains(&format!("I am {model}")));
            assert!(is_it, "{path}: {answer}");
        }
    }
}

#[test]
fn a_demo_without_a_temporary_folder_says_so() {
    let home = TempDir::new().unwrap();
    let output = Command::new(BINARY)
        .arg("demo")
        .env("HOME", home.path())
        .env("TMPDIR", "/nosuch")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    insta::with_settings!({ filters => [("demo-\\w+", "demo-NAME")] }, {
        insta::assert_snapshot!(told, @r#"
        Error: the demo needs a temporary folder: No such file or directory (os error 2) at path "/nosuch/mlx-openai-server-hub-demo-NAME"
        hint: set `TMPDIR` to one that can be written
        "#);
    });
}

#[test]
fn a_second_demo_takes_another_port_and_says_so() {
    let first = Demo::start();
    first.wait_for_line("The page:");
    let second = Demo::start();
    second.wait_for_line("The page:");
    assert!(
        second
            .output()
            .contains("Port 8000 is taken, so the demo uses")
    );
    assert_ne!(first.http().port, second.http().port);
}

#[test]
fn a_demo_ends_with_its_terminal() {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut demo = Demo::start_with(Stdio::from(terminal.slave));
    processes::send(demo.process.id(), Signal::SIGHUP);
    let ended = wait_for("the demo to end", SOON, || demo.process.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
    assert!(
        is_empty(&demo.home.path().join("tmp")),
        "its folder is gone"
    );
}
