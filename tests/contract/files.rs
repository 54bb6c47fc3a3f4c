//! Section 1: files and defaults.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::Home;
use crate::home::JIT;
use crate::support::{SOON, processes, wait_until};

const ONE: &str = "models: [{name: alpha, model_path: org/alpha, default: true}]\n";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn the_base_folder_holds_configuration_and_logs() {
    let home = Home::started(ONE);
    home.wait_for_state("alpha", "running", "loaded");
    for file in ["app.log", "alpha.log", "hub_runtime.json"] {
        assert!(home.logs().join(file).is_file(), "{file}");
    }
    let log = home.logs().join("alpha.log").display().to_string();
    assert_eq!(home.model("alpha")["log_path"], log);
}

#[test]
fn log_path_is_created_with_parents_wherever_it_is_said_to_be() {
    for (text, place) in [
        ("~/deep/er/logs", "deep/er/logs"),
        ("beside/hub", "mlx-openai-server-hub/beside/hub"),
    ] {
        let home = Home::started(&format!("log_path: {text}\n{ONE}"));
        let place = home.path().join(place);
        assert!(place.join("app.log").is_file(), "{text}");
        home.run(&["status"])
            .assert_ok()
            .assert_line(&format!("Hub log path: {}", place.display()));
        assert!(!home.logs().exists(), "{text}: only there");
    }
}

#[test]
fn another_configuration_is_named_by_flag_or_variable() {
    let home = Home::with_stub(ONE);
    let other = home.path().join("other.yaml");
    std::fs::rename(home.config(), &other).unwrap();
    home.run(&["start"]).assert_failed();
    home.start_with(&["--config", "other.yaml"], |_| {});
    for path in ["other.yaml", "~/other.yaml", other.to_str().unwrap()] {
        let by_flag = home.run(&["--config", path, "status"]);
        let mut command = home.command(["status"]);
        let by_variable = crate::home::ran(command.env("MLX_HUB_CONFIG_PATH", path));
        for ran in [by_flag, by_variable] {
            assert!(!ran.assert_ok().out.contains("not running"), "{ran:?}");
            assert!(ran.out.contains("alpha"), "{ran:?}");
        }
    }
    home.run(&["--config", "other.yaml", "stop"]).assert_ok();
    home.start_with(&[], |command| {
        command.env("MLX_HUB_CONFIG_PATH", "~/other.yaml");
    });
    assert_eq!(home.status()["models"][0]["id"], "alpha");
}

#[test]
fn app_log_has_level_time_message_and_the_model_with_its_group() {
    let home = Home::started(
        "groups: [{name: small}]\n\
         models: [{name: alpha, model_path: org/alpha, group: small, default: true}]\n",
    );
    home.wait_for_state("alpha", "running", "loaded");
    home.run(&["stop"]).assert_ok();
    let log = home.app_log();
    let line = log
        .lines()
        .find(|line| line.contains("process running"))
        .unwrap();
    let time = line.split_whitespace().next().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
    for part in ["INFO", "hub_model=alpha", "hub_group=\"small\""] {
        assert!(line.contains(part), "{part}: {line}");
    }
}

#[test]
fn app_log_tells_a_failure_in_one_line() {
    let home = Home::started(&format!(
        "models:\n\
         - {{name: classic, model_path: org/classic, env: {{STUB_FAIL_LOAD: 'true'}}}}\n\
         - {{name: jit, model_path: org/jit, jit_enabled: true, worker_command: {JIT}, \
            env: {{STUB_FAIL_LOAD: 'true'}}}}\n"
    ));
    home.done("jit", "start");
    assert_eq!(home.act("classic", "start").status, 503);
    assert_eq!(home.act("jit", "load").status, 503);
    home.run(&["stop"]).assert_ok();
    let log = home.app_log();
    for (model, state) in [("classic", "process failed: "), ("jit", "memory failed: ")] {
        let line = log.lines().find(|line| line.contains(state));
        let line = line.unwrap_or_else(|| panic!("no `{state}` in {log}"));
        for part in [
            "ERROR",
            &format!("hub_model={model}"),
            "Failed to load model",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}

#[test]
fn a_worker_writes_to_its_log_file_or_to_one_that_the_status_does_not_name() {
    let home = Home::started(
        "models:\n\
         - {name: plain, model_path: org/plain, default: true}\n\
         - {name: elsewhere, model_path: org/elsewhere, default: true, log_file: ~/own/it.log}\n\
         - {name: private, model_path: org/private, default: true, no_log_file: true}\n",
    );
    for name in ["plain", "elsewhere", "private"] {
        home.wait_for_state(name, "running", "loaded");
    }
    let own = home.path().join("own/it.log");
    for (name, log) in [("plain", home.logs().join("plain.log")), ("elsewhere", own)] {
        assert_eq!(home.model(name)["log_path"], log.display().to_string());
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains(&format!("org/{name}")), "{text}");
        assert_eq!(mode(&log), 0o600, "{name}");
    }
    assert_eq!(home.model("private")["log_path"], json!(null));
    assert!(!home.logs().join("private.log").exists());
    assert!(!home.logs().join("elsewhere.log").exists());
}

#[test]
fn a_workers_log_is_bounded_while_it_runs() {
    let home = Home::started(
        "worker_log_max_mb: 1\n\
         models:\n\
         - {name: alpha, model_path: org/alpha, default: true}\n",
    );
    home.wait_for_state("alpha", "running", "loaded");
    let log = home.logs().join("alpha.log");
    std::fs::write(&log, vec![b'x'; 3 << 20]).unwrap();
    let older = home.logs().join("alpha.log.1");
    wait_until("the log to be emptied", SOON, || {
        log.metadata().unwrap().len() < 1 << 20
    });
    assert_eq!(older.metadata().unwrap().len(), 1 << 20);
    assert_eq!(mode(&older), 0o600);
    home.done("alpha", "unload");
    assert!(log.exists());
}

#[test]
fn the_runtime_file_says_who_and_where_and_goes_with_a_clean_stop() {
    let home = Home::started(ONE);
    let text = std::fs::read_to_string(home.runtime_file()).unwrap();
    let runtime: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(runtime["pid"], home.pid());
    assert_eq!(runtime["host"], "127.0.0.1");
    assert_eq!(runtime["port"], home.port);
    let started_at = runtime["started_at"].as_str().unwrap();
    let time: jiff::Timestamp = started_at.parse().unwrap();
    assert!(started_at.ends_with("+00:00"), "{started_at}");
    let age = jiff::Timestamp::now().duration_since(time);
    assert!(age.unsigned_abs().as_secs() < 60, "{started_at}");
    home.run(&["stop"]).assert_ok();
    assert!(!home.runtime_file().exists());
}

#[test]
fn commands_find_the_daemon_by_its_runtime_file_before_they_look_at_hub_yaml() {
    let home = Home::started(ONE);
    let nowhere = processes::ports();
    home.write(&format!("host: 127.0.0.1\nport: {nowhere}\n{ONE}"));
    let status = home.run(&["status"]);
    assert!(
        !status.assert_ok().out.contains("not running"),
        "{status:?}"
    );
    home.run(&["stop-model", "alpha"])
        .assert_ok()
        .assert_line("[ok] alpha: stopped");
    home.run(&["stop"]).assert_ok();
    home.wait_for_end();
}

#[test]
fn a_stale_runtime_file_means_no_daemon() {
    let home = Home::with_stub(ONE);
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::process::Command::new("true").spawn().unwrap();
    let dead = gone.id();
    gone.wait_with_output().unwrap();
    let theirs = stranger.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // A program that is there and is no hub.
        for connection in stranger.incoming() {
            drop(connection);
        }
    });
    for (pid, port) in [
        (dead, home.port),
        (std::process::id(), home.port),
        (std::process::id(), theirs),
    ] {
        std::fs::create_dir_all(home.logs()).unwrap();
        let stale = json!({"pid": pid, "host": "127.0.0.1", "port": port,
            "started_at": "2026-11-22T00:16:37+00:00"});
        std::fs::write(home.runtime_file(), stale.to_string()).unwrap();
        home.run(&["status"])
            .assert_ok()
            .assert_line("[warn] Hub daemon is not running");
        home.run(&["stop"])
            .assert_ok()
            .assert_line("[info] Hub manager is not running; nothing to stop");
        home.start();
        assert_eq!(home.run(&["stop"]).code, 0);
    }
}

#[test]
fn logs_and_runtime_state_are_for_their_owner_also_those_that_were_there_before() {
    let home = Home::with_stub(
        "models:\n\
         - {name: alpha, model_path: org/alpha, default: true}\n\
         - {name: beta, model_path: org/beta, default: true, no_log_file: true}\n",
    );
    std::fs::create_dir(home.logs()).unwrap();
    for file in ["app.log", "alpha.log"] {
        let path = home.logs().join(file);
        std::fs::write(&path, "from Create-hub\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    home.start();
    home.wait_for_state("alpha", "running", "loaded");
    home.wait_for_state("beta", "running", "loaded");
    let mut seen = 0;
    for entry in std::fs::read_dir(home.logs()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "two workers' logs, the hub's, the runtime file");
}

#[test]
fn user_policies_are_the_lua_files_beside_hub_yaml() {
    let home = Home::with_stub(ONE);
    let refuse = |with: &str| {
        format!(
            "return {{ on_request = function(req, hub) \
             return hub.reject({{status = 418, message = {with}}}) end }}\n"
        )
    };
    let write = |name: &str, text: &str| {
        let path = home.base().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("a_test.lua", &refuse("'a test'"));
    write("_draft.lua", &refuse("'a draft'"));
    write("words/greeting.lua", "return 'a teapot'\n");
    let policy = format!(
        "local words = require('words.greeting')\n{}",
        refuse("words")
    );
    write("policy.lua", &policy);
    home.start();
    let answer = home.http.chat("alpha", "hello");
    assert_eq!(answer.status, 418, "{}", answer.text());
    assert_eq!(answer.json()["error"]["message"], "a teapot");
    assert_eq!(home.warnings(), "");
}
