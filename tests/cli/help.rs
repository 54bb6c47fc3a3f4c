//! `--help` teaches, and wrong usage says what is wrong.

use insta_cmd::assert_cmd_snapshot;

use crate::support::home::Home;

#[test]
fn the_program_explains_itself() {
    let home = Home::empty();
    assert_cmd_snapshot!(home.command(["--help"]));
}

#[test]
fn every_command_explains_itself() {
    let home = Home::empty();
    for verb in [
        "init",
        "check",
        "models",
        "pull",
        "add",
        "remove",
        "start",
        "serve",
        "status",
        "reload",
        "stop",
        "start-model",
        "stop-model",
        "load-model",
        "unload-model",
        "restart",
        "watch",
        "top",
        "open",
        "logs",
        "run",
        "launch",
        "doctor",
        "demo",
        "completions",
        "config",
        "key",
        "service",
        "fleet",
        "policy",
        "engine",
    ] {
        assert_cmd_snapshot!(format!("help_{verb}"), home.command([verb, "--help"]));
    }
}

#[test]
fn every_policy_command_explains_itself() {
    let home = Home::empty();
    for verb in [
        "list", "check", "explain", "record", "replay", "show", "test",
    ] {
        let arguments = ["policy", verb, "--help"];
        assert_cmd_snapshot!(format!("help_policy_{verb}"), home.command(arguments));
    }
}

#[test]
fn every_command_of_config_of_key_of_fleet_of_engine_and_of_service_explains_itself() {
    let home = Home::empty();
    for (verb, words) in [
        ("config", &["path", "edit", "schema"][..]),
        ("key", &["add", "list", "remove"]),
        ("fleet", &["status", "drain", "undrain", "config"]),
        ("engine", &["list", "check", "show", "test"]),
        (
            "service",
            &["install", "uninstall", "start", "stop", "status", "logs"],
        ),
    ] {
        for word in words {
            let arguments = [verb, word, "--help"];
            assert_cmd_snapshot!(format!("help_{verb}_{word}"), home.command(arguments));
        }
    }
}

#[test]
fn the_version_is_that_of_the_package() {
    let output = Home::empty().command(["--version"]).output().unwrap();
    let version = concat!("mlx-openai-server-hub ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
    let output = Home::empty().command(["version"]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}

#[test]
fn no_mistyped_command_is_answered_with_one_that_ends_something() {
    let home = Home::empty();
    let told = [
        "show",
        "log",
        "shutdwon",
        "stpo",
        "stp-model",
        "statsu",
        "lod",
        "quit",
    ]
    .map(|typed| {
        let output = home.command([typed]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{typed}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        let tip = stderr.lines().find(|line| line.contains("similar"));
        format!("{typed}:{}", tip.unwrap_or_default())
    });
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_model_verb_without_a_name_is_a_usage_error_that_names_what_is_missing() {
    let home = Home::empty();
    for verb in [
        "start-model",
        "stop-model",
        "load-model",
        "load",
        "unload-model",
        "unload",
    ] {
        let output = home.command([verb]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("MODEL_NAMES"), "{verb}: {stderr}");
    }
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    let home = Home::empty();
    for arguments in [
        &["nosuchcommand"][..],
        &["--nosuchflag"],
        &["watch", "--interval", "soon"],
        &["stop", "now"],
    ] {
        let output = home.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
