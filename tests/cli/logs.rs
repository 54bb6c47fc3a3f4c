//! `logs`: whose log is shown, and that it is followed through rotation.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::home_of_four;
use crate::support::home::Home;

fn shown(home: &Home, arguments: &[&str]) -> (Option<i32>, String) {
    let output = home.command(arguments).output().unwrap();
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_last_lines_of_the_hub_or_of_a_model_are_shown_without_a_hub() {
    let home = home_of_four(1);
    std::fs::create_dir_all(home.logs()).unwrap();
    let lines: String = (1..=30).map(|line| format!("line {line}\n")).collect();
    std::fs::write(home.logs().join("app.log"), &lines).unwrap();
    std::fs::write(home.logs().join("a.log"), "of a\n").unwrap();
    let (code, text) = shown(&home, &["logs"]);
    assert_eq!(code, Some(0));
    assert!(
        text.starts_with("line 11\n") && text.ends_with("line 30\n"),
        "{text}"
    );
    assert_eq!(shown(&home, &["logs", "-n", "1"]).1, "line 30\n");
    assert_eq!(shown(&home, &["logs", "a"]), (Some(0), "of a\n".to_owned()));
    let (code, text) = shown(&home, &["logs", "b"]);
    assert!(
        code == Some(0) && text.starts_with("[info] There is no log yet: "),
        "{text}"
    );
    let long = Home::empty();
    long.write("models: [{name: alpha, model_path: org/a, no_log_file: true}]\n");
    assert_eq!(
        shown(&long, &["logs", "alhpa"]),
        (
            Some(1),
            "Error: the hub has no model called `alhpa`\nhint: did you mean `alpha`?\n".to_owned()
        )
    );
    let (code, text) = shown(&long, &["logs", "alpha"]);
    assert!(code == Some(1) && text.contains("no_log_file"), "{text}");
}

#[test]
fn the_log_of_the_hub_is_shown_with_a_broken_configuration() {
    let home = Home::empty();
    home.write("log_path: elsewhere\nmodels: [\n");
    let logs = home.config().with_file_name("elsewhere");
    std::fs::create_dir(&logs).unwrap();
    std::fs::write(logs.join("app.log"), "why\n").unwrap();
    assert_eq!(shown(&home, &["logs"]), (Some(0), "why\n".to_owned()));
}

/// `logs -f`, line by line; ended with Ctrl+C.
struct Following(Child, std::io::Lines<BufReader<ChildStdout>>);

impl Following {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut child = home
            .command(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }

    fn line(&mut self) -> String {
        self.1.next().unwrap().unwrap()
    }

    fn interrupt(mut self) -> Option<i32> {
        kill(
            Pid::from_raw(self.0.id().try_into().unwrap()),
            Signal::SIGINT,
        )
        .unwrap();
        self.0.wait().unwrap().code()
    }
}

#[test]
fn a_log_is_followed_when_it_is_emptied_and_when_it_is_replaced() {
    let home = home_of_four(1);
    std::fs::create_dir_all(home.logs()).unwrap();
    let log = home.logs().join("a.log");
    std::fs::write(&log, "one\ntwo\n").unwrap();
    let mut following = Following::start(&home, &["logs", "a", "-f", "-n", "1"]);
    assert_eq!(following.line(), "two");
    let add = |text: &str| {
        use std::io::Write as _;
        let mut file = std::fs::File::options().append(true).open(&log).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    add("three\n");
    assert_eq!(following.line(), "three");
    // As a worker's log is kept within its bound.
    std::fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    add("4\n");
    assert_eq!(following.line(), "4");
    // As app.log is rotated.
    add("five\n");
    std::fs::rename(&log, home.logs().join("a.log.1")).unwrap();
    std::fs::write(&log, "six\n").unwrap();
    assert_eq!(following.line(), "five");
    assert_eq!(following.line(), "six");
    assert_eq!(following.interrupt(), Some(0));
}
