//! What commands print on terminals of 80 and 120 columns, and in a pipe, which has all of it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, model, status};
use crate::home_of_four;
use crate::policy::recording;
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

/// A command on a terminal of that width, and the terminal's side of it.
fn start_on_a_terminal(home: &Home, arguments: &[&str], width: u16) -> (Child, OwnedFd) {
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
    (command.spawn().unwrap(), pty.master)
}

/// What a terminal of that width is sent.
fn on_a_terminal(home: &Home, arguments: &[&str], width: u16) -> String {
    let (mut child, terminal) = start_on_a_terminal(home, arguments, width);
    let (mut screen, mut shown) = (File::from(terminal), Vec::new());
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
    for arguments in [
        &["doctor"][..],
        &["engine", "list"],
        &["check", "--verbose"],
    ] {
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
        if arguments != ["doctor"] {
            let mut words = [words(&shown), words(&whole)];
            // A command line goes on behind these.
            words[0].retain(|word| word != "\\");
            assert_eq!(words[0], words[1], "{arguments:?}");
        }
    }
}

/// The words of a text, without where its lines end.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_policies_decided_and_failed_at_is_broken_between_words() {
    let error = "keep_the_large_ones_loaded.lua:31: attempt to compare a number with nil, as the model has none";
    let policy = json!({"name": "keep_the_large_ones_loaded.lua", "origin": "file", "hooks": ["on_request"],
        "observes": [], "models": ["auto", "best", "cheapest", "fastest", "whatever-is-loaded-now"], "denies": false,
        "calls": 1200, "verdicts": 7, "failures": 3, "average_seconds": 0.0005, "last_error": error,
        "switched_off": false});
    let decision = json!({"number": 1, "time": 1_764_073_800.0, "last_time": 1_764_073_800.0, "times": 1,
        "hook": "on_load", "model": "qwen3-coder-30b-a3b", "request": null,
        "policy": "keep_the_large_ones_loaded.lua", "place": "keep_the_large_ones_loaded.lua:31",
        "verdict": "allow", "fields": {}, "reason": null, "inputs": {"reason": "manual", "group": "large",
        "loaded": [], "max_loaded": 1}, "abstained": ["one_at_a_time.lua", "keep_quiet_at_night.lua",
        "only_by_day.lua"], "failed": [error], "by": null, "outcome": "loaded in 8.4 s"});
    let hub = FakeHub::start(move |request| {
        Some(match request.split('?').next() {
            Some("GET /hub/policies") => {
                let report =
                    json!({"memory_bytes": 0, "warnings": [], "policies": [policy.clone()]});
                (200, report)
            }
            Some("GET /hub/policies/decisions") => {
                (200, json!({"decisions": [decision.clone()], "since": null}))
            }
            _ => return None,
        })
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    for arguments in [
        &["policy", "explain"],
        &["policy", "list"],
        &["policy", "show"],
    ] {
        let whole = home.run(arguments).out;
        for width in [80, 120] {
            let shown = on_a_terminal(&home, arguments, width);
            let is_wide = |line: &&str| line.chars().count() > usize::from(width);
            assert!(whole.lines().any(|line| is_wide(&line)), "{whole}");
            assert_eq!(shown.lines().find(is_wide), None, "{arguments:?}");
            // The table of `policy list` is cut, not broken.
            let is_cut = |line: &&str| line.contains(" | ") || line.contains("-+-");
            let told = |text: &str| {
                let lines = text.lines().filter(|line| !is_cut(line));
                words(&lines.collect::<Vec<_>>().join("\n"))
            };
            assert_eq!(told(&shown), told(&whole), "{arguments:?}");
        }
    }
}

#[test]
fn start_fits_80_columns_while_many_models_load() {
    let names = [
        "qwen3-coder-30b-a3b-instruct",
        "gemma3-27b-it-qat-4bit",
        "gpt-oss-20b-mxfp4",
    ];
    let hub = FakeHub::start(move |request| {
        let loading = json!({"process_state": "starting", "memory_state": "loading"});
        let mut answer = answer();
        answer["models"] = names.map(|name| model(name, &loading)).into();
        (request == "GET /hub/status").then_some((200, answer))
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let line = format!("Loading {}; see `watch`, or `logs -f`", names.join(", "));
    assert!(home.run(&["start"]).assert_ok().out.contains(&line));
    let shown = on_a_terminal(&home, &["start"], 80);
    assert_eq!(shown.lines().find(|line| line.chars().count() > 80), None);
    let (shown, line) = (words(&shown).join(" "), words(&line).join(" "));
    assert!(shown.contains(&line), "{shown}");
}

#[test]
fn a_replay_is_broken_between_words() {
    let home = home_of_four(8124);
    let policy = "return {\n  on_request = function(req) return req.body.user and nil end,\n  \
                  on_load = function(load, hub) return hub.wait{ seconds = 5 } end,\n}\n";
    let name = "keep_the_large_ones_loaded_until_the_night.lua";
    std::fs::write(home.base().join(name), policy).unwrap();
    std::fs::write(home.path().join("calls.jsonl"), recording("a", 1)).unwrap();
    let arguments = ["policy", "replay", "calls.jsonl"];
    let whole = home.run(&arguments).out;
    let shown = on_a_terminal(&home, &arguments, 80);
    let is_wide = |line: &&str| line.chars().count() > 80;
    assert!(whole.lines().any(|line| is_wide(&line)), "{whole}");
    assert_eq!(shown.lines().find(is_wide), None);
    assert_eq!(words(&shown), words(&whole));
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
    assert_eq!(words(&shown), words(&whole));
}

/// The first look of `watch`: of each model its name and state.
fn states_of_watch(mut watch: Child, output: impl Read) -> Vec<(String, String)> {
    let lines = BufReader::new(output).lines();
    let rows: Vec<String> = lines
        .map(Result::unwrap)
        .filter(|line| line.contains(" | "))
        .take(4)
        .collect();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let states = rows[1..].iter().map(|row| {
        let mut cells = row.split('|').map(|cell| cell.trim().to_owned());
        (cells.next().unwrap(), cells.next().unwrap())
    });
    states.collect()
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
    let arguments = ["watch", "--interval", "60"];
    let mut command = home.command(arguments);
    let mut piped = command.stdout(Stdio::piped()).spawn().unwrap();
    let pipe = piped.stdout.take().unwrap();
    let in_a_pipe = states_of_watch(piped, pipe);
    // One after the other, as the hub answers one command at a time.
    let (watch, terminal) = start_on_a_terminal(&home, &arguments, 80);
    for states in [in_a_pipe, states_of_watch(watch, File::from(terminal))] {
        let states: Vec<_> = states
            .iter()
            .map(|(name, state)| (name.as_str(), state.as_str()))
            .collect();
        assert_eq!(
            states,
            [
                ("bge-m3", "RUNNING (not loaded)"),
                ("loads", "RUNNING (loading)"),
                ("qwen3-coder-30b-a3b", "RUNNING"),
            ]
        );
    }
}
