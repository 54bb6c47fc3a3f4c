//! Asks every policy about samples of everything, for `policy check`, and reports failures with their lines.
//!
//! The samples are made from hub.yaml alone. Each hook is asked about every model twice: of a hub in
//! which nothing has been started, and of one in which all is loaded and idle for a day, so that both
//! sides of the usual conditions are met. It has a Lua state of its own, and no verdict is carried out.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::json;

use super::Plain;
use super::interface::hook::Hook;
use super::journal::ruling::Question;
use super::set::PolicySet;
use super::{
    DeclaredModel, Event, EventName, Exit, FinishedRequest, LoadReason, ModelEvent, ModelView,
    PendingLoad, RequestView, Trouble, TroubleKind, Unstarted, World, bundled,
};
use crate::api::{MemoryState, PolicyFacts, ProcessState, SystemMemory, unix_now};
use crate::config::{Config, ModelConfig, ModelType};
use crate::sandbox::errors::place;
use crate::sandbox::wording::did_you_mean;

/// Time for which every model of the second hub has been loaded and idle.
const A_DAY: f64 = 86_400.0;

/// Time for which a worker hangs.
const AN_HOUR: f64 = 3600.0;

/// The findings of `policy check`.
#[derive(Debug)]
pub struct Checked {
    /// The policies that load, in the order in which they are asked.
    pub policies: Vec<PolicyFacts>,
    /// The problems, each once.
    pub problems: Vec<Problem>,
}

/// A problem of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `file:line: what, and what would be right`.
    pub text: String,
    /// That line of the file.
    pub excerpt: Option<Excerpt>,
    /// The question at its first failure; `None` for a file that does not load.
    pub asked: Option<String>,
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Its number, from 1.
    pub line: usize,
    /// Without the line's end.
    pub text: String,
}

/// Loads the policies of `config` and asks them about samples. Takes some milliseconds, and at most a
/// hook's limit for each hook that never ends.
pub fn check(config: &Config) -> Checked {
    let sample = Arc::new(Sample {
        hub: Unstarted::new(config.clone()),
        is_loaded: AtomicBool::new(false),
    });
    let world: Arc<dyn World> = Arc::clone(&sample) as _;
    let set = PolicySet::load(
        config.folder(),
        None,
        bundled::SCRIPTS,
        &config.policies,
        world,
        &Plain::default(),
    );
    let mut found = Problems {
        folder: config.folder(),
        seen: HashSet::new(),
        problems: Vec::new(),
    };
    for text in set.unknown().iter().chain(set.broken()) {
        found.add(text.clone(), None);
    }
    for is_loaded in [false, true] {
        sample.is_loaded.store(is_loaded, Ordering::Relaxed);
        for model in &config.models {
            let named = request(Some(&model.name), model.model_type);
            found.add_all(set.failures_about_request(named), Hook::Request, model);
            for asked in questions(config, model) {
                found.add_all(set.failures_about(&asked), asked.hook(), model);
            }
        }
        for (policy, declared) in set.declarations() {
            let name = declared.name.as_str();
            let failures = set.failures_about_request(request(Some(name), ModelType::Lm));
            if failures.is_empty() {
                found.add_unknown(&sample.hub, policy, declared);
            }
            let asked = format!("on_request about {name}, for which {policy} answers");
            for text in failures {
                found.add(text, Some(&asked));
            }
        }
        for text in set.failures_about_request(request(None, ModelType::Lm)) {
            found.add(text, Some("on_request about a request that names no model"));
        }
    }
    for event in config.models.first().into_iter().flat_map(events) {
        let asked = format!("the observer of {}", event.name.as_str());
        for text in set.failures_about_event(&event) {
            found.add(text, Some(&asked));
        }
    }
    Checked {
        policies: set.facts(),
        problems: found.problems,
    }
}

/// The problems so far.
struct Problems<'a> {
    folder: &'a Path,
    seen: HashSet<String>,
    problems: Vec<Problem>,
}

impl Problems<'_> {
    fn add_all(&mut self, texts: Vec<String>, hook: Hook, model: &ModelConfig) {
        let asked = format!("{} about {}", hook.name(), model.name);
        for text in texts {
            self.add(text, Some(&asked));
        }
    }

    /// Adds that a declared name's model is none of `hub`.
    fn add_unknown(&mut self, hub: &Unstarted, policy: &str, declared: &DeclaredModel) {
        let Some(model) = &declared.model else { return };
        if hub.model(model).is_none() {
            let names = hub.model_names();
            let near = did_you_mean(model, names.iter().map(String::as_str));
            let name = &declared.name;
            let text =
                format!("{policy}:1: `models.{name}.model` is `{model}`, which is no model{near}");
            self.add(text, None);
        }
    }

    fn add(&mut self, text: String, asked: Option<&str>) {
        if self.seen.insert(text.clone()) {
            self.problems.push(Problem {
                excerpt: excerpt(self.folder, &text),
                asked: asked.map(str::to_owned),
                text,
            });
        }
    }
}

/// The line that a problem is about.
fn excerpt(folder: &Path, problem: &str) -> Option<Excerpt> {
    let (file, line) = place(problem)?.rsplit_once(':')?;
    let line: usize = line.parse().ok()?;
    let source = match file.strip_prefix(bundled::FOLDER) {
        Some(name) => bundled::source(name.strip_suffix(".lua")?)?.to_owned(),
        None => std::fs::read_to_string(folder.join(file)).ok()?,
    };
    let text = source.lines().nth(line.checked_sub(1)?)?;
    Some(Excerpt {
        line,
        text: text.trim_end().to_owned(),
    })
}

/// A question for each way in which a model may be loaded, be idle, end or hang.
fn questions<'a>(config: &Config, model: &'a ModelConfig) -> Vec<Question<'a>> {
    let name = model.name.as_str();
    let load = |(reason, waiting)| {
        let load = PendingLoad {
            reason,
            waiting,
            waited_seconds: 0.0,
        };
        Question::Load(name, load)
    };
    let exit = |(was_ready, crashes)| {
        let exit = Exit {
            exit_code: Some(1),
            was_ready,
            uptime_seconds: if was_ready { A_DAY } else { 0.0 },
            crashes,
        };
        Question::Exit(name, exit)
    };
    let loads = [
        (LoadReason::Request, 1),
        (LoadReason::Start, 0),
        (LoadReason::Manual, 0),
    ];
    let exits = [(false, 1), (true, 1), (true, 12)];
    let idle = [Question::Idle(name)].into_iter();
    idle.chain(loads.map(load))
        .chain(exits.map(exit))
        .chain(troubles(config).map(|trouble| Question::Trouble(name, trouble)))
        .collect()
}

/// A worker that does nothing, one that computes for an hour, and one whose answers are all errors; of the
/// first nothing is known that may not be.
fn troubles(config: &Config) -> [Trouble; 3] {
    let stall_timeout = Some(config.stall_timeout.as_secs_f64()).filter(|limit| *limit > 0.0);
    let trouble = |kind| Trouble {
        requests: 1,
        stall_timeout,
        ..Trouble::of(kind)
    };
    [
        Trouble {
            silent_seconds: AN_HOUR,
            still_seconds: AN_HOUR,
            ..trouble(TroubleKind::Silent)
        },
        Trouble {
            silent_seconds: AN_HOUR,
            cpu_seconds: Some(AN_HOUR),
            prompt_chars: Some(1000),
            expected_seconds: Some(10.0),
            ..trouble(TroubleKind::Silent)
        },
        Trouble {
            errors: 20,
            recent_errors: 20,
            last_status: Some(500),
            crashes: 12,
            ..trouble(TroubleKind::Errors)
        },
    ]
}

/// An event of each name.
fn events(model: &ModelConfig) -> impl Iterator<Item = Event> {
    let event = |name| match name {
        EventName::ConfigReloaded => Event::config_reloaded(unix_now()),
        EventName::RequestFinished => Event::of_request(
            FinishedRequest {
                id: "sample".to_owned(),
                model: model.name.clone(),
                client: "127.0.0.1".to_owned(),
                key: None,
                path: "/v1/chat/completions".to_owned(),
                stream: true,
                status: Some(200),
                seconds: 2.0,
                wait_seconds: Some(0.5),
                first_token_seconds: Some(1.0),
                prompt_tokens: Some(10),
                completion_tokens: Some(100),
                tokens_per_second: Some(100.0),
            },
            unix_now(),
        ),
        EventName::ModelStarted
        | EventName::ModelLoading
        | EventName::ModelLoaded
        | EventName::ModelUnloaded
        | EventName::ModelStopped
        | EventName::ModelFailed => Event::of_model(
            name,
            ModelEvent {
                model: model.name.clone(),
                error: (name == EventName::ModelFailed).then(|| "its process ended".to_owned()),
                seconds: (name == EventName::ModelLoaded).then_some(10.0),
            },
            unix_now(),
        ),
    };
    EventName::ALL.into_iter().map(event)
}

/// A request as clients send it to a model of that type, with or without a name.
fn request(name: Option<&str>, model_type: ModelType) -> Box<RequestView> {
    let (path, mut fields) = match model_type {
        ModelType::Lm | ModelType::Multimodal => (
            "/v1/chat/completions",
            json!({"stream": true, "max_tokens": 100, "temperature": 0.7,
                   "messages": [{"role": "user", "content": "Hello"}]}),
        ),
        ModelType::Embeddings => ("/v1/embeddings", json!({"input": "Hello"})),
        ModelType::ImageGeneration | ModelType::ImageEdit => (
            "/v1/images/generations",
            json!({"prompt": "A bear", "n": 1}),
        ),
        ModelType::Whisper => ("/v1/audio/transcriptions", json!({"language": "en"})),
    };
    if let Some(name) = name {
        fields["model"] = json!(name);
    }
    let body = Bytes::from(fields.to_string());
    let length = HeaderValue::from(body.len());
    let mut view = RequestView::imagined(http::Uri::from_static(path), body);
    view.parts.headers.insert(header::CONTENT_LENGTH, length);
    view.model = name.map(str::to_owned);
    Box::new(view)
}

/// The hub of a configuration before anything has been started, or with everything loaded and idle.
struct Sample {
    hub: Unstarted,
    is_loaded: AtomicBool,
}

impl Sample {
    fn is_loaded(&self) -> bool {
        self.is_loaded.load(Ordering::Relaxed)
    }
}

impl World for Sample {
    fn config(&self) -> Arc<Config> {
        self.hub.config()
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let mut view = self.hub.model(name_or_path)?;
        if !self.is_loaded() {
            return Some(view);
        }
        let facts = Arc::make_mut(&mut view.facts);
        let since = unix_now() - A_DAY;
        facts.process_state = ProcessState::Running;
        facts.memory_state = MemoryState::Loaded;
        facts.started_at = Some(since);
        facts.last_load_at = Some(since);
        facts.load_seconds = Some(10.0);
        view.idle_seconds = A_DAY;
        Some(view)
    }

    fn memory(&self) -> SystemMemory {
        self.hub.memory()
    }

    fn clock(&self) -> f64 {
        self.hub.clock()
    }
}
