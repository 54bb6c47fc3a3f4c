//! Process ids are used again: what `hub_runtime.json` names may be anybody's process by now. And a
//! worker that opens its port only when it has loaded may find a stranger there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::http::Answer;
use crate::support::{Hub, SOON, processes, wait_until};
use crate::{models, pid, wait_for_pid, worker};

/// A process of the test that has nothing to do with the hub; it leads a group of its own, as a
/// worker does.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").process_group(0).spawn().unwrap())
    }

    fn is_alive(&self) -> bool {
        processes::is_alive(self.0.id())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stranger_that_has_a_workers_process_id_is_left_alone() {
    for (in_hub_yaml, looks_like_it) in [(true, false), (false, false), (true, true)] {
        let entry = [("alpha", "default: true"), ("beta", "jit_enabled: true")];
        let mut hub = Hub::start(&format!("{}\n{}", worker(&[]), models(&entry)));
        hub.wait_for_state("alpha", "running", "loaded");
        let real = pid(&hub, "alpha").unwrap();
        hub.kill();
        let stranger = Stranger::new();
        let file = hub.logs().join("hub_runtime.json");
        let mut runtime: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        runtime["workers"][0]["pid"] = json!(stranger.0.id());
        // As if the real one had ended long ago.
        processes::send_to_group(real, nix::sys::signal::Signal::SIGKILL);
        crate::wait_until("the worker to be gone", crate::SOON, || {
            processes::members(real).is_empty()
        });
        runtime["workers"][0]["start_time"] = json!(1_000_000_000);
        if looks_like_it {
            // It began when the worker did, and is called the same.
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            runtime["workers"][0]["start_time"] = json!(now.as_secs());
            runtime["workers"][0]["command"] = json!(["sleep", "600"]);
        }
        std::fs::write(&file, runtime.to_string()).unwrap();
        if !in_hub_yaml {
            hub.configure(&format!("{}\n{}", worker(&[]), models(&entry[1..])));
        }
        hub.serve_again();
        if in_hub_yaml {
            hub.wait_for_state("alpha", "running", "loaded");
            assert_ne!(pid(&hub, "alpha"), Some(stranger.0.id()));
        }
        assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
        assert!(
            stranger.is_alive(),
            "in hub.yaml: {in_hub_yaml}, looks like it: {looks_like_it}"
        );
    }
}

/// A shell in the folder of a worker is not a worker.
#[test]
fn a_process_that_works_in_a_workers_folder_is_left_alone() {
    let entry = [("alpha", "default: true")];
    let mut hub = Hub::start(&format!("{}\n{}", worker(&[]), models(&entry)));
    hub.wait_for_state("alpha", "running", "loaded");
    let folder = hub.logs().join("workers/alpha");
    let mut command = Command::new("sleep");
    let stranger = Stranger(
        command
            .arg("600")
            .current_dir(folder)
            .process_group(0)
            .spawn()
            .unwrap(),
    );
    hub.kill();
    hub.serve_again();
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert!(stranger.is_alive());
}

/// Another program that is in good health, on a port that a worker was given. It ends with the test.
fn healthy_stranger(port: u16) -> &'static AtomicUsize {
    static ASKED: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let asked = &ASKED[NEXT.fetch_add(1, Ordering::Relaxed)];
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut reader = BufReader::new(connection.unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            asked.fetch_add(1, Ordering::Relaxed);
            let body = r#"{"status":"ok","model_id":"other","model_status":"initialized"}"#;
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close");
            let _ = reader
                .get_mut()
                .write_all(format!("{head}\r\n\r\n{body}").as_bytes());
        }
    });
    asked
}

/// Starts `alpha`, whose worker opens its port after its load, and puts a stranger there before.
fn start_beside_a_stranger(hub: &Hub, then: impl FnOnce(u16)) -> Answer {
    std::thread::scope(|scope| {
        let start = scope.spawn(|| hub.act("alpha", "start"));
        wait_for_pid(hub, "alpha");
        let port = u16::try_from(hub.model("alpha")["port"].as_u64().unwrap()).unwrap();
        let asked = healthy_stranger(port);
        wait_until("the stranger to be asked", SOON, || {
            asked.load(Ordering::Relaxed) >= 5
        });
        assert_eq!(hub.model("alpha")["memory_state"], "loading");
        then(port);
        start.join().unwrap()
    })
}

#[test]
fn a_healthy_stranger_on_the_port_is_not_taken_for_the_worker() {
    let hub = Hub::start(&format!(
        "{}\n{}",
        worker(&["--load-seconds", "3"]),
        models(&[("alpha", "default: false")])
    ));
    let mut first = 0;
    let started = start_beside_a_stranger(&hub, |port| first = port);
    assert_eq!(started.status, 200, "{}", started.text());
    assert_ne!(hub.model("alpha")["port"], first, "it has moved on");
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
}

#[test]
fn a_load_that_ends_in_silence_names_the_stranger_on_its_port() {
    let hub = Hub::start(&format!(
        "load_timeout: 2\n{}\n{}",
        worker(&["--load-seconds", "600"]),
        models(&[("alpha", "default: false")])
    ));
    let started = start_beside_a_stranger(&hub, |_| {});
    assert_eq!(started.status, 503, "{}", started.text());
    let port = &hub.model("alpha")["port"];
    let why = format!(
        "Model `alpha` failed to load: no sign of life for 2 s (`load_timeout`); another program \
         answers on its port {port}; its log ends:"
    );
    assert!(started.text().contains(&why), "{}", started.text());
}
