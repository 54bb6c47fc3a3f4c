//! What commands print on terminals of 80 and 120 columns, and in a pipe, which has all of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, model, status};
use crate::home_of_four;
use crate::support::home::Home;

/// Models with names as long as people's.
fn answer() -> Value {
    let path = |name: &str| format!("mlx-community/{name}");
    let coder = path("Qwen3-Coder-30B-A3B-Instruct-4bit");
    let gemma = path("gemma-3-27b-it-qat-4bit");
    let reason = "the folder of its weights is not there any more: a disk may not be mounted, or somebody has moved it";
    let mut answer = status(8124);
    answer["warnings"] = json!([]);
    answer["models"] = json!([
        model(
            "qwen3-coder-30b-a3b",
            &json!({"process_state": "running", "memory_state": "loaded",
            "pid": 43210, "port": 47850, "group": "large", "default": true, "auto_unload_minutes": 30,
            "model_path": coder, "memory_bytes": 17_u64 << 30, "active_requests": 2})
        ),
        model(
            "gemma3-27b",
            &json!({"process_state": "failed", "memory_state": "failed",
            "memory_last_error": reason, "group": "large", "model_type": "multimodal",
            "model_path": gemma})
        ),
        model(
            "bge-m3",
            &json!({"process_state": "running", "pid": 43212, "jit_enabled": true,
            "model_type": "embeddings", "default": true})
        ),
    ]);
    answer["memory"] = json!({"total": 64_u64 << 30, "available": 30_u64 << 30, "returning": 0,
        "pressure": "normal"});
    answer
}

/// What a terminal of that width is sent.
fn on_a_terminal(home: &Home, arguments: &[&str], width: u16) -> String {
    let size = Winsize {
        ws_row: 24,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).unwrap();
    let mut command = home.command(arguments);
    let errors = pty.slave.try_clone().unwrap();
    command
        .env("NO_COLOR", "1")
        .stdout(Stdio::from(pty.slave))
        .stderr(Stdio::from(errors));
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut screen, mut shown) = (File::from(pty.master), Vec::new());
    // Linux ends it with an error once the last writer has gone.
    let _ = screen.read_to_end(&mut shown);
    child.wait().unwrap();
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

#[test]
fn status_fits_80_and_120_columns_and_is_whole_in_a_pipe() {
    let hub = FakeHub::start(|request| (request == "GET /hub/status").then(|| (200, answer())));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let _filters = home.filters(hub.port());
    for width in [80, 120] {
        let shown = on_a_terminal(&home, &["status"], width);
        let is_wide = |line: &&str| line.chars().count() > usize::from(width);
        assert_eq!(shown.lines().find(is_wide), None);
        insta::assert_snapshot!(format!("status_at_{width}"), shown);
    }
    insta::assert_snapshot!("status_in_a_pipe", home.run(&["status"]).out);
}

#[test]
fn words_stay_whole_at_80_columns_and_nothing_is_broken_in_a_pipe() {
    let home = home_of_four(8124);
    let long = "models:\n  - name: a-model-with-quite-a-long-name\n    model_path: org/a\n    config_name: flux\n    \
        jit_enabled: true\n    auto_unload_minutes: 30\n";
    home.write(long);
    for arguments in [&["doctor"][..], &["engine", "list"], &["check"]] {
        let whole = home.run(arguments).out;
        assert!(
            whole.lines().any(|line| line.chars().count() > 80),
            "{whole}"
        );
        let shown = on_a_terminal(&home, arguments, 80);
        for line in shown.lines() {
            let is_one_word = line.split_whitespace().count() == 1;
            assert!(
                line.chars().count() <= 80 || is_one_word,
                "{arguments:?}: {line}"
            );
        }
        let words = |text: &str| -> Vec<String> {
            let words = text.split_whitespace().filter(|word| *word != "\\");
            words.map(str::to_owned).collect()
        };
        if arguments != ["doctor"] {
            assert_eq!(words(&shown), words(&whole), "{arguments:?}");
        }
    }
}

#[test]
fn an_error_is_broken_between_words_on_a_terminal_alone() {
    let home = home_of_four(8124);
    let limit = "an hour or two, as long as nobody has asked for it in the meantime";
    home.write(&format!(
        "models:\n- name: a\n  model_path: org/a\n  auto_unload_minutes: {limit}\n"
    ));
    let whole = home.run(&["start"]).err;
    assert!(
        whole.lines().any(|line| line.chars().count() > 80),
        "{whole}"
    );
    let shown = on_a_terminal(&home, &["start"], 80);
    let is_wide = |line: &&str| line.chars().count() > 80;
    assert_eq!(shown.lines().find(is_wide), None);
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(words(&shown), words(&whole));
}

#[test]
fn watch_says_which_models_are_loaded_in_a_pipe_and_on_a_terminal() {
    let hub = FakeHub::start(|request| {
        (request == "GET /hub/status").then(|| {
            let mut answer = answer();
            let loading = json!({"process_state": "running", "memory_state": "loading"});
            answer["models"][1] = model("loads", &loading);
            (200, answer)
        })
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let mut command = home.command(["watch", "--interval", "60"]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let rows: Vec<String> = lines
        .map(Result::unwrap)
        .filter(|line| line.contains(" | "))
        .take(4)
        .collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let states = rows[1..].iter().map(|row| {
        let mut cells = row.split('|').map(str::trim);
        (cells.next().unwrap(), cells.next().unwrap())
    });
    let states: Vec<_> = states.collect();
    assert_eq!(
        states,
        [
            ("bge-m3", "RUNNING (not loaded)"),
            ("loads", "RUNNING (loading)"),
            ("qwen3-coder-30b-a3b", "RUNNING"),
        ]
    );
}
