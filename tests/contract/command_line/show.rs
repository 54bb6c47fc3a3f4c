//! `status` and `watch`, and how messages look.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::{four, row, table};
use crate::Home;
use crate::home::ran;
use crate::support::processes;

#[test]
fn status_shows_processes_and_memory_and_is_limited_to_names() {
    let home = Home::started(&four());
    let b = home.wait_for_state("b", "running", "loaded");
    home.done("a", "start");
    let status = home.run(&["status"]);
    let lines = status.assert_ok().lines();
    assert_eq!(lines[0], format!("Hub log path: {}", home.logs().display()));
    assert_eq!(lines[1], "Status page enabled: yes");
    let running = format!("running (pid={}, port={})", b["pid"], b["port"]);
    let expected = ["b", &running, "yes", "-", "lm", "-", "✓", "org/b"];
    assert_eq!(row(&status, "b"), expected);
    assert_eq!(row(&status, "a")[2..4], ["no", "5min"]);

    assert_eq!(table(&home.run(&["status", "a", "c"])).len(), 2 + 2);
    home.run(&["status", "zzz"])
        .assert_ok()
        .assert_line("No matching models in hub config");
}

#[test]
fn watch_shows_the_processes_until_ctrl_c() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    home.act("d", "start");
    let mut watch = home
        .command(["watch", "--interval", "0.5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || lines.next().unwrap().unwrap();
    assert_eq!(next(), "Watching hub manager (press Ctrl+C to stop)...");
    for _ in 0..2 {
        let summary = next();
        let (time, counts) = summary.split_once("] ").unwrap();
        assert_eq!(counts, "models=4 running=1 stopped=0 failed=1");
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '9' } else { c })
            .collect();
        assert_eq!(shape, "[9999-99-99 99:99:99");
        let cells = |line: String| -> Vec<String> {
            line.split('|').map(|cell| cell.trim().to_owned()).collect()
        };
        let header = "NAME STATE PID GROUP UPTIME EXIT LOG";
        assert_eq!(cells(next()).join(" "), header);
        next();
        let rows: Vec<_> = (0..4).map(|_| cells(next())).collect();
        let names: Vec<_> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "d"]);
        assert_eq!(rows[0][1..], ["INACTIVE", "-", "small", "-", "-", "a.log"]);
        assert_eq!(rows[1][1], "RUNNING");
        assert_eq!(rows[1][2], home.model("b")["pid"].to_string());
        assert!(rows[1][4].ends_with('s'), "uptime: {rows:?}");
        assert_eq!(rows[3][1], "FAILED");
        assert_eq!(rows[3][5], "-", "it exited with code 0");
    }
    processes::send(watch.id(), Signal::SIGINT);
    assert!(watch.wait().unwrap().success());
}

#[test]
fn watch_survives_the_end_of_the_hub() {
    let home = Home::started(&four());
    let mut watch = home
        .command(["watch", "--interval", "0.5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut wait_for_line = |text: &str| {
        lines
            .find(|line| line.as_ref().unwrap().contains(text))
            .unwrap()
            .unwrap()
    };
    wait_for_line("models=4");
    home.run(&["stop"]).assert_ok();
    wait_for_line("not running");
    home.start();
    wait_for_line("models=4");
    processes::send(watch.id(), Signal::SIGINT);
    assert!(watch.wait().unwrap().success());
}

#[test]
fn messages_are_coloured_on_a_terminal_only_and_never_with_no_color() {
    let home = Home::with_stub(&four());
    let plain = home.run(&["status"]);
    assert!(!plain.out.contains('\x1b'), "{plain:?}");
    let on_terminal = |variable: &str| {
        let mut command = std::process::Command::new("script");
        let inner = home.command(["status"]);
        command
            .args([
                "-qec",
                &format!("{:?} status", inner.get_program()),
                "/dev/null",
            ])
            .env_clear()
            .envs(
                inner
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("TERM", "xterm")
            .env(variable, "1")
            .stdin(Stdio::null());
        ran(&mut command).out
    };
    // The program that gives a command a terminal takes other options elsewhere.
    if cfg!(target_os = "linux")
        && std::process::Command::new("script")
            .arg("-V")
            .output()
            .is_ok()
    {
        let coloured = on_terminal("UNRELATED");
        assert!(coloured.contains("\x1b[33m[warn]\x1b[0m"), "{coloured:?}");
        assert!(!on_terminal("NO_COLOR").contains('\x1b'));
    }
}
