//! What a command that waits says on a terminal: for what, and for how long.

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime};

use nix::pty::Winsize;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::fake_hub::{FakeHub, model, status};
use crate::home_of_four;
use crate::messages::install_worker_that;
use crate::support::home::Home;
use crate::with_hub::done;

/// Longer than a terminal shows nothing.
const LONG: Duration = Duration::from_millis(800);

/// What a command sends to the terminal of its stderr.
fn sent_by(command: &mut Command, size: Option<&Winsize>) -> String {
    let terminal = nix::pty::openpty(size, None).unwrap();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::from(terminal.slave))
        .spawn()
        .unwrap();
    // Its copy of the terminal.
    command.stderr(Stdio::null());
    let (mut screen, mut shown) = (File::from(terminal.master), Vec::new());
    // Linux ends it with an error once the last writer has gone.
    let _ = screen.read_to_end(&mut shown);
    child.wait().unwrap();
    String::from_utf8(shown).unwrap()
}

/// What the moving line of a command said, each thing once.
pub(crate) fn shown_by(command: &mut Command) -> Vec<String> {
    let shown = sent_by(command, None);
    let mut lines: Vec<_> = shown
        .split("\r\x1b[K")
        .filter_map(|line| line.strip_prefix(['|', '/', '-', '\\']))
        .filter_map(|line| Some(line.trim().rsplit_once(" (")?.0.to_owned()))
        .collect();
    lines.dedup();
    lines
}

/// The same of a command of the program, in a line.
pub(crate) fn waited_for(home: &Home, arguments: &[&str]) -> String {
    let lines = shown_by(&mut home.command(arguments));
    format!("{}: {}\n", arguments.join(" "), lines.join(", "))
}

#[test]
fn every_wait_says_what_it_waits_for() {
    let mut daemon = Command::new("sleep").arg("600").spawn().unwrap();
    let its_pid = Pid::from_raw(daemon.id().try_into().unwrap());
    let hub = FakeHub::start(move |request| {
        std::thread::sleep(LONG);
        Some(match request {
            "POST /hub/shutdown" => {
                std::thread::spawn(move || {
                    std::thread::sleep(LONG);
                    kill(its_pid, Signal::SIGKILL)
                });
                done("stop", "", "")
            }
            "POST /hub/reload" | "POST /hub/reload?start=false" => {
                (200, json!({"started": [], "stopped": [], "unchanged": []}))
            }
            _ => done("", "a", "Model 'a' done"),
        })
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let mut told = String::new();
    for arguments in [
        &["reload"][..],
        &["start-model", "a"],
        &["stop-model", "a"],
        &["load-model", "a"],
        &["unload-model", "a"],
    ] {
        told += &waited_for(&home, arguments);
    }
    hub.write_runtime_file(&home.logs(), daemon.id(), &[]);
    told += &waited_for(&home, &["stop"]);
    daemon.wait().unwrap();
    drop(hub);

    install_worker_that(&home, "sleep 0.8");
    told += &waited_for(&home, &["check"]);
    // A daemon waits for it, as one that was killed may hold it for a moment.
    let lock = File::create(home.logs().join("hub.lock")).unwrap();
    lock.try_lock().unwrap();
    told += &waited_for(&home, &["start"]);
    insta::assert_snapshot!(told, @"
    reload: reloading
    start-model a: reloading, a: starting
    stop-model a: reloading, a: stopping
    load-model a: a: loading
    unload-model a: a: unloading
    stop: reloading, waiting for requests in flight and for workers
    check: asking the worker program
    start: waiting for the hub
    ");
}

#[test]
fn a_wait_for_many_models_stays_one_line_of_the_terminal() {
    let (width, height) = (80, 24);
    let begun = SystemTime::now();
    let port = Arc::new(AtomicU16::new(0));
    let its_port = Arc::clone(&port);
    let hub = FakeHub::start(move |request| {
        let mut answer = status(its_port.load(Ordering::SeqCst));
        let is_loaded = begun.elapsed().unwrap() > 2 * LONG;
        let state = if is_loaded { "loaded" } else { "loading" };
        let facts = json!({"process_state": "running", "memory_state": state, "load_seconds": 40.0,
            "memory_last_transition_at": 1_764_000_000.0});
        let names = [
            "qwen3-coder-30b-a3b-instruct-2507",
            "gemma3-27b-it-qat-4bit",
        ];
        answer["models"] = names.map(|name| model(name, &facts)).into();
        (request == "GET /hub/status").then_some((200, answer))
    });
    port.store(hub.port(), Ordering::SeqCst);
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let size = Winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let sent = sent_by(&mut home.command(["start", "--wait"]), Some(&size));
    let mut screen = vt100::Parser::new(height, width, 0);
    let mut longest = 0;
    for part in sent.split_inclusive("\r\x1b[K") {
        screen.process(part.as_bytes());
        let shown = screen.screen().contents();
        assert!(shown.lines().count() <= 1, "{shown}");
        longest = longest.max(part.trim_end_matches("\r\x1b[K").chars().count());
    }
    // The cut may leave out a blank.
    assert!((78..80).contains(&longest), "{longest}: {sent:?}");
    assert_eq!(screen.screen().contents(), "", "{sent:?}");
}
