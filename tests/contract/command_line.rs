//! Section 3: the command line, against a real hub.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::Home;
use crate::home::{JIT, Ran, ran};
use crate::support::{SOON, processes, wait_until};

/// A JIT model that can stay up unloaded, a default one, a plain one, and one that cannot load.
fn four() -> String {
    format!(
        "groups: [{{name: small}}]\n\
         models:\n\
         - {{name: a, model_path: org/a, jit_enabled: true, auto_unload_minutes: 5, group: small, \
            worker_command: {JIT}}}\n\
         - {{name: b, model_path: org/b, default: true}}\n\
         - {{name: c, model_path: org/c}}\n\
         - {{name: d, model_path: org/d, env: {{STUB_FAIL_LOAD: 'true'}}}}\n"
    )
}

fn table(ran: &Ran) -> Vec<Vec<String>> {
    let lines = ran.lines();
    let header = lines
        .iter()
        .position(|line| line.trim_start().starts_with("NAME "));
    let rows = lines[header.expect("a table")..].iter();
    rows.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn row(ran: &Ran, name: &str) -> Vec<String> {
    let rows = table(ran);
    let row = rows.into_iter().find(|row| row[0] == name);
    row.unwrap_or_else(|| panic!("no row `{name}` in {ran:?}"))
}

#[test]
fn start_prints_the_default_models_the_page_the_logs_and_the_table() {
    let home = Home::with(&four());
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
    let of_default = lines.iter().filter(|line| line.contains("b: "));
    let of_default: Vec<_> = of_default.collect();
    assert_eq!(of_default.len(), 1, "{again:?}");
    assert!(of_default[0].starts_with("[ok] b"), "{again:?}");
    assert!(lines.iter().any(|line| line.starts_with("Browse to ")));
    assert_eq!(table(&again).len(), 2 + 1);
    assert_eq!(row(&again, "b")[2], "yes");
}

#[test]
fn a_default_model_has_an_ok_or_err_line_whatever_it_does_and_start_still_succeeds() {
    let home = Home::with(
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
    let home = Home::with(
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
    let home = Home::with(
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
    let home = Home::with(&four());
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
    let home = Home::with("models: [{name: a, model_path: org/a}]\n");
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
        let home = Home::with(&four());
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
fn reload_prints_one_line_with_names_or_none() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    let unchanged = home.run(&["reload"]);
    assert_eq!(
        unchanged.assert_ok().out,
        "[info] Hub reload complete: started=none | stopped=none | unchanged=a, b, c, d\n"
    );
    home.configure(
        "models:\n\
         - {name: e, model_path: org/e, default: true}\n\
         - {name: f, model_path: org/f, default: true}\n\
         - {name: b, model_path: org/b, default: true}\n",
    );
    let changed = home.run(&["reload"]);
    assert_eq!(
        changed.assert_ok().out,
        "[ok] Hub reload complete: started=e, f | stopped=a, c, d | unchanged=b\n"
    );
}

#[test]
fn a_model_verb_returns_at_the_final_state() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    let state = |process: &str, memory: &str| (process.to_owned(), memory.to_owned());
    let (up, ready, off) = (
        state("running", "loaded"),
        state("running", "unloaded"),
        state("stopped", "unloaded"),
    );
    for (arguments, line, states) in [
        (["start-model", "a"], "[ok] a: started", &ready),
        (["start-model", "a"], "[ok] a: already started", &ready),
        (["load-model", "a"], "[ok] a: loaded", &up),
        (["load", "a"], "[ok] a: already loaded", &up),
        (["unload-model", "a"], "[ok] a: unloaded", &ready),
        (["unload", "a"], "[ok] a: already unloaded", &ready),
        (["load", "a"], "[ok] a: loaded", &up),
        (["stop-model", "a"], "[ok] a: stopped", &off),
        (["stop-model", "a"], "[ok] a: already stopped", &off),
    ] {
        let ran = home.run(&arguments);
        assert_eq!(ran.assert_ok().lines(), [line]);
        assert_eq!(&home.states("a"), states, "{arguments:?}");
    }
}

#[test]
fn each_name_gets_its_line_and_any_failure_is_exit_1() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    for (verb, done) in [
        ("start-model", "[ok] a: started"),
        ("load-model", "[ok] a: loaded"),
        ("unload-model", "[ok] a: unloaded"),
        ("stop-model", "[ok] a: stopped"),
    ] {
        let ran = home.run(&[verb, "a", "nosuch", "  "]);
        let lines = ran.assert_failed().lines();
        assert_eq!(lines.len(), 3, "{ran:?}");
        assert_eq!(lines[0], done);
        assert!(lines[1].starts_with("[err] nosuch: "), "{ran:?}");
        assert_eq!(lines[2], "[warn] Skipping blank model name entry");
    }
    let failed = home.run(&["start-model", "d", "c"]);
    let lines = failed.assert_failed().lines();
    assert!(lines[0].starts_with("[err] d: "), "{failed:?}");
    assert!(
        failed.out.contains("Failed to load model"),
        "why: {failed:?}"
    );
    failed.assert_line("[ok] c: started");
    let not_started = home.run(&["load-model", "a"]);
    assert!(
        not_started.assert_failed().out.contains("start"),
        "{not_started:?}"
    );
}

#[test]
fn start_model_and_stop_model_reload_first() {
    let home = Home::started(&four());
    let more = format!("{}- {{name: e, model_path: org/e}}\n", four());
    home.configure(&more);
    home.run(&["start-model", "e"])
        .assert_ok()
        .assert_line("[ok] e: started");
    home.configure(&four());
    let gone = home.run(&["stop-model", "e"]);
    assert!(gone.assert_failed().out.contains("[err] e: "), "{gone:?}");
    assert_eq!(home.status()["counts"]["registered"], 4);
}

#[test]
fn stop_returns_when_all_processes_are_gone() {
    for verb in ["stop", "shutdown"] {
        let home = Home::started(&four());
        home.wait_for_state("b", "running", "loaded");
        assert_eq!(home.worker_processes().len(), 3);
        let stopped = home.run(&[verb]);
        assert!(!home.is_running(), "{verb}");
        home.assert_no_workers();
        stopped
            .assert_ok()
            .assert_line("[ok] Hub manager shutdown requested");
        let again = home.run(&[verb]);
        let nothing = "[info] Hub manager is not running; nothing to stop\n";
        assert_eq!(again.assert_ok().out, nothing);
    }
}

#[test]
fn stop_reloads_first_and_starts_nothing() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    let more = format!(
        "{}- {{name: e, model_path: org/e, default: true}}\n",
        four()
    );
    home.configure(&more);
    home.run(&["stop"]).assert_ok();
    assert_eq!(home.record.count("start", "e"), 0);
    assert!(home.app_log().contains("hub.yaml read again"));
}

#[test]
fn stop_works_with_a_broken_or_missing_hub_yaml_and_warns() {
    for broken in [Some("models: [\n"), Some("models: []\n"), None] {
        let home = Home::started(&four());
        match broken {
            Some(text) => home.write(text),
            None => std::fs::remove_file(home.config()).unwrap(),
        }
        for verb in [&["status"][..], &["reload"], &["start"], &["load", "b"]] {
            let refused = home.run(verb);
            assert!(
                refused.assert_failed().err.starts_with("Error: "),
                "{refused:?}"
            );
        }
        let stopped = home.run(&["stop"]);
        let lines = stopped.assert_ok().lines();
        assert!(lines[0].starts_with("[warn] "), "{stopped:?}");
        assert!(!home.is_running(), "{broken:?}");
    }
}

#[test]
fn a_command_needs_no_hub_to_say_how_to_start_one() {
    let home = Home::with(&four());
    for verb in [
        "reload",
        "start-model",
        "stop-model",
        "load-model",
        "unload-model",
    ] {
        let arguments = if verb == "reload" {
            &[verb][..]
        } else {
            &[verb, "a"]
        };
        let error = home.run(arguments).assert_failed().err.clone();
        assert!(error.contains("not running"), "{verb}: {error}");
        assert!(
            error.contains("mlx-openai-server-hub start"),
            "{verb}: {error}"
        );
    }
}

#[test]
fn watch_shows_the_processes_until_ctrl_c() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    home.act("d", "start");
    let mut watch = home
        .command(&["watch", "--interval", "0.5"])
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
        .command(&["watch", "--interval", "0.5"])
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
    let home = Home::with(&four());
    let plain = home.run(&["status"]);
    assert!(!plain.out.contains('\x1b'), "{plain:?}");
    let on_terminal = |variable: &str| {
        let mut command = std::process::Command::new("script");
        let inner = home.command(&["status"]);
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

#[test]
fn a_daemon_that_dies_at_its_start_ends_the_wait_and_names_the_logs() {
    let home = Home::with(&format!(
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
