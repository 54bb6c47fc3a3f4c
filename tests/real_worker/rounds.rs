//! Rounds of what may happen to two real workers at once: requests, kills of their processes and of
//! the daemon, `restart`, `stop`. After each step the status says what the process table says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::census::Census;
use crate::models::{LOAD, home_with_two, real_worker};
use crate::support::home::Home;
use crate::support::http::{self, Answer, Reply};
use crate::support::{SOON, processes, wait_for, wait_until};

const MODELS: [&str; 2] = ["plain", "jit"];
/// At most so many; each has everything.
const ROUNDS: usize = 3;
/// No round but the first begins later: a busy machine takes a minute for one.
const ENOUGH: Duration = Duration::from_secs(45);

/// A server whose model process was killed may take requests and do nothing about them.
const STALL: &str = "stall_timeout: 5\n";

/// Few enough to be said in a second or two.
pub(crate) const SOME: u32 = 20;
/// More than a tiny model says while a test looks on.
pub(crate) const ENDLESS: u32 = 100_000;

#[test]
fn rounds_of_kills_and_restarts_with_two_real_workers() {
    let Some(worker) = real_worker() else { return };
    let home = home_with_two(worker);
    home.configure_two(STALL);
    let mut rounds = Rounds {
        census: Census::of(&home, &MODELS),
        home: &home,
        totals: BTreeMap::new(),
    };
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round > 0 && began.elapsed() > ENOUGH {
            break;
        }
        // Each model is once the one that is hit first.
        let (one, other) = (MODELS[round % 2], MODELS[(round + 1) % 2]);
        rounds.start();
        rounds.requests();
        rounds.kill_leader(one);
        rounds.kill_model_process(other);
        rounds.unload_and_load(one);
        rounds.kill_daemon();
        rounds.restart(other);
        rounds.stop();
        rounds.count("round");
    }
    rounds.print(began.elapsed());
}

struct Rounds<'a> {
    home: &'a Home,
    census: Census,
    totals: BTreeMap<String, usize>,
}

impl Rounds<'_> {
    fn count(&mut self, what: impl Into<String>) {
        *self.totals.entry(what.into()).or_default() += 1;
    }

    #[expect(clippy::print_stdout, reason = "the totals are for who runs the test")]
    fn print(&self, took: Duration) {
        let workers = self.census.groups().len();
        println!("{workers} workers in {took:.0?}:");
        for (what, count) in &self.totals {
            println!("{count:>4} {what}");
        }
    }

    fn start(&mut self) {
        self.home.said(&["start"]);
        self.count("start");
        wait_until("plain to be loaded", LOAD, || {
            self.home.states("plain").1 == "loaded"
        });
    }

    /// A plain chat and a stream on each model at the same time.
    fn requests(&mut self) {
        let home = self.home;
        std::thread::scope(|scope| {
            for model in MODELS {
                scope.spawn(move || assert_eq!(home.ask(model), 200, "{model}"));
                scope.spawn(move || home.stream(model, SOME).said());
            }
        });
        for _ in MODELS {
            self.count("chat: answered");
            self.count("stream: whole");
        }
        self.check();
    }

    /// The model comes back by itself or with the next request.
    fn kill_leader(&mut self, model: &str) {
        let pid = self.home.pid_of(model);
        let mut events = self.home.stream(model, ENDLESS).events();
        events.next().expect("an event").expect("a stream");
        processes::send(pid, Signal::SIGKILL);
        self.count("kill: leader");
        let rest: Vec<_> = events.collect();
        self.count(cut(&rest));
        wait_until("its group to be gone", SOON, || {
            processes::members(pid).is_empty()
        });
        self.answers_again(model);
        assert_ne!(self.home.pid_of(model), pid);
    }

    /// The server answers `/health` all the same, and the next chat is its or the hub's to save.
    fn kill_model_process(&mut self, model: &str) {
        let pid = self.home.pid_of(model);
        let members = processes::members(pid);
        assert_eq!(members.len(), 3, "server, tracker, model");
        let youngest = *members.iter().max().expect("three");
        assert_ne!(youngest, pid);
        processes::send(youngest, Signal::SIGKILL);
        wait_until("it to be gone", SOON, || !processes::is_alive(youngest));
        self.count("kill: model process");
        self.answers_again(model);
        let who = if self.home.pid_of(model) == pid {
            "model process: replaced by its server"
        } else {
            "model process: replaced with its server"
        };
        self.count(who);
    }

    /// Until it does, a request fails as errors do.
    fn answers_again(&mut self, model: &str) {
        wait_until("the model to come back", LOAD, || {
            let status = self.home.ask(model);
            self.count(match status {
                200 => "chat: answered".to_owned(),
                status => format!("chat: {status}"),
            });
            status == 200
        });
        self.check();
    }

    fn unload_and_load(&mut self, model: &str) {
        let pid = self.home.pid_of(model);
        self.home.said(&["unload-model", model]);
        self.count("unload");
        assert_eq!(processes::members(pid), [0; 0]);
        self.home.assert_states(model, "running", "unloaded");
        self.check();
        self.home.said(&["load-model", model]);
        self.count("load");
        self.home.assert_states(model, "running", "loaded");
        self.check();
    }

    /// The next daemon finds both workers as they are.
    fn kill_daemon(&mut self) {
        let before = MODELS.map(|model| self.home.pid_of(model));
        let daemon = self.home.daemon();
        processes::send(daemon, Signal::SIGKILL);
        wait_until("the daemon to be gone", SOON, || {
            !processes::is_alive(daemon)
        });
        self.home.said(&["start"]);
        self.count("kill: daemon");
        self.both_are_as_before(before);
    }

    fn restart(&mut self, model: &str) {
        let before = MODELS.map(|model| self.home.pid_of(model));
        let daemon = self.home.daemon();
        let home = self.home;
        std::thread::scope(|scope| {
            let stream = home.stream(model, SOME * 5);
            let client = scope.spawn(move || stream.said());
            home.said(&["restart"]);
            client.join().expect("a whole stream");
        });
        self.count("restart");
        self.count("stream: whole");
        assert_ne!(self.home.daemon(), daemon);
        self.both_are_as_before(before);
    }

    fn both_are_as_before(&mut self, pids: [u32; 2]) {
        for (model, pid) in MODELS.iter().zip(pids) {
            wait_until("it to be known as loaded", SOON, || {
                self.home.states(model).1 == "loaded"
            });
            assert_eq!(self.home.pid_of(model), pid, "{model}");
            assert_eq!(self.home.ask(model), 200, "{model}");
            assert_eq!(self.home.pid_of(model), pid, "{model}");
            self.count("worker: adopted");
            self.count("chat: answered");
        }
        self.check();
    }

    fn stop(&mut self) {
        self.home.said(&["stop"]);
        self.count("stop");
        assert!(self.home.http.try_get("/health").is_err());
        self.census.assert_groups(&BTreeSet::new());
        assert_eq!(self.home.processes(), Vec::<String>::new());
    }

    /// When all is at rest, each worker is the one the status names, and there is no other.
    fn check(&mut self) {
        let said = wait_for("the models to be at rest", SOON, || {
            let status = self.home.http.hub_status();
            let models = status["models"].as_array()?.clone();
            models.iter().all(is_at_rest).then_some(models)
        });
        let mut leaders = BTreeSet::new();
        for model in said {
            let of = &model["metadata"];
            let pid = of["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            assert_eq!(pid.is_some(), of["memory_state"] == "loaded", "{model}");
            leaders.extend(pid);
        }
        self.census.assert_groups(&leaders);
        self.count("check: the status is what the process table says");
    }
}

fn is_at_rest(model: &Value) -> bool {
    let of = &model["metadata"];
    let moves = ["starting", "stopping", "loading", "unloading"];
    let moves = |key: &str| moves.iter().any(|word| of[key] == *word);
    !moves("process_state") && !moves("memory_state") && of["active_requests"] == 0
}

/// How a stream ended whose worker was killed: not as if all was well.
pub(crate) fn cut(rest: &[std::io::Result<String>]) -> &'static str {
    let whole: Vec<&String> = rest
        .iter()
        .filter_map(|event| event.as_ref().ok())
        .collect();
    let last = whole.last().map_or("", |last| last.as_str());
    let is_error = serde_json::from_str::<Value>(last)
        .is_ok_and(|event| event["error"]["message"].is_string());
    match rest.last() {
        _ if is_error => "stream: error event",
        Some(Err(_)) => "stream: cut",
        _ => panic!("a clean end after {last:?}"),
    }
}

impl Home {
    /// The status of a short chat, which is 200 or has an error in the OpenAI form.
    fn ask(&self, model: &str) -> u16 {
        let answer = self.chat(model, SOME);
        let body = answer.json();
        if answer.status == 200 {
            assert_eq!(body["choices"][0]["message"]["role"], "assistant", "{body}");
        } else {
            assert!(body["error"]["message"].is_string(), "{body}");
        }
        answer.status
    }

    pub(crate) fn chat(&self, model: &str, tokens: u32) -> Answer {
        self.http.post(CHAT, &chat(model, false, tokens))
    }

    pub(crate) fn stream(&self, model: &str, tokens: u32) -> Reply {
        let reply = self.http.open(CHAT, &chat(model, true, tokens));
        assert_eq!(reply.status, 200, "{model}");
        reply
    }

    #[track_caller]
    pub(crate) fn pid_of(&self, model: &str) -> u32 {
        let pid = self.model(model)["pid"].as_u64();
        u32::try_from(pid.expect("a worker")).unwrap()
    }

    pub(crate) fn daemon(&self) -> u32 {
        let file = self.base().join("logs/hub_runtime.json");
        let runtime: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        u32::try_from(runtime["pid"].as_u64().unwrap()).unwrap()
    }
}

const CHAT: &str = "/v1/chat/completions";

/// A tiny model that does not roll dice goes on until the tokens are used up.
fn chat(model: &str, stream: bool, tokens: u32) -> Value {
    let mut body = http::chat(model, "hello", stream);
    body["max_tokens"] = tokens.into();
    body["temperature"] = 0.into();
    body
}
