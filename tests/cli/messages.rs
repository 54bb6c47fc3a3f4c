//! What the command line says when something is in its way: the exact text, one snapshot for each
//! command.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use mlx_openai_server_hub::runtime_file::RuntimeFile;
use serde_json::{Value, json};

use crate::fake_hub::{FakeHub, model, status};
use crate::home_of_four;
use crate::support::home::Home;

/// Commands, and what they said.
pub(crate) struct Book<'a> {
    home: &'a Home,
    pub(crate) text: String,
}

impl<'a> Book<'a> {
    pub(crate) fn of(home: &'a Home) -> Self {
        let text = String::new();
        Self { home, text }
    }

    pub(crate) fn run(&mut self, case: &str, arguments: &[&str]) {
        let output = self.home.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap();
        writeln!(self.text, "# {case}: {} → {code}", arguments.join(" ")).unwrap();
        writeln!(self.text, "{}{}", text(output.stdout), text(output.stderr)).unwrap();
    }
}

/// More filters; to be kept while snapshots are compared.
pub(crate) fn also(filters: &[(&str, &str)]) -> impl Drop + use<> {
    let mut settings = insta::Settings::clone_current();
    for (regex, replacement) in filters {
        settings.add_filter(regex, *replacement);
    }
    settings.bind_to_scope()
}

/// A worker program that only has a help.
fn install_worker(home: &Home) {
    install_worker_that(home, "");
}

/// The same, which first runs a line of a shell.
pub(crate) fn install_worker_that(home: &Home, first: &str) {
    let program = home.bin().join("mlx-openai-server");
    let path = "PATH=/usr/bin:/bin";
    let help = "echo '--model-path --port'";
    fs::write(&program, format!("#!/bin/sh\n{path}\n{first}\n{help}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_daemon_that_cannot_start_says_what_is_in_its_way() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().port();
    let home = &Home::empty();
    install_worker(home);
    let mut book = Book::of(home);
    let rest = "models: [{name: a, model_path: org/a}]\n";
    // Nobody has this address: TEST-NET-1, RFC 5737.
    let nowhere = "host: 192.0.2.1\nport: 8000\n";

    home.write(&format!("host: 127.0.0.1\nport: {taken}\n{rest}"));
    book.run("a port that is taken", &["serve"]);

    home.write(&format!(
        "host: 127.0.0.1\nport: 0\nlog_path: hub.yaml/logs\n{rest}"
    ));
    book.run("a port that is none", &["serve"]);
    home.write(&format!("{nowhere}log_path: hub.yaml/logs\n{rest}"));
    book.run("a log folder below a file", &["serve"]);
    book.run("a log folder below a file", &["start"]);

    home.write(&format!("{nowhere}{rest}"));
    book.run("an address of nobody's", &["start"]);

    fs::create_dir_all(home.logs()).unwrap();
    let lock = fs::File::create(home.logs().join("hub.lock")).unwrap();
    lock.try_lock().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    home.write(&format!("host: 127.0.0.1\nport: {}\n{rest}", free.port()));
    book.run("a log folder that another hub uses", &["serve"]);
    drop(lock);

    for file in ["app.stderr.log", "app.log", "hub.lock", "hub_runtime.json"] {
        let path = home.logs().join(file);
        // All but the first are made by the daemon.
        let _ = fs::remove_file(&path);
        fs::create_dir(&path).unwrap();
        let verb = if file == "app.stderr.log" {
            "start"
        } else {
            "serve"
        };
        book.run(&format!("a folder in the place of {file}"), &[verb]);
        fs::remove_dir(&path).unwrap();
    }

    home.write(&format!(
        "host: 127.0.0.1\nport: {}\nmodels: [{{name: a, model_path: org/a, port: {taken}}}]\n",
        free.port()
    ));
    book.run("a model's port that is taken", &["serve"]);

    let _filters = home.filters(taken);
    let _more = also(&[
        (&free.port().to_string(), "PORT"),
        (r"\.tmp\w+", "TEMPORARY"),
        (r"\d{4}-\d\d-\d\dT\S+", "TIME"),
    ]);
    insta::assert_snapshot!(book.text);
}

#[test]
fn init_and_check_say_what_is_in_their_way() {
    let home = &Home::empty();
    install_worker(home);
    let mut book = Book::of(home);
    home.write("models: [{name: a, model_path: org/a}]\n");
    let below = [
        "--config",
        "mlx-openai-server-hub/hub.yaml/other/hub.yaml",
        "init",
    ];
    book.run("a folder below a file", &below);
    let long = format!("{}.yaml", "long".repeat(64));
    book.run("a name that is too long", &["--config", &long, "init"]);
    book.run(
        "no such folder",
        &["--config", "/dev/null/hub.yaml", "check"],
    );
    book.run("no interval", &["watch", "--interval", "soon"]);
    book.run("no name", &["load-model"]);
    book.run("no such command", &["lod"]);
    let _filters = home.filters(0);
    let _more = also(&[("(long){64}", "LONG"), (r" \(os error (36|63)\)", "")]);
    insta::assert_snapshot!(book.text);
}

/// A hub with models that want attention.
fn troubled(port: u16) -> Value {
    let mut status = status(port);
    status["host"] = json!("0.0.0.0");
    let failed = |name: &str, state: &str, error: Value| {
        let facts = json!({
            "process_state": state, "memory_last_error": error, "default": true,
        });
        model(name, &facts)
    };
    status["models"] = json!([
        failed("ended", "failed", Value::Null),
        failed("broken", "failed", json!("out of memory")),
        failed("refused", "inactive", json!("the group is full")),
        failed("stopped", "stopped", Value::Null),
    ]);
    status
}

#[test]
fn start_tells_what_is_wrong_with_each_default_model_and_who_can_reach_the_hub() {
    let hub = FakeHub::start(|_| Some((200, troubled(8124))));
    let home = &home_of_four(hub.port());
    hub.is_of(home);
    let mut book = Book::of(home);
    book.run("a hub in trouble", &["start"]);
    let _filters = home.filters(hub.port());
    insta::assert_snapshot!(book.text);
}

#[test]
fn a_hub_that_misbehaves_is_told_with_its_address() {
    let hub = FakeHub::start(|request| match request {
        "GET /hub/status" => Some((200, json!({"status": 7}))),
        "POST /hub/shutdown" => Some((500, json!("no"))),
        _ => Some((502, json!({"detail": "a proxy says no"}))),
    });
    let home = &home_of_four(hub.port());
    hub.is_of(home);
    let mut book = Book::of(home);
    book.run("a status that is none", &["status"]);
    book.run("no envelope", &["load-model", "a"]);
    book.run("no envelope", &["reload"]);
    book.run("no envelope", &["stop"]);
    let _filters = home.filters(hub.port());
    insta::assert_snapshot!(book.text);
}

/// As launchd and systemd do, something starts another hub at once.
#[test]
fn stop_says_when_another_hub_answers_or_workers_are_left() {
    let home = &Home::empty();
    let mut book = Book::of(home);
    for stays in [true, false] {
        let gone = std::sync::atomic::AtomicBool::new(false);
        let hub = FakeHub::serve(Box::new(move |request| match request {
            "GET /health" if gone.load(std::sync::atomic::Ordering::SeqCst) => None,
            "GET /health" => Some((200, json!({"model_status": "controller"}))),
            "POST /hub/shutdown" => {
                gone.store(!stays, std::sync::atomic::Ordering::SeqCst);
                Some((200, json!({"message": ""})))
            }
            _ => Some((200, json!({"started": [], "stopped": [], "unchanged": []}))),
        }));
        let port = hub.port();
        home.write(&format!(
            "host: 127.0.0.1\nport: {port}\nmodels: [{{name: a, model_path: org/a}}]\n"
        ));
        hub.is_of(home);
        // The daemon has ended; a worker (this test, which does not end) may be left.
        let mut daemon = std::process::Command::new("true").spawn().unwrap();
        daemon.wait().unwrap();
        let worker = std::process::id();
        let workers = if stays { &[][..] } else { &[worker][..] };
        hub.write_runtime_file(&home.logs(), daemon.id(), workers);
        assert!(RuntimeFile::read(&home.logs()).is_some());
        book.run(
            if stays {
                "another answers"
            } else {
                "a worker is left"
            },
            &["stop"],
        );
    }
    let _filters = home.filters(0);
    let worker = format!(r"processes {}\)", std::process::id());
    // It is said after as long as the error.
    let progress = r"\[info\] waiting for requests in flight and for workers \(5s\)\n";
    let _more = also(&[(&worker, "processes WORKER)"), (progress, "")]);
    insta::assert_snapshot!(book.text);
}
