//! A daemon that answers from a table: what each command asks of it and how it shows the answer.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use insta_cmd::assert_cmd_snapshot;
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, error, status, write_runtime_file};
use crate::home_of_four;
use crate::support::home::Home;

/// A hub whose answers to `GET /hub/status` are [`status`], and its home.
pub(crate) fn hub(
    answers: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static,
) -> (FakeHub, Home) {
    let hub = FakeHub::start(move |request| match request {
        "GET /hub/status" => Some((200, status(8124))),
        _ => answers(request),
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    hub.write_runtime_file(&home.logs(), std::process::id(), &[]);
    (hub, home)
}

fn reloaded() -> (u16, Value) {
    (
        200,
        json!({"started": [], "stopped": [], "unchanged": ["a", "b"]}),
    )
}

pub(crate) fn done(action: &str, model: &str, message: &str) -> (u16, Value) {
    (
        200,
        json!({"status": "ok", "action": action, "model": model, "message": message}),
    )
}

#[test]
fn status_shows_what_the_daemon_says() {
    let (hub, home) = hub(|_| None);
    let _filters = home.filters(hub.port());
    assert_cmd_snapshot!(home.command(["status"]));
}

#[test]
fn status_is_limited_to_the_named_models() {
    let (hub, home) = hub(|_| None);
    let _filters = home.filters(hub.port());
    assert_cmd_snapshot!(home.command(["status", "a", "d", "zzz"]));
}

#[test]
fn status_and_start_say_what_a_name_may_have_meant_and_how_to_start_a_model() {
    let (_hub, home) = hub(|_| None);
    let unknown = "[warn] zzz: the hub has no such model\n  hint: there are: ";
    for command in ["status", "start"] {
        let told = home.run(&[command, "zzz"]).assert_ok().out.clone();
        assert!(
            told.contains("No matching models in hub config\n"),
            "{told}"
        );
        assert!(told.contains(unknown), "{told}");
    }
    let how = "[info] d: not started; `mlx-openai-server-hub start-model d` starts it";
    home.run(&["start", "d"]).assert_ok().assert_line(how);
    let all = home.run(&["start"]).assert_ok().out.clone();
    assert!(!all.contains("not started"), "{all}");
}

#[test]
fn status_finds_the_daemon_by_its_runtime_file() {
    let (hub, home) = hub(|_| None);
    // Since the daemon started, hub.yaml was given another port.
    home.write("host: 127.0.0.1\nport: 1\nmodels: [{name: a, model_path: org/a}]\n");
    let output = home.command(["status"]).output().unwrap();
    assert_eq!(hub.requests(), ["GET /hub/status"]);
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("pid=4321")
    );
}

#[test]
fn status_finds_a_daemon_that_lost_its_runtime_file() {
    let (hub, home) = hub(|_| None);
    std::fs::remove_dir_all(home.logs()).unwrap();
    home.command(["status"]).output().unwrap();
    assert_eq!(hub.requests(), ["GET /hub/status"]);
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let (_hub, home) = hub(|_| None);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = home
        .command(["status"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}

#[test]
fn start_shows_a_hub_that_runs_already() {
    let (hub, home) = hub(|_| None);
    let _filters = home.filters(hub.port());
    assert_cmd_snapshot!(home.command(["start", "b"]));
    assert_eq!(hub.requests(), ["GET /hub/status"]);
}

#[test]
fn no_command_means_start() {
    let (_hub, home) = hub(|_| None);
    let start = home.command(["start"]).output().unwrap();
    let bare = home.command([]).output().unwrap();
    assert_eq!(start, bare);
    assert_eq!(bare.status.code(), Some(0));
}

#[test]
fn start_says_so_when_the_control_api_is_open_to_the_network() {
    let hub = FakeHub::start(|_| {
        let mut status = status(8124);
        status["host"] = json!("0.0.0.0");
        Some((200, status))
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let output = home.command(["start"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        stdout.contains("Browse to http://localhost:8124/hub for"),
        "{stdout}"
    );
    let notices: Vec<_> = stdout
        .lines()
        .filter(|line| line.contains("open to the network"))
        .collect();
    assert_eq!(notices.len(), 1, "{stdout}");
    assert!(notices[0].contains("host: 127.0.0.1"), "{stdout}");
}

#[test]
fn a_page_that_is_switched_off_is_not_advertised() {
    let (hub, home) = hub(|_| None);
    home.write(&format!(
        "host: 127.0.0.1\nport: {}\nenable_status_page: false\n\
         models: [{{name: a, model_path: org/a}}]\n",
        hub.port()
    ));
    let output = home.command(["start"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("Status page enabled: no\n"), "{stdout}");
    assert!(!stdout.contains("Browse"), "{stdout}");
}

#[test]
fn start_model_reloads_once_and_then_starts_each() {
    let (hub, home) = hub(|request| match request {
        "POST /hub/reload" => Some(reloaded()),
        "POST /hub/models/a/start" => Some(done("start", "a", "Model 'a' started")),
        "POST /hub/models/b/start" => Some(done("start", "b", "Model 'b' is already started")),
        _ => Some((404, error(404, "There is no model `nosuch`"))),
    });
    let _filters = home.filters(hub.port());
    assert_cmd_snapshot!(home.command(["start-model", " a ", "nosuch", "  ", "b"]));
    assert_eq!(
        hub.requests(),
        [
            "POST /hub/reload",
            "POST /hub/models/a/start",
            "POST /hub/models/nosuch/start",
            "POST /hub/models/b/start",
            // Whether hub.yaml has been edited.
            "GET /hub/status",
        ]
    );
}

#[test]
fn stop_model_reloads_and_then_stops() {
    let (hub, home) = hub(|request| match request {
        "POST /hub/reload" => Some(reloaded()),
        _ => Some(done("stop", "a", "Model 'a' stopped")),
    });
    let output = home.command(["stop-model", "a"]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "[ok] a: stopped\n"
    );
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        hub.requests(),
        ["POST /hub/reload", "POST /hub/models/a/stop"]
    );
}

#[test]
fn memory_verbs_do_not_reload() {
    for (verb, route, line) in [
        ("load-model", "load", "loaded"),
        ("load", "load", "loaded"),
        ("unload-model", "unload", "unloaded"),
        ("unload", "unload", "unloaded"),
    ] {
        let message = format!("Model 'a' {line}");
        let (hub, home) = hub(move |_| Some(done(route, "a", &message)));
        let output = home.command([verb, "a"]).output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("[ok] a: {line}\n")
        );
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(hub.requests(), [format!("POST /hub/models/a/{route}")]);
    }
}

#[test]
fn a_reload_that_fails_keeps_start_model_from_going_on() {
    let (hub, home) = hub(|_| Some((400, error(400, "hub.yaml:3:5: unknown key `modle`"))));
    let _filters = home.filters(hub.port());
    assert_cmd_snapshot!(home.command(["start-model", "a"]));
    assert_eq!(hub.requests(), ["POST /hub/reload"]);
}

#[test]
fn a_name_from_the_command_line_cannot_change_the_route() {
    let (hub, home) = hub(|_| Some((404, error(404, "unknown model"))));
    home.command(["load-model", "../shutdown?x=ü"])
        .output()
        .unwrap();
    assert_eq!(
        hub.requests(),
        [
            "POST /hub/models/%2E%2E%2Fshutdown%3Fx%3D%C3%BC/load",
            "GET /hub/status"
        ]
    );
}

#[test]
fn a_daemon_that_dies_during_a_load_fails_the_load() {
    // It closes the connection after the request.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let home = home_of_four(port);
    let whose = json!({"config_path": home.config()}).to_string();
    let thread = std::thread::spawn(move || {
        let health = r#"{"status":"ok","model_id":null,"model_status":"controller"}"#;
        for body in [Some(health), Some(&whose), None] {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let Some(body) = body else { return };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            std::io::Write::write_all(&mut &stream, (head + body).as_bytes()).unwrap();
        }
    });
    write_runtime_file(&home.logs(), port, std::process::id(), &[]);
    let output = home.command(["load-model", "a"]).output().unwrap();
    thread.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.starts_with("[err] a: the hub at"), "{stdout}");
}

#[test]
fn reload_says_what_changed() {
    let (hub, home) = hub(|_| {
        let report = json!({"started": ["c2"], "stopped": ["c"], "unchanged": ["a", "b"]});
        Some((200, report))
    });
    let output = home.command(["reload"]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "[ok] Hub reload complete: started=c2 | stopped=c | unchanged=a, b\n"
    );
    assert_eq!(hub.requests(), ["POST /hub/reload"]);
}

#[test]
fn reload_says_which_policies_changed_and_why_others_stay() {
    let told = |policies: Value| {
        let report =
            json!({"started": [], "stopped": [], "unchanged": ["a"], "policies": policies});
        let (_hub, home) = hub(move |_| Some((200, report.clone())));
        home.run(&["reload"]).assert_ok().out.clone()
    };
    insta::assert_snapshot!(
        told(json!({"changed": ["bundled/lru_swap.lua", "night.lua"],
            "settings": ["policy.hours", "policy.keep of a"], "refused": []})),
        @"
        [info] Hub reload complete: started=none | stopped=none | unchanged=a
        [ok] Changed policies: bundled/lru_swap.lua, night.lua
        [ok] Changed settings of policies: policy.hours, policy.keep of a
        "
    );
    insta::assert_snapshot!(
        told(json!({"changed": [], "settings": [], "refused": ["night.lua:3: `=` expected near `x`"]})),
        @"
        [info] Hub reload complete: started=none | stopped=none | unchanged=a
        [warn] The policies were not reloaded, the old ones stay. night.lua:3: `=` expected near `x`
        "
    );
}

#[test]
fn reload_without_a_change_says_none() {
    let (_hub, home) = hub(|_| Some(reloaded()));
    let output = home.command(["reload"]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "[info] Hub reload complete: started=none | stopped=none | unchanged=a, b\n"
    );
}

/// A process that stands in for the daemon or a worker.
fn bystander() -> Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

pub(crate) fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// A hub that agrees to everything, and answers `reload` to a reload.
pub(crate) fn stoppable_hub(reload: (u16, Value)) -> FakeHub {
    FakeHub::start(move |request| match request {
        "POST /hub/reload?start=false" => Some(reload.clone()),
        "POST /hub/shutdown" => Some((
            200,
            json!({"status": "ok", "action": "stop", "message": "", "details": {}}),
        )),
        _ => None,
    })
}

#[test]
fn stop_starts_nothing_and_returns_when_all_processes_are_gone() {
    let hub = stoppable_hub(reloaded());
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let (daemon, worker) = (bystander(), bystander());
    hub.write_runtime_file(&home.logs(), daemon.id(), &[worker.id()]);

    let mut stop = home
        .command(["stop"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(stop.stdout.take().unwrap()).lines();
    let mut line = || lines.next().map(Result::unwrap);
    assert_eq!(
        line().as_deref(),
        Some("[ok] Hub manager shutdown requested")
    );
    end(daemon);
    assert!(stop.try_wait().unwrap().is_none(), "the worker still runs");
    end(worker);
    assert_eq!(line().as_deref(), Some("[ok] Hub manager stopped"));
    assert_eq!(line(), None);
    assert_eq!(stop.wait().unwrap().code(), Some(0));
    assert_eq!(
        hub.requests(),
        ["POST /hub/reload?start=false", "POST /hub/shutdown"]
    );
}

#[test]
fn stop_works_with_a_broken_configuration() {
    for text in ["log_path: elsewhere\n", "log_path: elsewhere\nmodels: [\n"] {
        let hub = stoppable_hub((400, error(400, "hub.yaml:4:1: `models` is missing")));
        let home = Home::empty();
        home.write(text);
        hub.is_of(&home);
        let daemon = bystander();
        let logs = home.config().with_file_name("elsewhere");
        hub.write_runtime_file(&logs, daemon.id(), &[]);
        let stop = home
            .command(["stop"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        end(daemon);
        let output = stop.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "[warn] Reload before the stop failed: hub.yaml:4:1: `models` is missing\n\
             [ok] Hub manager shutdown requested\n\
             [ok] Hub manager stopped\n",
            "{text}"
        );
        assert_eq!(output.status.code(), Some(0), "{text}");
    }
}

#[test]
fn stop_works_without_a_configuration() {
    let hub = stoppable_hub(reloaded());
    let home = Home::empty();
    hub.is_of(&home);
    let daemon = bystander();
    hub.write_runtime_file(&home.logs(), daemon.id(), &[]);
    let stop = home
        .command(["stop"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    end(daemon);
    assert_eq!(stop.wait_with_output().unwrap().status.code(), Some(0));
    assert!(hub.requests().contains(&"POST /hub/shutdown".to_owned()));
}

/// The lines of the first look, with the program ended after it.
fn first_look(home: &Home, lines: usize) -> String {
    let mut watch = home
        .command(["watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(watch.stdout.take().unwrap());
    let text: Vec<_> = stdout.lines().take(lines).map(Result::unwrap).collect();
    end(watch);
    text.join("\n")
}

#[test]
fn watch_shows_the_processes_sorted_by_name() {
    let (hub, home) = hub(|_| None);
    let _filters = home.filters(hub.port());
    insta::assert_snapshot!(first_look(&home, 8));
}

#[test]
fn watch_says_when_there_is_nothing_to_watch() {
    let hub = FakeHub::start(|_| {
        let mut status = status(8124);
        status["models"] = json!([]);
        Some((200, status))
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let look = first_look(&home, 3);
    assert!(
        look.contains(" models=0 running=0 stopped=0 failed=0\n"),
        "{look}"
    );
    assert!(look.ends_with("\n  (no managed processes)"), "{look}");
}

#[test]
fn verbs_on_all_models_name_those_that_they_change() {
    let (hub, home) = hub(|request| match request {
        "POST /hub/reload" => Some(reloaded()),
        // The hub chooses which.
        "POST /hub/models/stop-all" => Some((
            200,
            json!({"done": ["b"], "busy": [], "failed": {"a": "Model 'a' is stuck"}}),
        )),
        "POST /hub/models/unload-all?now=false" => {
            Some((200, json!({"done": [], "busy": [], "failed": {}})))
        }
        other => {
            let (_, name_and_verb) = other.split_once("/hub/models/")?;
            let (name, verb) = name_and_verb.split_once('/')?;
            Some(done(verb, name, &format!("Model '{name}' done")))
        }
    });
    let said = |arguments: &[&str]| home.run(arguments).out;
    assert_eq!(
        said(&["start-model", "--all"]),
        "[ok] c: done\n[ok] d: done\n"
    );
    let stopped = home.run(&["stop-model", "--all"]);
    assert_eq!(stopped.out, "[ok] b: stopped\n[err] a: stuck\n");
    assert_eq!(stopped.code, 1);
    assert_eq!(said(&["load", "--all"]), "[ok] a: done\n");
    assert_eq!(said(&["unload", "--all"]), "[info] No model to unload\n");
    let asked = hub.requests();
    let verbs: Vec<_> = asked
        .iter()
        .filter(|request| request.contains("/models/"))
        .collect();
    assert_eq!(verbs.len(), 5, "{verbs:?}");
    for arguments in [&["load", "--all", "a"][..], &["unload", "a", "--now"]] {
        assert_eq!(home.run(arguments).code, 2, "{arguments:?}");
    }
}

#[test]
fn unload_all_spares_models_with_requests_unless_told_not_to() {
    let report = |done: &[&str], busy: &[&str]| {
        Some((200, json!({"done": done, "busy": busy, "failed": {}})))
    };
    let hub = FakeHub::start(move |request| match request {
        "POST /hub/models/unload-all?now=false" => report(&["a"], &["b"]),
        "POST /hub/models/unload-all?now=true" => report(&["b"], &[]),
        _ => None,
    });
    let home = home_of_four(hub.port());
    hub.is_of(&home);
    let spared = "[info] b: stays loaded, for it has requests in flight\n[ok] a: unloaded\n";
    assert_eq!(home.run(&["unload", "--all"]).out, spared);
    let now = home.run(&["unload", "--all", "--now"]);
    assert_eq!(now.out, "[ok] b: unloaded\n");
    assert_eq!(now.code, 0);
}

#[test]
fn a_service_that_somebody_else_has_written_is_named_by_start_stop_and_restart() {
    let home = Home::with_stub("models: [{name: a, model_path: org/a, jit_enabled: true}]\n");
    crate::doctor::write_service(&home, "mine", "/bin");
    let named = |verb: &str| {
        let ran = home.run(&[verb]);
        ran.assert_ok();
        let line = ran.lines().into_iter().find(|line| line.contains("mine."));
        assert!(
            line.unwrap().starts_with("[warn] The service `~/"),
            "{ran:?}"
        );
        assert!(ran.out.contains("hint: `"), "{ran:?}");
    };
    named("start");
    // Its hub is replaced as any other.
    home.run(&["restart"]).assert_ok();
    named("stop");
    named("restart");
    named("stop");
    home.run(&["stop"]).assert_ok();
}
