//! The hub under test: its configurations, its daemon that comes and goes, and when it is known to be
//! there.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::http::Http;
use crate::support::processes::ENGINE_PROGRAMS;
use crate::support::record::Record;
use crate::support::{Hub, stub};

/// Every model of any configuration.
pub(crate) const MODELS: [&str; 10] = [
    "plain",
    "lazy",
    "resident",
    "loaded",
    "slow",
    "shaky",
    "gguf",
    "vision",
    "any_program",
    "comes_and_goes",
];

/// What `model` answers to "hello" has this in it: the simulated worker repeats the prompt.
pub(crate) fn answer_of(model: &str) -> &'static str {
    match model {
        "gguf" | "vision" => "word word word",
        _ => "hello",
    }
}

/// hub.yaml number `which` of [`CONFIGURATIONS`]: with or without the last model, with one setting or
/// another of `lazy` and `resident`, with a smaller or a larger group.
pub(crate) fn configuration(which: usize) -> String {
    let tokens = [
        "--tokens",
        "30",
        "--token-ms",
        "10",
        "--linger-seconds",
        "3",
    ];
    let worker = |knobs: &[&str]| stub(&[&tokens, knobs].concat());
    let standin = |program| format!("[python3, {ENGINE_PROGRAMS:?}, {program}]");
    let context = 1024 + which / 2 % 2;
    let loaded = 2 + which % 2;
    let last = if which < 2 {
        "- {name: comes_and_goes, model_path: org/comes_and_goes, default: true}\n"
    } else {
        ""
    };
    format!(
        "drain_timeout: 2\nstop_timeout: 2\nworker_command: {}\n\
         groups: [{{name: few, max_loaded: {loaded}}}]\n\
         models:\n\
         - {{name: plain, model_path: org/plain, default: true, group: few}}\n\
         - {{name: lazy, model_path: org/lazy, default: true, jit_enabled: true, group: few, context_length: {context}}}\n\
         - {{name: resident, model_path: org/resident, default: true, jit_enabled: true, group: few, context_length: {context}, worker_command: {}}}\n\
         - {{name: loaded, model_path: org/loaded, default: true, worker_command: {}}}\n\
         - {{name: slow, model_path: org/slow, jit_enabled: true, group: few, worker_command: {}}}\n\
         - {{name: shaky, model_path: org/shaky, default: true, jit_enabled: true, worker_command: {}}}\n\
         - {{name: gguf, engine: llama_server, model_path: org/gguf, default: true, jit_enabled: true, group: few, worker_command: {}}}\n\
         - {{name: vision, engine: mlx_vlm, model_path: org/vision, default: true, jit_enabled: true, worker_command: {}}}\n\
         - {{name: any_program, engine: command, model_path: org/any_program, jit_enabled: true, served_name: any_program, command: {}}}\n{last}",
        worker(&["--load-seconds", "0.2"]),
        worker(&["--dialect", "jit", "--load-seconds", "0.1"]),
        worker(&["--dialect", "jit", "--grandchild", "ordinary"]),
        worker(&[
            "--load-seconds",
            "1",
            "--exit-seconds",
            "0.2",
            "--ignore-sigterm"
        ]),
        worker(&[
            "--dialect",
            "jit",
            "--crash-on-request",
            "7",
            "--exit-code",
            "3"
        ]),
        standin("llama-server"),
        standin("mlx_vlm.server"),
        worker(&[
            "--dialect",
            "1.8.1",
            "launch",
            "--model-path",
            "{model_path}",
            "--host",
            "{host}",
            "--port",
            "{port}",
            "--served-model-name",
            "any_program",
        ]),
    )
}

pub(crate) const CONFIGURATIONS: usize = 4;

/// What all threads share.
pub(crate) struct World {
    /// Only who ends or starts the daemon writes; who replaces it reads, since nobody is to notice.
    pub(crate) hub: RwLock<Hub>,
    pub(crate) http: Http,
    pub(crate) record: Record,
    /// Odd while the daemon is not to be relied on: killed, or ending, and not healthy again.
    outages: AtomicU64,
    over: AtomicBool,
    end: Instant,
}

impl World {
    pub(crate) fn new(length: Duration, seed: u64) -> Self {
        // Its first life: a daemon that was killed comes back in the foreground.
        let hub = match seed % 2 {
            0 => Hub::start(&configuration(0)),
            _ => Hub::start_in_background(&configuration(0)),
        };
        Self {
            http: hub.http,
            record: hub.record.clone(),
            hub: RwLock::new(hub),
            outages: AtomicU64::new(0),
            over: AtomicBool::new(false),
            end: Instant::now() + length,
        }
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed) && Instant::now() < self.end
    }

    /// Ends all threads early.
    pub(crate) fn give_up(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Runs `work`, during which connections may break.
    pub(crate) fn during_outage<T>(&self, work: impl FnOnce(&mut Hub) -> T) -> T {
        let mut hub = self.hub.write().expect("no thread has panicked");
        self.outages.fetch_add(1, Ordering::SeqCst);
        let done = work(&mut hub);
        self.outages.fetch_add(1, Ordering::SeqCst);
        done
    }

    /// To be compared with a later one: whether there was an outage between them.
    pub(crate) fn watch(&self) -> Watch<'_> {
        let outages = self.outages.load(Ordering::SeqCst);
        Watch {
            world: self,
            outages,
        }
    }
}

pub(crate) struct Watch<'a> {
    world: &'a World,
    outages: u64,
}

impl Watch<'_> {
    /// Whether the hub was there all the time since this watch began.
    pub(crate) fn was_calm(&self) -> bool {
        self.outages.is_multiple_of(2) && self.world.outages.load(Ordering::SeqCst) == self.outages
    }
}
