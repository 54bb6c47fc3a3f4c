//! Restarts in a row under clients of every kind: no connection is refused, no answer is cut or late, no
//! worker is there twice.
//!
//! `SURVIVE_RESTARTS` says how many (in the background, with streams of 20 s when there are 100 or more).
//! The figures are printed.

use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::http::{Http, Reply, chat};
use crate::support::{Hub, SOON, processes, wait_until};
use crate::{models, worker};

/// Without `SURVIVE_RESTARTS`.
const RESTARTS: usize = 6;

/// What all clients found.
#[derive(Default)]
struct Findings {
    answers: AtomicUsize,
    streams: AtomicUsize,
    slowest: Mutex<Duration>,
    faults: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Findings {
    fn note(&self, whose: &str, took: Duration, answer: std::io::Result<u16>) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let mut slowest = self.slowest.lock().unwrap();
        *slowest = took.max(*slowest);
        match answer {
            Ok(200) => {}
            other => self
                .faults
                .lock()
                .unwrap()
                .push(format!("{whose}: {other:?} after {took:?}")),
        }
    }

    fn goes_on(&self) -> bool {
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// A connection that is used for one request after the other, until it is told to be closed.
struct KeptAlive {
    http: Http,
    connection: Option<TcpStream>,
}

impl KeptAlive {
    fn ask(&mut self, model: &str) -> std::io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => TcpStream::connect(("127.0.0.1", self.http.port))?,
        };
        let body = chat(model, "hello", false).to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            self.http.port,
            body.len()
        );
        connection.write_all((head + &body).as_bytes())?;
        connection.set_read_timeout(Some(SOON))?;
        let answer = Reply::read(BufReader::new(connection.try_clone()?))?.whole()?;
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Ok(answer.status)
    }
}

fn new_connections(http: Http, findings: &Findings) {
    while findings.goes_on() {
        let began = Instant::now();
        let answer = http.try_post("/v1/chat/completions", &chat("alpha", "hello", false));
        findings.note(
            "new connection",
            began.elapsed(),
            answer.map(|answer| answer.status),
        );
    }
}

fn kept_alive(http: Http, findings: &Findings) {
    let mut client = KeptAlive {
        http,
        connection: None,
    };
    while findings.goes_on() {
        let began = Instant::now();
        let answer = client.ask("alpha");
        findings.note("kept alive", began.elapsed(), answer);
    }
}

fn streams(http: Http, findings: &Findings) {
    while findings.goes_on() {
        let body = chat("beta", "hello", true).to_string();
        let headers = [("content-type", "application/json")];
        let began = Instant::now();
        let reply = http.send("POST", "/v1/chat/completions", &headers, body.as_bytes());
        let took = began.elapsed();
        let Ok(reply) = reply else {
            findings.note("stream", took, reply.map(|reply| reply.status));
            continue;
        };
        findings.note("stream", took, Ok(reply.status));
        let events: Result<Vec<_>, _> = reply.events().collect();
        findings.streams.fetch_add(1, Ordering::Relaxed);
        match events {
            Ok(events) if events.last().is_some_and(|last| last == "[DONE]") => {}
            other => {
                let mut faults = findings.faults.lock().unwrap();
                faults.push(format!("a stream was cut: {other:?}"));
            }
        }
    }
}

#[test]
fn restarts_under_load_refuse_cut_and_double_nothing() {
    let restarts = std::env::var("SURVIVE_RESTARTS").ok();
    let restarts = restarts.and_then(|restarts| restarts.parse().ok());
    let is_measured = restarts.is_some();
    let restarts = restarts.unwrap_or(RESTARTS);
    let tokens = if restarts >= 100 { "400" } else { "60" };
    let slow = worker(&["--tokens", tokens, "--token-ms", "50"]);
    let entries = [
        ("alpha", "default: true"),
        ("beta", &format!("default: true, {slow}")),
    ];
    let yaml = format!("{}\n{}", worker(&[]), models(&entries));
    for hub in [Hub::start_in_background(&yaml), Hub::start(&yaml)] {
        for model in ["alpha", "beta"] {
            hub.wait_for_state(model, "running", "loaded");
        }
        let (http, findings) = (hub.http, &Findings::default());
        let mut hubs = vec![hub.serving_pid()];
        let began = Instant::now();
        std::thread::scope(|scope| {
            for client in [new_connections, kept_alive, streams] {
                for _ in 0..3 {
                    scope.spawn(move || client(http, findings));
                }
            }
            for _ in 0..restarts {
                let restarted = hub.restart();
                if restarted.status.code() != Some(0) {
                    findings
                        .faults
                        .lock()
                        .unwrap()
                        .push(format!("{restarted:?}"));
                }
                hubs.push(hub.serving_pid());
            }
            findings.is_over.store(true, Ordering::Relaxed);
        });
        let slowest = *findings.slowest.lock().unwrap();
        let figures = format!(
            "{restarts} restarts in {:?}: {} answers and {} streams, the slowest head after {slowest:?}\n",
            began.elapsed(),
            findings.answers.load(Ordering::Relaxed),
            findings.streams.load(Ordering::Relaxed),
        );
        let _ = std::io::stderr().write_all(figures.as_bytes());
        let faults = findings.faults.lock().unwrap();
        assert!(faults.is_empty(), "{faults:#?}");
        assert_eq!(hub.record.workers().len(), 2);
        let limit = if is_measured { 250 } else { 5_000 };
        assert!(slowest < Duration::from_millis(limit), "{slowest:?}");
        hubs.dedup();
        assert_eq!(hubs.len(), restarts + 1);
        assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
        hubs.push(hub.pid());
        wait_until("every hub to be gone", SOON, || {
            !hubs.iter().any(|pid| processes::is_alive(*pid))
        });
    }
}
