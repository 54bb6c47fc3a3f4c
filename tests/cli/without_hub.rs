//! No daemon: what each command says then, and what keeps `start` from starting one.

use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use insta_cmd::assert_cmd_snapshot;
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, write_runtime_file};
use crate::home_of_four;
use crate::support::home::Home;

/// A port that nobody listens on.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn status_shows_the_configured_models_as_inactive() {
    let port = free_port();
    let home = home_of_four(port);
    let _filters = home.filters(port);
    assert_cmd_snapshot!(home.command(["status"]));
}

#[test]
fn status_of_an_unknown_model_is_no_error() {
    let port = free_port();
    let home = home_of_four(port);
    let _filters = home.filters(port);
    assert_cmd_snapshot!(home.command(["status", "zzz"]));
}

#[test]
fn status_can_be_read_by_programs() {
    let home = home_of_four(free_port());
    let output = home.command(["status", "--json"]).output().unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status["controller_available"], false);
    assert_eq!(status["models"][0]["id"], "c");
    assert_eq!(status["models"][0]["metadata"]["process_state"], "inactive");
}

#[test]
fn a_runtime_file_that_leads_nowhere_is_no_daemon() {
    let port = free_port();
    let home = home_of_four(port);
    // The process lives, the port answers, and still it is no hub.
    let stranger = FakeHub::serve(Box::new(|_| Some((200, json!({"status": "ok"})))));
    write_runtime_file(&home.logs(), stranger.port(), std::process::id(), &[]);
    let output = home.command(["status"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.starts_with("[warn] Hub daemon is not running\n"),
        "{stdout}"
    );
}

#[test]
fn stop_has_nothing_to_do() {
    let home = home_of_four(free_port());
    for verb in ["stop", "shutdown"] {
        let output = home.command([verb]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "[info] Hub manager is not running; nothing to stop\n"
        );
    }
}

#[test]
fn commands_that_need_a_daemon_say_how_to_start_it() {
    let home = home_of_four(free_port());
    for arguments in [
        &["reload"][..],
        &["start-model", "a"],
        &["stop-model", "a"],
        &["load-model", "a"],
        &["load", "a"],
        &["unload-model", "a"],
        &["unload", "a"],
        &["policy", "explain", "a"],
    ] {
        let output = home.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "Error: Hub daemon is not running. Start it with 'mlx-openai-server-hub start'.\n"
        );
    }
}

#[test]
fn watch_keeps_looking_until_it_is_interrupted() {
    let home = home_of_four(free_port());
    let mut watch = home
        .command(["watch", "--interval", "0.5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = watch.stdout.take().unwrap();
    let not_running = "Hub daemon is not running. Start it with 'mlx-openai-server-hub start'.\n";
    let expected =
        format!("Watching hub manager (press Ctrl+C to stop)...\n{not_running}{not_running}");
    let mut text = vec![0; expected.len()];
    stdout.read_exact(&mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), expected);

    let pid = nix::unistd::Pid::from_raw(i32::try_from(watch.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "Stopped watching hub manager\n");
}

#[test]
fn a_broken_configuration_fails_every_command_but_stop() {
    let home = Home::empty();
    home.write("port: 8000\nmodels: [\n");
    let begin = format!("Error: {}:", home.config().display());
    for arguments in [
        &[][..],
        &["check"],
        &["start"],
        &["serve"],
        &["status"],
        &["reload"],
        &["start-model", "a"],
        &["stop-model", "a"],
        &["load-model", "a"],
        &["unload-model", "a"],
        &["watch"],
        &["policy", "list"],
        &["policy", "check"],
        &["policy", "explain"],
    ] {
        let output = home.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(output.stdout, b"", "{arguments:?}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with(&begin), "{arguments:?}: {stderr}");
    }
    let output = home.command(["stop"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_flag_names_another_configuration_and_wins_over_the_environment() {
    let home = home_of_four(free_port());
    let one = home.path().join("one.yaml");
    let other = home.path().join("other.yaml");
    for (path, name) in [(&one, "from-flag"), (&other, "from-environment")] {
        let port = free_port();
        let text = format!("port: {port}\nmodels: [{{name: {name}, model_path: org/m}}]\n");
        std::fs::write(path, text).unwrap();
    }
    let status = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("MLX_HUB_CONFIG_PATH", &other);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(status(&["status"]).contains("from-environment"));
    assert!(status(&["--config", "one.yaml", "status"]).contains("from-flag"));
    assert!(status(&["status", "--config", "~/one.yaml"]).contains("from-flag"));
}

#[test]
fn start_without_the_worker_program_says_how_to_install_it() {
    let port = free_port();
    let home = home_of_four(port);
    let _filters = home.filters(port);
    assert_cmd_snapshot!(home.command(["start"]));
    assert!(!home.logs().exists(), "something was started");
}

#[test]
fn start_refuses_a_port_that_another_server_holds() {
    let server = FakeHub::serve(Box::new(|_| None));
    let home = home_of_four(server.port());
    let _filters = home.filters(server.port());
    assert_cmd_snapshot!(home.command(["start"]));
    assert!(!home.logs().exists(), "something was started");
}

#[test]
fn start_refuses_a_port_whose_holder_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let home = home_of_four(port);
    let _filters = home.filters(port);
    assert_cmd_snapshot!(home.command(["start"]));
}

#[test]
fn a_daemon_that_ends_at_its_start_is_an_error_that_names_the_logs() {
    let home = Home::empty();
    // An address of nobody's: TEST-NET-1, RFC 5737.
    home.write("host: 192.0.2.1\nport: 8000\nmodels: [{name: a, model_path: org/a}]\n");
    let worker = home.bin().join("mlx-openai-server");
    std::fs::write(&worker, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&worker, std::fs::Permissions::from_mode(0o755)).unwrap();

    let output = home.command(["start"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.starts_with("Error: the hub ended at its start"),
        "{stderr}"
    );
    let log = home.logs().join("app.stderr.log");
    assert!(stderr.contains(&log.display().to_string()), "{stderr}");
    // Why it ended stands in the log, and the error repeats it.
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.starts_with("Error: "), "{said}");
    assert!(stderr.contains(said.lines().next().unwrap()), "{stderr}");
    assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}
