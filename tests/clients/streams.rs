//! Any stream of a worker is one that the parsers of the official clients accept, and they hear what the worker said.

use std::path::Path;

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::chat_streams::{Plan, plans};
use crate::support::{Hub, stub};
use crate::{is_there, said_by, target};

/// Streams that each client reads.
const COUNT: usize = 150;

/// What a client has heard of a stream.
#[derive(Debug, Deserialize)]
struct Heard {
    text: String,
    thinking: String,
    /// Name and arguments of each call.
    calls: Vec<(String, String)>,
    /// Tokens of the prompt and of the answer.
    usage: Option<(u64, u64)>,
    error: Option<String>,
}

/// A stream on its way.
#[derive(Debug)]
struct Sent {
    plan: Plan,
    /// No more than a part of it arrives.
    is_cut: bool,
}

/// Streams of a seed, which `STREAMS_SEED` may name.
#[expect(
    clippy::print_stdout,
    reason = "a test that fails says how to repeat it"
)]
fn streams() -> Vec<Sent> {
    let named = std::env::var("STREAMS_SEED").map(|seed| seed.parse().unwrap());
    let seed: u64 = named.unwrap_or_else(|_| fastrand::u64(..));
    println!("STREAMS_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut bytes = [0; 32];
    rng.fill(&mut bytes);
    let rng_of_plans = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng_of_plans);
    let stream = |number| {
        let plan = plans().new_tree(&mut runner).unwrap().current();
        let is_cut = number % 3 == 2;
        Sent {
            plan: match is_cut {
                true => plan.cut_off(rng.usize(..)),
                false => plan,
            },
            is_cut,
        }
    };
    (0..COUNT).map(stream).collect()
}

/// A hub whose model streams what stands in that folder.
fn hub(folder: &Path, streams: &[Sent]) -> Hub {
    for (number, sent) in streams.iter().enumerate() {
        // Every other one that is cut looks as if it had ended.
        let breaks_off = sent.is_cut && number % 2 == 0;
        let written = json!({"pieces": sent.plan.pieces(), "breaks_off": breaks_off});
        std::fs::write(folder.join(number.to_string()), written.to_string()).unwrap();
    }
    let worker = stub(&["--dialect", "jit", "--streams", folder.to_str().unwrap()]);
    Hub::start(&format!(
        "models:\n- {{name: m, model_path: org/m, default: true, worker_command: {worker}}}\n"
    ))
}

impl Heard {
    /// Panics unless this is what the worker said, or, of a stream that is cut, its beginning and an error.
    fn is_of(&self, sent: &Sent) {
        let plan = &sent.plan;
        if self.error.is_some() {
            assert!(sent.is_cut, "{self:?}\n{plan:?}");
            assert!(plan.text.starts_with(&self.text), "{self:?}\n{plan:?}");
            assert!(
                plan.thinking.starts_with(&self.thinking),
                "{self:?}\n{plan:?}"
            );
            let names = self.calls.iter().zip(&plan.calls);
            assert!(self.calls.len() <= plan.calls.len(), "{self:?}\n{plan:?}");
            for ((name, arguments), (planned, whole)) in names {
                let is_begun = whole.starts_with(arguments) || same_json(arguments, whole);
                assert!(name == planned && is_begun, "{self:?}\n{plan:?}");
            }
            return;
        }
        let said = (&self.text, &self.thinking);
        assert_eq!(said, (&plan.text, &plan.thinking), "{plan:?}");
        assert_eq!(self.calls.len(), plan.calls.len(), "{self:?}\n{plan:?}");
        for ((name, arguments), (planned, whole)) in self.calls.iter().zip(&plan.calls) {
            assert!(
                name == planned && same_json(arguments, whole),
                "{self:?}\n{plan:?}"
            );
        }
        if !sent.is_cut {
            assert_eq!(self.usage, Some((11, 5)), "{plan:?}");
        }
    }
}

fn same_json(one: &str, other: &str) -> bool {
    let read = |text| serde_json::from_str::<Value>(text).ok();
    read(one).is_some_and(|one| Some(one) == read(other))
}

/// Has a client read all streams.
fn hears(program: &Path, script: &str, client: &str, folder: Option<&Path>) {
    let mut streams = streams();
    if client == "generate" {
        // It has no calls.
        streams.iter_mut().for_each(|sent| sent.plan.calls.clear());
    }
    let written = tempfile::tempdir().unwrap();
    let hub = hub(written.path(), &streams);
    let count = COUNT.to_string();
    let arguments = [Path::new(client), Path::new(&count)];
    let arguments: Vec<_> = arguments.into_iter().chain(folder).collect();
    let said = said_by(&hub, program, &arguments, script);
    let heard: Vec<Heard> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(heard.len(), COUNT);
    for (heard, sent) in heard.iter().zip(&streams) {
        heard.is_of(sent);
    }
    let whole = heard.iter().filter(|heard| heard.error.is_none()).count();
    assert!((COUNT * 2 / 3..COUNT).contains(&whole), "{whole} are whole");
}

fn python_hears(client: &str) {
    let python = target("python-clients/bin/python");
    if is_there("the Python clients of other APIs", &python) {
        hears(&python, "tests/support/streams.py", client, None);
    }
}

fn node_hears(client: &str, folder: &str) {
    let folder = target(folder);
    if is_there("the Node clients", &folder) {
        let node = Path::new("node");
        hears(node, "tests/support/streams.mjs", client, Some(&folder));
    }
}

#[test]
fn anthropics_python_client_hears_what_the_worker_said() {
    python_hears("messages");
}

#[test]
fn the_python_client_of_responses_hears_what_the_worker_said() {
    python_hears("responses");
}

#[test]
fn ollamas_python_client_hears_what_the_worker_said() {
    python_hears("chat");
    python_hears("generate");
}

#[test]
fn anthropics_node_client_hears_what_the_worker_said() {
    node_hears("messages", "node-clients");
}

#[test]
fn the_node_client_of_responses_hears_what_the_worker_said() {
    node_hears("responses", "openai-node");
}

#[test]
fn ollamas_node_client_hears_what_the_worker_said() {
    node_hears("chat", "node-clients");
}
