//! What the policies cost a request: `cargo bench --bench policy`.
//!
//! The world is that of a hub whose models are said to run, and of which nothing was started. The last
//! line is no time: it is the memory of the Lua state over ten million calls, which must not grow.

#![expect(
    missing_docs,
    reason = "the macro of criterion makes a public function"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use mlx_openai_server_hub::api::{MemoryState, ModelFacts, ProcessState};
use mlx_openai_server_hub::config::Config;
use mlx_openai_server_hub::config::ports::PortBook;
use mlx_openai_server_hub::hub::lifecycle::{Learned, Lifecycle};
use mlx_openai_server_hub::policy::{Event, Parked, RequestVerdict, RequestView};
use mlx_openai_server_hub::telemetry::Troubles;
use tokio::time::Instant;

/// A hub with these policies and so many models, each loaded for an hour.
fn hub(files: &[(&str, &str)], models: usize) -> Lifecycle {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, source) in files {
        std::fs::write(folder.path().join(name), source).expect("a file");
    }
    let mut yaml = "models:\n".to_owned();
    for number in 0..models {
        writeln!(
            yaml,
            "- {{name: model_{number}, model_path: org/model-{number}}}"
        )
        .expect("a text takes what is written");
    }
    let path = folder.path().join("hub.yaml");
    std::fs::write(&path, yaml).expect("a file");
    let config = Config::load(&path).expect("a configuration");
    let learned = Learned::recall(folder.path());
    let (hub, _) = Lifecycle::new(
        config,
        PortBook::new(8000, 9000),
        learned,
        Troubles::default(),
        tokio::time::Instant::now(),
    );
    for model in hub.models() {
        let facts = ModelFacts {
            process_state: ProcessState::Running,
            memory_state: MemoryState::Loaded,
            loaded_since: Some(Duration::ZERO),
            last_load_at: Some(1_764_000_000.0),
            pid: Some(1),
            ..ModelFacts::clone(&model.facts.load())
        };
        model.facts.store(Arc::new(facts));
    }
    assert_eq!(hub.policies().warnings(), [""; 0]);
    hub
}

fn request() -> Box<RequestView> {
    let (parts, ()) = http::Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .header("content-length", "300")
        .header("host", "127.0.0.1:8000")
        .body(())
        .expect("a request")
        .into_parts();
    Box::new(RequestView {
        parts,
        id: http::HeaderValue::from_static("5f3c"),
        model: Some("model_2".to_owned()),
        client: ([127, 0, 0, 1], 50_000).into(),
        via: None,
        credential: None,
        protocol: RequestView::OPENAI,
        keep_alive: None,
        body: None,
        parked: Parked::default(),
    })
}

/// Returns a verdict that was made once.
const READS_MODEL: &str = "local there = hub.route{ model = 'model_1' }
return { on_request = function(req) if req.model ~= 'auto' then return there end end }";

const ABSTAINS: &str = "return { on_request = function(req)
  if req.model == 'auto' then return hub.route{ model = 'model_1' } end
end }";

const READS_STATE: &str = "local there = hub.route{ model = 'model_1' }
hub.on('config.reloaded', function(_, hub) hub.state.wanted = 'model_2' end)
return { on_request = function(req, hub) if hub.state.wanted ~= 'auto' then return there end end }";

const READS_NOTHING: &str = "local there = hub.route{ model = 'model_1' }
return { on_request = function() return there end }";

/// What a user's policy looks at, without a verdict.
const USUAL: &str = "return { on_request = function(req, hub)
  if req.model == 'auto' or req.headers['x-tier'] == 'gold' then
    return hub.route{ model = 'model_1' }
  end
end }";

const FINDS_PLAIN: &str = "local there = hub.route{ model = 'model_1' }
local text = ('abc '):rep(20) .. 'x'
return { on_request = function() if text:find('x', 1, true) then return there end end }";

const MATCHES: &str = "local there = hub.route{ model = 'model_1' }
return { on_request = function() if ('qwen3_30b_a3b'):match('^[%w_]+$') then return there end end }";

/// Looks at what changes by the moment.
const READS_COUNTERS: &str = "return { on_request = function(req, hub)
  local model = hub.models[req.model]
  if model and model.active + model.waiting > 1000 and model.idle_seconds > 0 then
    return hub.route{ model = 'model_1' }
  end
end }";

/// Looks at every model: the one kind of policy here whose cost grows with them.
const LISTS: &str = "local there = hub.route{ model = 'model_1' }
return { on_request = function(req, hub)
  local running = 0
  for _, model in pairs(hub.models) do
    if model.process_state == 'running' then running = running + 1 end
  end
  if running > 0 then return there end
end }";

fn costs(criterion: &mut Criterion) {
    let mut measure = |name: &str, hub: &Lifecycle| {
        let policies = hub.policies();
        policies.observe_now(&Event::config_reloaded(0.0));
        let mut view = Some(request());
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (back, verdict) = policies.on_request(view.take().expect("given back"));
                view = Some(back);
                verdict
            });
        });
        assert_eq!(policies.warnings(), [""; 0]);
    };
    measure("reads nothing", &hub(&[("a.lua", READS_NOTHING)], 3));
    measure("reads req.model", &hub(&[("a.lua", READS_MODEL)], 3));
    measure(
        "reads req.model, no verdict",
        &hub(&[("a.lua", ABSTAINS)], 3),
    );
    measure("reads hub.state", &hub(&[("a.lua", READS_STATE)], 3));
    measure(
        "reads counters, no verdict",
        &hub(&[("a.lua", READS_COUNTERS)], 3),
    );
    measure("plain find", &hub(&[("a.lua", FINDS_PLAIN)], 3));
    measure("match", &hub(&[("a.lua", MATCHES)], 3));
    measure("lists models, 3 models", &hub(&[("a.lua", LISTS)], 3));
    measure("lists models, 100 models", &hub(&[("a.lua", LISTS)], 100));
    measure("bundled, 3 models", &hub(&[], 3));
    measure("bundled, 100 models", &hub(&[], 100));
    let five = ["a.lua", "b.lua", "c.lua", "d.lua", "e.lua"].map(|name| (name, USUAL));
    measure("bundled and five more, 100 models", &hub(&five, 100));
}

/// The bundled rule without Lua: the model is found and its state looked at.
fn no_lua(criterion: &mut Criterion) {
    let hub = hub(&[], 100);
    let view = request();
    criterion.bench_function("no Lua at all, 100 models", |bencher| {
        bencher.iter(
            || match hub.find(black_box(view.model.as_deref().unwrap_or_default())) {
                Some(model) if model.facts.load().process_state == ProcessState::Running => {
                    RequestVerdict::Pass
                }
                _ => RequestVerdict::NeedBody,
            },
        );
    });
}

/// Ten million calls, and the memory after each million. `--test` makes it a thousand, `--profile-time`
/// leaves it out.
fn memory(_: &mut Criterion) {
    if std::env::args().any(|argument| argument == "--profile-time") {
        return;
    }
    let is_test = std::env::args().any(|argument| argument == "--test");
    let million = if is_test { 1_000 } else { 1_000_000 };
    let hub = hub(&[("a.lua", USUAL)], 100);
    let policies = hub.policies();
    let mut view = Some(request());
    let mut after = Vec::new();
    for _ in 0..10 {
        for _ in 0..million {
            view = view.map(|view| policies.on_request(view).0);
        }
        after.push(policies.memory_bytes() >> 10);
    }
    let report = format!(
        "memory in KiB after each tenth of {} calls: {after:?}\n",
        10 * million
    );
    std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes()).expect("a place to write");
    let grown = after.iter().max() > Some(&(after[0] * 2 + 1024));
    assert!(!grown, "{report}");
}

/// Uses up its time, if a client says so.
const BURNS: &str = "return { on_request = function(req)
  while req.model == 'burn' do end
end }";

/// How long a request waits for its verdict while a policy uses up its 50 ms for one after the other.
fn beside_a_burner(_: &mut Criterion) {
    if std::env::args().any(|argument| argument == "--profile-time") {
        return;
    }
    let is_test = std::env::args().any(|argument| argument == "--test");
    let hub = hub(&[("a.lua", BURNS)], 3);
    let is_over = AtomicBool::new(false);
    let mut waits = thread::scope(|scope| {
        scope.spawn(|| {
            let mut view = request();
            view.model = Some("burn".to_owned());
            while !is_over.load(Ordering::Relaxed) {
                view = hub.policies().on_request(view).0;
            }
        });
        let waits = (0..if is_test { 2 } else { 100 }).map(|_| {
            // As a client that sends one request after the other.
            thread::sleep(Duration::from_millis(5));
            let begun = Instant::now();
            hub.policies().on_request(request());
            begun.elapsed()
        });
        let waits: Vec<_> = waits.collect();
        is_over.store(true, Ordering::Relaxed);
        waits
    });
    waits.sort();
    let (median, longest) = (waits[waits.len() / 2], waits[waits.len() - 1]);
    let report =
        format!("beside a policy that uses up its 50 ms: median {median:?}, longest {longest:?}\n");
    std::io::Write::write_all(&mut std::io::stdout(), report.as_bytes()).expect("a place to write");
}

criterion_group!(benches, costs, no_lua, memory, beside_a_burner);
criterion_main!(benches);
