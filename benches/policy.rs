//! What the policies cost a request: `cargo bench --bench policy`.
//!
//! The world answers as the registry of a running hub does, from a map. The last line is no time: it is
//! the memory of the Lua state over ten million calls, which must not grow.

#![expect(
    missing_docs,
    reason = "the macro of criterion makes a public function"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use mlx_openai_server_hub::config::Settings;
use mlx_openai_server_hub::memory::SystemMemory;
use mlx_openai_server_hub::policy::{
    Event, GroupView, ModelView, Parked, Policies, RequestVerdict, RequestView, World,
};
use mlx_openai_server_hub::status::{Activity, ModelFacts, ProcessState};

/// So many models that are started.
struct Hub {
    models: HashMap<String, ModelView>,
}

impl Hub {
    fn new(models: usize) -> Arc<Self> {
        let models = (0..models).map(|number| {
            let facts = ModelFacts {
                name: format!("model_{number}"),
                model_path: format!("org/model-{number}"),
                model_type: "lm",
                process_state: ProcessState::Running,
                ..ModelFacts::default()
            };
            let view = ModelView {
                facts: Arc::new(facts),
                activity: Activity::default(),
                idle_seconds: 0.0,
                settings: Arc::default(),
                loaded_seconds: None,
                memory_bytes: None,
                peak_bytes: None,
            };
            (view.facts.name.clone(), view)
        });
        Arc::new(Self {
            models: models.collect(),
        })
    }
}

impl World for Hub {
    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        self.models.get(name_or_path).cloned()
    }

    fn facts(&self, name_or_path: &str) -> Option<Arc<ModelFacts>> {
        let model = self.models.get(name_or_path)?;
        Some(Arc::clone(&model.facts))
    }

    fn model_names(&self) -> Vec<String> {
        self.models.keys().cloned().collect()
    }

    fn group(&self, _: &str) -> Option<GroupView> {
        None
    }

    fn group_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn memory(&self) -> SystemMemory {
        SystemMemory::default()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::default()
    }

    fn clock(&self) -> f64 {
        1_764_000_000.0
    }
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
        model: "model_2".to_owned(),
        client: ([127, 0, 0, 1], 50_000).into(),
        body: None,
        parked: Parked::default(),
    })
}

/// Policies of these files, in a hub of so many models.
fn policies(files: &[(&str, &str)], models: usize) -> Policies {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, source) in files {
        std::fs::write(folder.path().join(name), source).expect("a file");
    }
    let policies = Policies::load(folder.path(), &[], Hub::new(models));
    assert_eq!(policies.warnings(), [""; 0]);
    policies
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

fn costs(criterion: &mut Criterion) {
    let mut measure = |name: &str, policies: &Policies| {
        policies.observe_now(&Event::config_reloaded());
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
    measure("reads nothing", &policies(&[("a.lua", READS_NOTHING)], 3));
    measure("reads req.model", &policies(&[("a.lua", READS_MODEL)], 3));
    measure(
        "reads req.model, no verdict",
        &policies(&[("a.lua", ABSTAINS)], 3),
    );
    measure("reads hub.state", &policies(&[("a.lua", READS_STATE)], 3));
    measure("plain find", &policies(&[("a.lua", FINDS_PLAIN)], 3));
    measure("match", &policies(&[("a.lua", MATCHES)], 3));
    measure("bundled, 3 models", &policies(&[], 3));
    measure("bundled, 100 models", &policies(&[], 100));
    let five = ["a.lua", "b.lua", "c.lua", "d.lua", "e.lua"].map(|name| (name, USUAL));
    measure("bundled and five more, 100 models", &policies(&five, 100));
}

/// The bundled rule without Lua: the model is found and its state looked at.
fn no_lua(criterion: &mut Criterion) {
    let hub = Hub::new(100);
    let view = request();
    criterion.bench_function("no Lua at all, 100 models", |bencher| {
        bencher.iter(|| match hub.model(black_box(&view.model)) {
            Some(model) if model.facts.process_state == ProcessState::Running => {
                RequestVerdict::Pass
            }
            _ => RequestVerdict::NeedBody,
        });
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
    let policies = policies(&[("a.lua", USUAL)], 100);
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

criterion_group!(benches, costs, no_lua, memory);
criterion_main!(benches);
