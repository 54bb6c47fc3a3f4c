//! `start` and `serve`.

use std::io::{BufRead as _, BufReader};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{four, row, table};
use crate::Home;
use crate::home::Ran;
use crate::support::{SOON, processes, wait_until};

#[test]
fn start_prints_the_default_models_the_page_the_logs_and_the_table() {
    let home = Home::with_stub(&four());
    let started = home.start();
    let port = home.port;
    started
        .assert_line("Starting hub manager...")
        .assert_line(&format!(
            "Hub manager process started (PID: {})",
            home.pid()
        ))
        .assert_line("Hub manager is now running.")
        .assert_line("[ok] b: start requested")
        .assert_line("Status page enabled: yes")
        .assert_line(&format!(
            "Browse to http://127.0.0.1:{port}/hub for the status dashboard"
        ))
        .assert_line(&format!("Hub log path: {}", home.logs().display()));
    assert_eq!(started.err, "");
    let rows = table(&started);
    let header = "NAME STATE LOADED AUTO-UNLOAD TYPE GROUP DEFAULT MODEL";
    assert_eq!(rows[0].join(" "), header);
    assert_eq!(rows.len(), 2 + 4, "header, rule, models");
    assert!(
        ["starting", "running"]
            .iter()
            .any(|word| row(&started, "b")[1].starts_with(word))
    );
    assert_eq!(
        row(&started, "a").join(" "),
        "a inactive no 5min lm small - org/a"
    );
}

#[test]
fn start_puts_the_daemon_into_a_session_of_its_own() {
    let home = Home::started(&four());
    let pid = home.pid();
    assert_eq!(
        nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid.try_into().unwrap()))),
        Ok(nix::unistd::Pid::from_raw(pid.try_into().unwrap()))
    );
}

#[test]
fn start_of_a_running_hub_says_so_and_prints_the_same_for_the_named_models() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    let again = home.run(&["start", "b"]);
    let lines = again.assert_ok().lines();
    assert_eq!(
        lines[0],
        format!(
            "[info] Hub manager is already running (PID: {})",
            home.pid()
        )
    );
    let of_default = lines
        .iter()
        .filter(|line| line.starts_with('[') && line.contains("b: "));
    let of_default: Vec<_> = of_default.collect();
    assert_eq!(of_default.len(), 1, "{again:?}");
    assert!(of_default[0].starts_with("[ok] b"), "{again:?}");
    assert!(lines.iter().any(|line| line.starts_with("Browse to ")));
    assert_eq!(table(&again).len(), 2 + 1);
    assert_eq!(row(&again, "b")[2], "yes");
    home.run(&["start", "nosuch"])
        .assert_ok()
        .assert_line("No matching models in hub config");
}

#[test]
fn a_default_model_has_an_ok_or_err_line_whatever_it_does_and_start_still_succeeds() {
    let home = Home::with_stub(
        "models:\n\
         - {name: good, model_path: org/good, default: true}\n\
         - {name: bad, model_path: org/bad, default: true, env: {STUB_FAIL_LOAD: 'true'}}\n",
    );
    home.start();
    home.wait_for_state("bad", "failed", "failed");
    home.wait_for_state("good", "running", "loaded");
    let again = home.run(&["start"]);
    let lines = again.assert_ok().lines();
    assert!(
        lines.iter().any(|line| line.starts_with("[ok] good")),
        "{again:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("[err] bad")),
        "{again:?}"
    );
    home.done("good", "stop");
    let again = home.run(&["start"]);
    let of_good = again
        .lines()
        .into_iter()
        .filter(|line| line.contains("] good: "));
    assert_eq!(of_good.collect::<Vec<_>>(), ["[ok] good: stopped"]);
}

#[test]
fn a_default_model_over_the_cap_has_an_err_line_that_names_the_group() {
    let home = Home::with_stub(
        "groups: [{name: g, max_loaded: 1}]\n\
         models:\n\
         - {name: first, model_path: org/first, default: true, group: g}\n\
         - {name: second, model_path: org/second, default: true, group: g}\n",
    );
    let new = home.start();
    home.wait_for_state("first", "running", "loaded");
    for started in [new, home.run(&["start"])] {
        let lines = started.assert_ok().lines();
        assert!(
            lines.iter().any(|line| line.starts_with("[ok] first: ")),
            "{started:?}"
        );
        let refused = lines.iter().find(|line| line.starts_with("[err] second: "));
        assert!(
            refused.is_some_and(|line| line.contains("`g`")),
            "{started:?}"
        );
    }
    assert_eq!(
        home.states("second"),
        ("inactive".into(), "unloaded".into())
    );
    assert!(
        home.app_log().contains("not started: Group `g`"),
        "{}",
        home.app_log()
    );
}

#[test]
fn the_default_models_are_starting_by_the_first_healthy_answer() {
    let home = Home::with_stub(
        "models: [{name: slow, model_path: org/slow, default: true, env: {STUB_LOAD_SECONDS: '60'}}]\n",
    );
    let started = home.start();
    assert_eq!(
        row(&started, "slow")[1],
        "starting",
        "start does not wait for loads"
    );
    assert_eq!(home.states("slow"), ("starting".into(), "loading".into()));
}

#[test]
fn start_on_the_port_of_a_stranger_fails_at_once() {
    let home = Home::with_stub(&four());
    let stranger = std::net::TcpListener::bind(("127.0.0.1", home.port)).unwrap();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = stranger.accept().unwrap();
        let mut line = String::new();
        BufReader::new(connection.try_clone().unwrap())
            .read_line(&mut line)
            .unwrap();
        // What an mlx-openai-server of one model says.
        let body = r#"{"status":"ok","model_id":"m","model_status":"initialized"}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        std::io::Write::write_all(&mut connection, (head + body).as_bytes()).unwrap();
    });
    let refused = home.run(&["start"]);
    server.join().unwrap();
    let error = &refused.assert_failed().err;
    assert!(error.starts_with("Error: "), "{error}");
    assert!(error.contains(&home.port.to_string()), "{error}");
    assert!(!home.logs().exists(), "nothing was started");
}

#[test]
fn a_hub_on_all_addresses_is_shown_as_localhost_and_called_open() {
    let home = Home::with_stub("models: [{name: a, model_path: org/a}]\n");
    let (port, first) = (home.port, home.port + 1);
    let models = "models: [{name: a, model_path: org/a}]";
    home.write(&format!(
        "port: {port}\nmodel_starting_port: {first}\n{models}\n"
    ));
    let started = home.start();
    started.assert_line(&format!(
        "Browse to http://localhost:{port}/hub for the status dashboard"
    ));
    let open = started
        .lines()
        .into_iter()
        .filter(|line| line.contains("open to the network"));
    assert_eq!(open.count(), 1, "{started:?}");
    assert!(
        started.out.contains("host: 127.0.0.1"),
        "how to close it: {started:?}"
    );
    assert_eq!(home.status()["host"], "0.0.0.0");
}

#[test]
fn serve_runs_in_the_foreground_until_a_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::with_stub(&four());
        let mut daemon = home.serve();
        home.wait_for_state("b", "running", "loaded");
        assert!(home.runtime_file().exists());
        processes::send(home.pid(), signal);
        assert!(daemon.wait().unwrap().success(), "{signal}");
        assert!(!home.runtime_file().exists());
        home.assert_no_workers();
    }
}

#[test]
fn a_daemon_that_dies_at_its_start_ends_the_wait_and_names_the_logs() {
    let home = Home::with_stub(&format!(
        "models: [{{name: a, model_path: org/a, port: {}}}]\n",
        processes::ports()
    ));
    let text = std::fs::read_to_string(home.config()).unwrap();
    let port = text
        .rsplit_once("port: ")
        .unwrap()
        .1
        .split('}')
        .next()
        .unwrap();
    let port: u16 = port.parse().unwrap();
    let _holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let begun = tokio::time::Instant::now();
    let failed = home.run(&["start"]);
    let error = &failed.assert_failed().err;
    assert!(begun.elapsed() < SOON, "at once");
    for part in ["`a`", &port.to_string(), "app.stderr.log", "app.log"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    wait_until("no hub", SOON, || home.http.try_get("/health").is_err());
    assert!(!home.runtime_file().exists());
}

#[test]
fn of_several_starts_at_once_one_starts_the_hub_and_all_name_it() {
    let home = Home::with_stub(&four());
    let ran: Vec<_> = std::thread::scope(|scope| {
        let starts = [(); 4].map(|()| scope.spawn(|| home.run(&["start"])));
        starts.map(|start| start.join().unwrap()).into()
    });
    let runtime: Value =
        serde_json::from_slice(&std::fs::read(home.runtime_file()).unwrap()).unwrap();
    let daemon = &runtime["pid"];
    let line = |what: &str| format!("Hub manager {what} (PID: {daemon})");
    let (own, other) = (line("process started"), line("is already running"));
    let own_lines = |ran: &&Ran| ran.lines().contains(&own.as_str());
    for ran in &ran {
        let named = ran.assert_ok().out.matches("(PID: ").count();
        assert_eq!(named, 1, "{ran:?}");
        assert!(
            ran.out.contains(&own) || ran.out.contains(&other),
            "{ran:?}"
        );
    }
    assert_eq!(ran.iter().filter(own_lines).count(), 1, "{ran:?}");
    home.run(&["stop"]).assert_ok();
}
