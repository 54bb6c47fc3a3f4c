//! `service`: the files for launchd and systemd, what the managers are told, and a real systemd that runs
//! the hub.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

#[path = "../support/mod.rs"]
mod support;

mod launchd;
mod real;
mod systemd;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use support::home::Home;

const MODELS: &str = "drain_timeout: 20\nstop_timeout: 10\nmodels: [{name: alpha, model_path: org/alpha, jit_enabled: true}]\n";

/// Puts a program on the home's PATH that writes down how it is called, and then does `script`.
fn stand_in(home: &Home, name: &str, script: &str) {
    let calls = home.path().join("calls").display().to_string();
    let text = format!("#!/bin/sh\necho \"{name} $*\" >>'{calls}'\n{script}\n");
    let path = home.bin().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// How the stand-ins were called since the last time, without what only asks.
fn calls(home: &Home) -> String {
    let path = home.path().join("calls");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let _ = std::fs::remove_file(path);
    let user = nix::unistd::getuid().to_string();
    let lines = text
        .lines()
        .filter(|line| !line.contains(" print ") && !line.contains(" show "));
    let lines = lines.map(|line| format!("{line}\n")).collect::<String>();
    shown(home, &lines).replace(&format!("gui/{user}"), "gui/UID")
}

/// A text without what differs from run to run.
fn shown(home: &Home, text: &str) -> String {
    let program = Path::new(support::BINARY).display().to_string();
    text.replace(&home.path().display().to_string(), "HOME")
        .replace(&program, "PROGRAM")
        .replace(&home.port.to_string(), "PORT")
}
