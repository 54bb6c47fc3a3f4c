//! The simulated worker does what the real one was seen to do.

#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

#[path = "../support/mod.rs"]
mod support;

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use support::http::{Http, chat};
use support::record::Record;
use support::{BINARY, SOON, processes, wait_for, wait_until};
use tempfile::TempDir;
use tokio::time::Instant;

/// A simulated worker in a process group of its own.
struct Stub {
    process: Child,
    http: Http,
    record: Record,
    folder: TempDir,
}

impl Stub {
    /// Starts one and does not wait.
    fn spawn(knobs: &[&str], launch: &[&str]) -> Self {
        Self::spawn_on(processes::ports(), knobs, launch)
    }

    fn spawn_on(port: u16, knobs: &[&str], launch: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let record = Record::at(&folder.path().join("record"));
        let process = Command::new(BINARY)
            .args(["stub-worker", "--record"])
            .arg(record.path())
            .args(knobs)
            .args([
                "launch",
                "--model-path",
                "some/model",
                "--host",
                "127.0.0.1",
            ])
            .args(["--port", &port.to_string()])
            .args(launch)
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            process,
            http: Http { port },
            record,
            folder,
        }
    }

    /// Starts one and waits until its port is open.
    fn start(knobs: &[&str], launch: &[&str]) -> Self {
        let stub = Self::spawn(knobs, launch);
        stub.wait_for_event("ready");
        stub
    }

    fn wait_for_event(&self, event: &str) {
        wait_until(event, SOON, || !self.record.events(event).is_empty());
    }

    fn signal(&self, what: Signal) {
        processes::send(self.process.id(), what);
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        wait_for("the worker to end", SOON, || {
            self.process.try_wait().unwrap()
        })
    }

    fn members(&self) -> Vec<u32> {
        processes::members(self.process.id())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        processes::send_to_group(self.process.id(), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

#[test]
fn jit_comes_up_unloaded_and_loads_for_queue_stats() {
    let stub = Stub::start(&["--dialect", "jit"], &["--jit"]);
    let health = stub.http.get("/health").json();
    assert_eq!(
        health,
        json!({"status": "ok", "model_id": "some/model", "model_status": "unloaded"})
    );
    assert!(stub.record.events("load").is_empty());
    assert_eq!(stub.http.get("/v1/queue/stats").status, 200);
    assert_eq!(
        stub.http.get("/health").json()["model_status"],
        "initialized"
    );
    assert_eq!(stub.members().len(), 1, "one process");
}

#[test]
fn requests_that_come_during_a_load_share_it() {
    let stub = Stub::start(&["--dialect", "jit", "--load-seconds", "0.3"], &["--jit"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(stub.http.chat("m", "hello").status, 200));
        }
    });
    assert_eq!(stub.record.events("load").len(), 1);
}

#[test]
fn jit_echoes_any_model_and_the_request_id() {
    let stub = Stub::start(&["--dialect", "jit"], &["--jit"]);
    let headers = [("x-request-id", "abc")];
    let body = chat("whatever", "hello", false).to_string();
    let reply = stub
        .http
        .send("POST", "/v1/chat/completions", &headers, body.as_bytes());
    let answer = reply.unwrap().whole().unwrap();
    assert_eq!(answer.header("x-request-id"), Some("abc"));
    assert_eq!(answer.json()["model"], "whatever");
}

#[test]
fn v181_opens_its_port_when_the_model_is_loaded() {
    let stub = Stub::spawn(&["--load-seconds", "0.5"], &["--served-model-name", "m"]);
    stub.wait_for_event("load");
    assert!(
        stub.http.try_get("/health").is_err(),
        "refused until loaded"
    );
    stub.wait_for_event("ready");
    assert_eq!(
        stub.http.get("/health").json(),
        json!({"status": "ok", "model_id": "m", "model_status": "initialized (1 model(s))"})
    );
    assert_eq!(stub.members().len(), 3, "server, tracker, model process");
}

#[test]
fn v181_answers_only_to_its_name() {
    let stub = Stub::start(&[], &["--served-model-name", "m"]);
    assert_eq!(stub.http.chat("m", "hello").status, 200);
    let answer = stub.http.chat("some/model", "hello");
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["detail"]["error"]["type"], "model_not_found");
    let by_path = Stub::start(&[], &[]);
    assert_eq!(by_path.http.chat("some/model", "hello").status, 200);
}

#[test]
fn a_stream_ends_with_its_reason_usage_and_done() {
    let stub = Stub::start(&["--tokens", "5"], &[]);
    let events: Vec<String> = stub
        .http
        .stream("some/model", "hello")
        .events()
        .map(Result::unwrap)
        .collect();
    assert_eq!(events.len(), 1 + 5 + 1 + 1);
    let last: serde_json::Value = serde_json::from_str(&events[6]).unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["usage"]["completion_tokens"], 5);
    assert_eq!(events[7], "[DONE]");
    assert_eq!(
        stub.http.stream("some/model", "hello").said(),
        "You said “hello”. I am "
    );
}

#[test]
fn a_body_that_does_not_parse_is_422() {
    let stub = Stub::start(&[], &[]);
    let send = |body: &str| {
        let reply = stub
            .http
            .send("POST", "/v1/chat/completions", &[], body.as_bytes());
        reply.unwrap().whole().unwrap()
    };
    assert_eq!(send(r#"{"model":"#).status, 422);
    let answer = send(r#"{"model": "some/model"}"#);
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json()["detail"][0]["loc"],
        json!(["body", "messages"])
    );
}

#[test]
fn only_v181_has_responses() {
    let body = json!({"model": "some/model", "input": "hello"});
    let new = Stub::start(&[], &[]);
    assert_eq!(
        new.http.post("/v1/responses", &body).json()["object"],
        "response"
    );
    let jit = Stub::start(&["--dialect", "jit"], &[]);
    assert_eq!(jit.http.post("/v1/responses", &body).status, 404);
}

#[test]
fn a_failing_load_is_a_500_with_jit_and_an_exit_with_0_without() {
    let jit = Stub::start(&["--dialect", "jit", "--fail-load"], &["--jit"]);
    let answer = jit.http.get("/v1/queue/stats");
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("Failed to load model handler"));
    for dialect in ["jit", "1.8.1"] {
        let mut stub = Stub::spawn(&["--dialect", dialect, "--fail-load"], &[]);
        assert_eq!(stub.wait_for_end().code(), Some(0), "{dialect}");
    }
}

#[test]
fn a_taken_port_is_an_exit_with_1_for_v181_after_the_load() {
    let taken = Stub::start(&[], &[]);
    let mut jit = Stub::spawn_on(taken.http.port, &["--dialect", "jit"], &["--jit"]);
    assert_eq!(jit.wait_for_end().code(), Some(1));
    let mut new = Stub::spawn_on(taken.http.port, &[], &[]);
    assert_eq!(new.wait_for_end().code(), Some(1));
    assert_eq!(new.record.events("loaded").len(), 1);
}

#[test]
fn sigterm_ends_an_idle_worker_by_signal_15_with_its_children() {
    let mut stub = Stub::start(&[], &[]);
    stub.signal(Signal::SIGTERM);
    assert_eq!(stub.wait_for_end().signal(), Some(15));
    assert_eq!(stub.members(), Vec::<u32>::new());
}

#[test]
fn sigterm_waits_for_a_request_however_often_it_comes() {
    let mut stub = Stub::start(&["--tokens", "10", "--token-ms", "30"], &[]);
    let mut events = stub.http.stream("some/model", "hello").events();
    events.next().unwrap().unwrap();
    stub.signal(Signal::SIGTERM);
    stub.wait_for_event("sigterm");
    stub.signal(Signal::SIGTERM);
    wait_until("the second SIGTERM", SOON, || {
        stub.record.events("sigterm").len() == 2
    });
    assert_eq!(events.last().unwrap().unwrap(), "[DONE]");
    assert_eq!(stub.wait_for_end().signal(), Some(15));
}

#[test]
fn sigint_after_sigterm_cuts_the_request() {
    let mut stub = Stub::start(&["--tokens", "100000", "--token-ms", "10"], &[]);
    let mut events = stub.http.stream("some/model", "hello").events();
    events.next().unwrap().unwrap();
    stub.signal(Signal::SIGTERM);
    stub.wait_for_event("sigterm");
    stub.signal(Signal::SIGINT);
    assert_eq!(stub.wait_for_end().signal(), Some(15));
    assert!(
        events.any(|event| event.is_err()),
        "the stream is cut short"
    );
}

#[test]
fn sigint_alone_is_an_exit_with_1() {
    let mut stub = Stub::start(&[], &[]);
    stub.signal(Signal::SIGINT);
    assert_eq!(stub.wait_for_end().code(), Some(1));
}

#[test]
fn sigterm_can_be_ignored() {
    let mut stub = Stub::start(&["--ignore-sigterm"], &[]);
    stub.signal(Signal::SIGTERM);
    stub.wait_for_event("sigterm");
    assert_eq!(stub.http.get("/health").status, 200);
    stub.signal(Signal::SIGINT);
    assert_eq!(stub.wait_for_end().code(), Some(1));
}

#[test]
fn children_outlive_a_killed_server_until_it_is_reaped() {
    let mut stub = Stub::start(&["--linger-seconds", "0"], &[]);
    let server = stub.process.id();
    stub.signal(Signal::SIGKILL);
    wait_until("the server to be a zombie", SOON, || {
        !stub.members().contains(&server)
    });
    assert_eq!(stub.members().len(), 2, "nobody has reaped it");
    assert_eq!(stub.wait_for_end().signal(), Some(9));
    wait_until("the children to leave", SOON, || stub.members().is_empty());
}

#[test]
fn a_stubborn_grandchild_outlives_everything_but_sigkill() {
    let mut stub = Stub::start(
        &["--dialect", "jit", "--grandchild", "stubborn"],
        &["--jit"],
    );
    processes::send_to_group(stub.process.id(), Signal::SIGTERM);
    assert_eq!(stub.wait_for_end().signal(), Some(15));
    assert_eq!(stub.members().len(), 1);
    processes::send_to_group(stub.process.id(), Signal::SIGKILL);
    wait_until("the group to be empty", SOON, || stub.members().is_empty());
}

#[test]
fn a_killed_model_process_is_replaced_by_the_next_chat() {
    let stub = Stub::start(&[], &[]);
    let server = stub.process.id();
    // The model process is the youngest: the tracker was there before it.
    let model = stub.members().into_iter().max().unwrap();
    assert_ne!(model, server);
    processes::send(model, Signal::SIGKILL);
    wait_until("the model process to be gone", SOON, || {
        stub.members().len() == 2
    });
    assert_eq!(stub.http.get("/health").status, 200);
    assert_eq!(stub.http.chat("some/model", "hello").status, 200);
    assert_eq!(stub.members().len(), 3);
}

#[test]
fn crashes_come_when_they_are_ordered() {
    let code = ["--exit-code", "7"];
    let mut early = Stub::spawn(&[&code[..], &["--crash-on-start"]].concat(), &[]);
    assert_eq!(early.wait_for_end().code(), Some(7));

    let mut second = Stub::start(&[&code[..], &["--crash-on-request", "2"]].concat(), &[]);
    assert_eq!(second.http.chat("some/model", "hello").status, 200);
    let chat = chat("some/model", "hello", false);
    assert!(second.http.try_post("/v1/chat/completions", &chat).is_err());
    assert_eq!(second.wait_for_end().code(), Some(7));

    let mut third = Stub::start(&[&code[..], &["--crash-after-events", "3"]].concat(), &[]);
    let events: Vec<_> = third.http.stream("some/model", "hello").events().collect();
    assert_eq!(events.iter().filter(|event| event.is_ok()).count(), 3);
    assert!(events[3].is_err());
    assert_eq!(third.wait_for_end().code(), Some(7));
}

#[test]
fn a_blocked_event_loop_does_not_answer_health_during_a_load() {
    let knobs = ["--dialect", "jit", "--blocking", "--load-seconds", "1"];
    let stub = Stub::start(&knobs, &["--jit"]);
    let http = stub.http;
    let load = std::thread::spawn(move || http.get("/v1/queue/stats").status);
    stub.wait_for_event("load");
    let asked = Instant::now();
    assert_eq!(http.get("/health").status, 200);
    assert!(
        asked.elapsed() > Duration::from_millis(300),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(load.join().unwrap(), 200);
}

#[test]
fn memory_is_held_while_loaded() {
    let stub = Stub::start(&["--dialect", "jit", "--memory-mb", "100"], &["--jit"]);
    let resident = || {
        let pid = stub.process.id().to_string();
        let output = Command::new("ps").args(["-o", "rss=", "-p", &pid]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        text.trim().parse::<usize>().unwrap() / 1024
    };
    assert!(resident() < 60, "{} MB", resident());
    stub.http.get("/v1/queue/stats");
    assert!(resident() > 100, "{} MB", resident());
}

#[test]
fn a_client_that_leaves_a_stream_is_noticed() {
    let stub = Stub::start(&["--tokens", "100000", "--token-ms", "5"], &[]);
    let mut events = stub.http.stream("some/model", "hello").events();
    events.next().unwrap().unwrap();
    drop(events);
    stub.wait_for_event("cancelled");
}

#[test]
fn the_record_tells_what_came() {
    let stub = Stub::start(&[], &[]);
    let body = chat("some/model", "hello", false);
    stub.http.post("/v1/chat/completions", &body);
    let requests = stub.record.requests("/v1/chat/completions");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0]["body"], body.to_string());
    let hash = support::record::hash(body.to_string().as_bytes());
    assert_eq!(requests[0]["body_hash"], hash);
    assert_eq!(requests[0]["headers"]["content-type"], "application/json");
    let start = &stub.record.events("start")[0];
    let folder = stub.folder.path().canonicalize().unwrap();
    assert_eq!(start["folder"], folder.to_str().unwrap());
    let left = std::fs::read_dir(stub.folder.path()).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name());
    let caches = names.filter(|name| {
        name.to_string_lossy()
            .starts_with("mlx-openai-prompt-cache-")
    });
    assert_eq!(caches.count(), 1);
}

#[test]
fn it_calls_the_tools_that_it_is_told_to_and_streams_responses() {
    let stub = Stub::start(&["--tokens", "3"], &["--served-model-name", "m"]);
    let mut body = chat("m", "call Write {\"path\": \"a\"}", false);
    body["tools"] = json!([{"type": "function", "function": {"name": "Write"}}]);
    let answer = stub.http.post("/v1/chat/completions", &body).json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(
        call,
        &json!({"name": "Write", "arguments": "{\"path\":\"a\"}"})
    );

    body["stream"] = json!(true);
    let reply = stub.http.open("/v1/chat/completions", &body);
    let events: String = reply.events().map(Result::unwrap).collect();
    assert!(
        events.contains(r#""finish_reason":"tool_calls""#),
        "{events}"
    );
    let pieces = [r#"{\"path"#, r#"\":\"a\"}"#];
    assert!(
        pieces.iter().all(|piece| events.contains(piece)),
        "{events}"
    );

    let body = json!({"model": "m", "input": "hello", "stream": true});
    let reply = stub.http.open("/v1/responses", &body);
    let events: Vec<String> = reply.events().map(Result::unwrap).collect();
    let count = |kind: &str| events.iter().filter(|event| event.contains(kind)).count();
    assert_eq!(count(r#""type":"response.output_text.delta""#), 3);
    assert!(
        events
            .last()
            .is_some_and(|event| event.contains(r#""type":"response.completed""#))
    );
}
