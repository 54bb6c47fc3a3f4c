//! `run`: the answer alone on stdout, the hub's reasons on stderr, and a chat on a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::progress::waited_for;
use crate::support::home::{Home, Ran, ran};
use crate::support::model_folder::write_cached;
use crate::support::{SOON, alpha::CHAT, wait_for, wait_until};

const YAML: &str = "models:\n\
    - {name: small, model_path: org/small, default: true}\n\
    - {name: slow, model_path: org/slow, default: true, jit_enabled: true, env: {STUB_LOAD_SECONDS: '1.5'}}\n\
    - {name: endless, model_path: org/endless, default: true, jit_enabled: true, \
       env: {STUB_TOKENS: '100000', STUB_TOKEN_MS: '10'}}\n\
    - {name: broken, model_path: org/broken, default: true, jit_enabled: true, env: {STUB_FAIL_LOAD: 'true'}}\n\
    - {name: cut, model_path: org/cut, default: true, jit_enabled: true, env: {STUB_CRASH_AFTER_EVENTS: '4'}}\n\
    - {name: off, model_path: org/off}\n";

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nrest";

/// `run` with this on stdin.
fn run_with(home: &Home, stdin: &str, arguments: &[&str]) -> Ran {
    let file = home.path().join("stdin");
    std::fs::write(&file, stdin).unwrap();
    let mut command = home.command([&["run"], arguments].concat());
    ran(command.stdin(File::open(file).unwrap()))
}

/// The messages of the last chat that a worker got.
fn last_messages(home: &Home) -> Value {
    let requests = home.record.requests(CHAT);
    let body = requests.last().unwrap()["body"].as_str().unwrap();
    serde_json::from_str::<Value>(body).unwrap()["messages"].take()
}

#[test]
fn a_hub_is_started_and_stdout_has_the_answer_alone() {
    let home = Home::with_stub(YAML);
    let ran = home.run(&["run", "small", "hello", "there"]);
    home.note_daemon(&ran.err);
    ran.assert_ok();
    let begin = "You said “hello there”. I am small, and this is what comes to mind. Once upon a";
    assert!(ran.out.starts_with(begin), "{ran:?}");
    assert!(ran.out.ends_with("who might stay up.\n"), "{ran:?}");
    assert!(ran.err.contains("Hub manager is now running."), "{ran:?}");
    // The next one finds it.
    let again = home.run(&["run", "small", "hello"]);
    assert_eq!((again.code, &*again.err), (0, ""), "{again:?}");
}

#[test]
fn two_commands_lead_from_models_on_the_disk_to_the_first_answer() {
    let home = Home::with_stub(YAML);
    std::fs::remove_file(home.config()).unwrap();
    let qwen = json!({"model_type": "qwen3"});
    write_cached(home.path(), "mlx-community/Qwen3-0.6B-4bit", &qwen, 1000);
    home.run(&["init", "--found"]).assert_ok();
    // Where the tests are, the usual port may be taken.
    let text = std::fs::read_to_string(home.config()).unwrap();
    let (port, first) = (home.port, home.port + 1);
    let port = format!("port: {port}\nmodel_starting_port: {first}\n");
    assert!(text.contains("port: 8000\n"), "{text}");
    home.write(&text.replace("port: 8000\n", &port));
    let ran = home.run(&["run", "qwen3-0.6b-4bit", "hello"]);
    home.note_daemon(&ran.err);
    ran.assert_ok();
    assert!(ran.out.starts_with("You said “hello”."), "{ran:?}");
}

#[test]
fn a_prompt_has_words_and_stdin_and_may_come_with_instructions_and_images() {
    let home = Home::started(YAML);
    let said = |stdin: &str, arguments: &[&str]| {
        run_with(&home, stdin, arguments).assert_ok();
        last_messages(&home)
    };
    let user = |content: Value| json!([{"role": "user", "content": content}]);
    assert_eq!(said(" all of it\n", &["small"]), user(json!("all of it")));
    assert_eq!(
        said("a diff\n", &["small", "explain", "this:", "-", "briefly"]),
        user(json!("explain this:\na diff\n\nbriefly"))
    );
    assert_eq!(said("unread", &["small", "words"]), user(json!("words")));
    std::fs::write(home.path().join("a.png"), PNG).unwrap();
    let messages = said(
        "",
        &[
            "small", "--system", "be brief", "--image", "a.png", "what", "is", "it?",
        ],
    );
    let url = "data:image/png;base64,iVBORw0KGgpyZXN0";
    assert_eq!(
        messages,
        json!([
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": "what is it?"},
            ]},
        ])
    );
}

#[test]
fn what_is_wrong_with_the_question_is_told_before_a_hub_is_started() {
    let home = Home::with_stub(YAML);
    std::fs::write(home.path().join("notes.txt"), "no image").unwrap();
    let mut told = String::new();
    for arguments in [
        &["small"][..],
        &["small", "-"],
        &["small", "hi", "--image", "notes.txt"],
        &["small", "hi", "--image", "missing.png"],
    ] {
        let ran = run_with(&home, " \n", arguments);
        ran.assert_failed();
        assert_eq!(ran.out, "");
        told += &ran.err;
    }
    assert!(!home.runtime_file().exists());
    insta::assert_snapshot!(told, @"
    Error: there is no prompt
    hint: give one after the model's name, or on stdin
    Error: there is no prompt
    hint: give one after the model's name, or on stdin
    Error: `notes.txt` is no PNG, JPEG, GIF, WebP or BMP, which models read
    Error: cannot read the image `missing.png`: No such file or directory (os error 2)
    ");
}

#[test]
fn the_hubs_own_reason_is_on_stderr() {
    let home = Home::started(YAML);
    for model in ["nobody", "off", "broken"] {
        let ran = home.run(&["run", model, "hi"]);
        ran.assert_failed();
        assert_eq!(ran.out, "");
        let reason = home.http.chat(model, "hi").json();
        let reason = reason["error"]["message"].as_str().unwrap();
        // A load that fails again has another process, with another log.
        let first = reason.lines().next().unwrap();
        // A command names no route.
        let first = first.replace(&format!(" or POST /hub/models/{model}/start"), "");
        assert!(
            ran.err.contains(&format!("Error: {first}")),
            "{ran:?} but {reason}"
        );
    }
    let cut = home.run(&["run", "cut", "hi"]);
    cut.assert_failed();
    assert_eq!(cut.out, "You said “hi”. \n");
    assert!(cut.err.contains("Error: "), "{cut:?}");
}

#[test]
fn stderr_shows_the_load_until_the_answer_begins() {
    let home = Home::started(YAML);
    let told = waited_for(&home, &["run", "slow", "hi"]);
    assert!(told.contains(" slow: loading 1 s"), "{told}");
    let again = waited_for(&home, &["run", "slow", "hi"]);
    assert!(!again.contains("loading"), "{again}");
}

#[test]
fn no_control_character_of_a_model_reaches_the_terminal() {
    let home = Home::started(YAML);
    let ran = home.run(&[
        "run",
        "small",
        "\u{1b}[31mred \u{1b}]0;title\u{7} \u{8}\r end",
    ]);
    ran.assert_ok();
    let echoed = last_messages(&home).to_string();
    assert!(echoed.contains("u001b"), "{echoed}");
    assert!(ran.out.starts_with("You said “red   end”."), "{ran:?}");
}

#[test]
fn a_reader_that_has_gone_ends_the_answer() {
    let home = Home::started(YAML);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = home
        .command(["run", "endless", "hi"])
        .stdout(writer)
        .spawn()
        .unwrap();
    drop(reader);
    assert!(child.wait().unwrap().success());
    wait_until("the worker to stop", SOON, || {
        home.record.count("cancelled", "endless") == 1
    });
}

/// A chat on a terminal.
struct Terminal {
    child: Child,
    keys: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn open(mut command: Command) -> Self {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let screen = || Stdio::from(terminal.slave.try_clone().unwrap());
        let child = command
            .stdin(screen())
            .stdout(screen())
            .stderr(screen())
            .spawn()
            .unwrap();
        drop(command);
        let keys = File::from(terminal.master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, sink) = (keys.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // Linux ends it with an error once the last writer has gone.
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                sink.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self { child, keys, shown }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    #[track_caller]
    fn wait_for(&self, text: &str, count: usize) {
        wait_for(text, SOON, || {
            (self.text().matches(text).count() >= count).then_some(())
        });
    }
}

#[test]
fn a_chat_remembers_what_was_said_until_its_input_ends() {
    let home = Home::started(YAML);
    let mut chat = Terminal::open(home.command(["run", "small", "--system", "be brief"]));
    chat.wait_for(">>> ", 1);
    chat.press("first\n");
    chat.wait_for("might stay up.", 1);
    chat.wait_for(">>> ", 2);
    chat.press("second\n");
    chat.wait_for("You said “second”.", 1);
    chat.wait_for(">>> ", 3);
    chat.press("\u{4}");
    assert!(chat.child.wait().unwrap().success());
    let messages = last_messages(&home);
    let said: Vec<_> = messages.as_array().unwrap().iter().collect();
    let roles: Vec<_> = said
        .iter()
        .map(|one| one["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"], "{messages}");
    assert_eq!(said[1]["content"], "first");
    let answer = said[2]["content"].as_str().unwrap();
    assert!(answer.starts_with("You said “first”."), "{answer}");
}

#[test]
fn an_interrupt_stops_the_answer_and_not_the_chat() {
    let home = Home::started(YAML);
    let mut chat = Terminal::open(home.command(["run", "endless"]));
    let pid = Pid::from_raw(chat.child.id().try_into().unwrap());
    chat.wait_for(">>> ", 1);
    kill(pid, Signal::SIGINT).unwrap();
    chat.wait_for("(Ctrl+D ends the chat)", 1);
    chat.press("go on\n");
    chat.wait_for("Once upon a time", 1);
    kill(pid, Signal::SIGINT).unwrap();
    wait_until("the worker to stop", SOON, || {
        home.record.count("cancelled", "endless") == 1
    });
    chat.wait_for(">>> ", 3);
    chat.press("\u{4}");
    assert!(chat.child.wait().unwrap().success());
}

#[test]
fn a_chat_goes_on_after_an_error() {
    let home = Home::started(YAML);
    let mut chat = Terminal::open(home.command(["run", "off"]));
    chat.wait_for(">>> ", 1);
    chat.press("hi\n");
    chat.wait_for("is not started", 1);
    home.run(&["start-model", "off"]).assert_ok();
    chat.wait_for(">>> ", 2);
    chat.press("again\n");
    chat.wait_for("You said “again”.", 1);
    chat.wait_for(">>> ", 3);
    chat.press("\u{4}");
    assert!(chat.child.wait().unwrap().success());
    let messages = last_messages(&home);
    assert_eq!(messages, json!([{"role": "user", "content": "again"}]));
}
