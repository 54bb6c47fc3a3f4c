//! What a terminal shows: the same lines with coloured marks. `␛` stands for the escape character.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, error};
use crate::home_of_four;
use crate::support::home::Home;
use crate::with_hub::{done, end, hub, stoppable_hub};

/// A command that writes as to a terminal.
fn on_a_terminal(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command
        .env("CLICOLOR_FORCE", "1")
        .env("TERM", "xterm-256color");
    command
}

/// Everything the command wrote, stdout first.
fn shown(mut command: Command) -> String {
    let output = command.output().unwrap();
    let written = [output.stdout, output.stderr].concat();
    visible(&String::from_utf8(written).unwrap())
}

fn visible(text: &str) -> String {
    text.replace('\x1b', "␛")
}

/// A model of each answer, and a reload that changed something.
fn answers(request: &str) -> Option<(u16, Value)> {
    match request {
        "POST /hub/reload" => {
            let report = json!({"started": ["a"], "stopped": [], "unchanged": ["b"]});
            Some((200, report))
        }
        "POST /hub/models/a/start" => Some(done("start", "a", "Model 'a' started")),
        "POST /hub/models/b/start" => Some((503, error(503, "out of memory\nhint: buy some"))),
        _ => None,
    }
}

#[test]
fn ok_warn_and_err_have_their_colours_and_only_the_marks() {
    let (_hub, home) = hub(answers);
    assert_snapshot!(shown(on_a_terminal(&home, &["start-model", "a", " ", "b"])), @"
    ␛[32m[ok]␛[0m a: started
    ␛[33m[warn]␛[0m Skipping blank model name entry
    ␛[31m[err]␛[0m b: out of memory
      hint: buy some
    ");
}

#[test]
fn start_is_coloured() {
    let (hub, home) = hub(answers);
    let _filters = home.filters(hub.port());
    assert_snapshot!(shown(on_a_terminal(&home, &["start"])));
}

#[test]
fn status_is_coloured() {
    let (hub, home) = hub(answers);
    let _filters = home.filters(hub.port());
    assert_snapshot!(shown(on_a_terminal(&home, &["status"])));
}

#[test]
fn reload_is_coloured() {
    let (_hub, home) = hub(answers);
    assert_snapshot!(shown(on_a_terminal(&home, &["reload"])), @"␛[32m[ok]␛[0m Hub reload complete: started=a | stopped=none | unchanged=b");
}

#[test]
fn stop_is_coloured() {
    let hub = stoppable_hub((400, error(400, "hub.yaml:4:1: `models` is missing")));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    assert_snapshot!(shown(on_a_terminal(&home, &["stop"])), @"
    ␛[33m[warn]␛[0m Reload before the stop failed: hub.yaml:4:1: `models` is missing
    ␛[32m[ok]␛[0m Hub manager shutdown requested
    ␛[32m[ok]␛[0m Hub manager stopped
    ");
    drop(hub);
    assert_snapshot!(shown(on_a_terminal(&home, &["stop"])), @"␛[36m[info]␛[0m Hub manager is not running; nothing to stop");
}

#[test]
fn watch_is_coloured_where_it_fails() {
    let hub = FakeHub::start(|_| Some((500, error(500, "the disk is gone"))));
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    assert_snapshot!(first_look(&home, 2), @"
    Watching hub manager (press Ctrl+C to stop)...
    ␛[31m[err]␛[0m the disk is gone
    ");
}

#[test]
fn the_table_of_watch_has_no_colours() {
    let (hub, home) = hub(answers);
    let _filters = home.filters(hub.port());
    assert_snapshot!(first_look(&home, 8));
}

/// The first lines of `watch`, which is ended after them.
fn first_look(home: &Home, lines: usize) -> String {
    let mut watch = on_a_terminal(home, &["watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(watch.stdout.take().unwrap());
    let text: Vec<_> = stdout.lines().take(lines).map(Result::unwrap).collect();
    end(watch);
    visible(&text.join("\n"))
}

#[test]
fn no_color_wins() {
    let (_hub, home) = hub(answers);
    for arguments in [&["start"][..], &["status"], &["start-model", "a", " ", "b"]] {
        let mut command = on_a_terminal(&home, arguments);
        command.env("NO_COLOR", "1");
        let text = shown(command);
        assert!(
            text.contains("[warn] ") || text.contains("[info] "),
            "{text}"
        );
        assert!(!text.contains('␛'), "{text}");
    }
}
