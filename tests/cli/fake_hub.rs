//! A control API that answers from a table, with a runtime file that points to it.
//!
//! It is plain threads and sockets, so that what the command line sends is seen as it is.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use mlx_openai_server_hub::runtime_file::{RuntimeFile, RuntimeModels, RuntimeWorker};
use serde_json::{Value, json};

use crate::support::home::Home;

/// Answers a `METHOD /path` with a status and a body; `None` is 404.
pub(crate) type Answers = dyn Fn(&str) -> Option<(u16, Value)> + Send + Sync;

/// A server on a free port of 127.0.0.1 that ends when it is dropped.
pub(crate) struct FakeHub {
    address: SocketAddr,
    /// The hub.yaml it says it is of.
    config: Arc<Mutex<Option<PathBuf>>>,
    requests: Arc<Mutex<Vec<String>>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeHub {
    /// A hub: `/health` is answered as hubs do, until a shutdown; everything else by `answers`.
    pub(crate) fn start(
        answers: impl Fn(&str) -> Option<(u16, Value)> + Send + Sync + 'static,
    ) -> Self {
        let ends = AtomicBool::new(false);
        Self::serve(Box::new(move |request| match request {
            "GET /health" if ends.load(Ordering::SeqCst) => None,
            "GET /health" => Some((
                200,
                json!({"status": "ok", "model_id": null, "model_status": "controller"}),
            )),
            _ => {
                ends.fetch_or(request == "POST /hub/shutdown", Ordering::SeqCst);
                answers(request)
            }
        }))
    }

    /// Any other server.
    pub(crate) fn serve(answers: Box<Answers>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let done = Arc::new(AtomicBool::new(false));
        let config = Arc::new(Mutex::new(None));
        let thread = {
            let (requests, done) = (Arc::clone(&requests), Arc::clone(&done));
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    answer(stream.unwrap(), &answers, &requests, &config);
                }
            })
        };
        Self {
            address,
            config,
            requests,
            done,
            thread: Some(thread),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// It says that it is the hub of that home's hub.yaml.
    pub(crate) fn is_of(&self, home: &Home) {
        *self.config.lock().unwrap() = Some(home.config());
    }

    /// What was asked so far, but for who is there.
    pub(crate) fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = requests.iter().enumerate().filter(|(at, request)| {
            let before = at.checked_sub(1).map(|at| requests[at].as_str());
            *request != "GET /health" && !is_whose(before, request)
        });
        asked.map(|(_, request)| request.clone()).collect()
    }

    /// Writes what a daemon writes about itself.
    pub(crate) fn write_runtime_file(&self, log_path: &Path, pid: u32, workers: &[u32]) {
        write_runtime_file(log_path, self.port(), pid, workers);
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The runtime file of a daemon that serves on `port` of 127.0.0.1.
pub(crate) fn write_runtime_file(log_path: &Path, port: u16, pid: u32, workers: &[u32]) {
    std::fs::create_dir_all(log_path).unwrap();
    let worker = |&pid: &u32| RuntimeWorker {
        model: "a".to_owned(),
        pid,
        start_time: 0,
        port: 47850,
        command: vec!["mlx-openai-server".to_owned()],
        ..RuntimeWorker::default()
    };
    let file = RuntimeFile {
        pid,
        host: "127.0.0.1".to_owned(),
        port,
        started_at: "2026-11-22T00:16:37Z".to_owned(),
        config_path: None,
        also: Vec::new(),
        activated: false,
        foreground: false,
        models: RuntimeModels {
            workers: workers.iter().map(worker).collect(),
            standby: Vec::new(),
        },
    };
    file.write(log_path).unwrap();
}

/// A command asks whose hub it is right after it has found one.
fn is_whose(before: Option<&str>, request: &str) -> bool {
    before == Some("GET /health") && request == "GET /hub/status"
}

fn answer(
    mut stream: TcpStream,
    answers: &Answers,
    requests: &Mutex<Vec<String>>,
    config: &Mutex<Option<PathBuf>>,
) {
    let mut line = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut line).unwrap_or_default();
    let Some(request) = line.trim_end().strip_suffix(" HTTP/1.1") else {
        return;
    };
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        header.clear();
    }
    let before = {
        let mut requests = requests.lock().unwrap_or_else(PoisonError::into_inner);
        let before = requests.last().cloned();
        requests.push(request.to_owned());
        before
    };
    let whose = config.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = match whose.as_deref() {
        Some(config) if is_whose(before.as_deref(), request) => {
            Some((200, json!({"config_path": config})))
        }
        _ => answers(request),
    };
    let (status, body) = answer.unwrap_or((404, error(404, "not found")));
    let body = body.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Word\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

/// The error envelope.
pub(crate) fn error(status: u16, message: &str) -> Value {
    json!({"error": {
        "message": message, "type": "invalid_request_error", "param": null,
        "code": status.to_string(),
    }})
}

/// `GET /hub/status` of a hub with one model in every state that has a look of its own.
pub(crate) fn status(port: u16) -> Value {
    json!({
        "status": "ok", "timestamp": 1_764_000_000, "host": "127.0.0.1", "port": port,
        "counts": {"registered": 4, "started": 2, "loaded": 1},
        "warnings": ["model `b`: the worker has no option `kv_bits`"],
        "controller_available": true, "groups": [],
        "models": [
            model("c", &json!({"process_state": "failed", "memory_state": "failed", "exit_code": 1,
                "stopped_at": 1_764_000_000.0, "memory_last_error": "out of memory",
                "default": true})),
            model("b", &json!({"process_state": "running", "memory_state": "loaded", "pid": 4321,
                "port": 47850, "started_at": long_ago(), "default": true})),
            model("a", &json!({"process_state": "running", "group": "small",
                "auto_unload_minutes": 60, "log_path": null})),
            model("d", &json!({"process_state": "stopped", "exit_code": 0})),
        ],
    })
}

/// One hour, five minutes and a few seconds.
fn long_ago() -> f64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    now.as_secs_f64() - 3905.0
}

/// One model, with `facts` over those of a model that was never started.
pub(crate) fn model(name: &str, facts: &Value) -> Value {
    let mut metadata = json!({
        "status": "inactive", "process_state": "inactive", "memory_state": "unloaded",
        "memory_last_transition_at": null, "memory_last_error": null, "last_load_at": null,
        "last_unload_at": null, "last_request_at": null, "active_requests": 0,
        "waiting_requests": 0, "parked_requests": 0, "group": null, "default": false, "jit_enabled": false,
        "model_type": "lm", "model_path": format!("org/{name}"),
        "log_path": format!("/var/log/hub/{name}.log"), "pid": null, "port": null,
        "started_at": null, "stopped_at": null, "exit_code": null, "auto_unload_minutes": null,
    });
    for (key, value) in facts.as_object().unwrap() {
        metadata[key] = value.clone();
    }
    metadata["status"] = metadata["process_state"].clone();
    json!({"id": name, "object": "model", "created": 1_764_000_000, "owned_by": "hub",
        "metadata": metadata})
}
