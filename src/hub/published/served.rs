//! The known routes of the worker programs, kept from one hub to the next.
//!
//! A program is asked once, in the background, when its first worker is up; a program without a description is
//! learned by the first request that it has no route for. The gateway asks before it loads a model for a request
//! that its worker can only refuse.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::registry::{Model, Registry};
use crate::config::ModelConfig;
use crate::files;
use crate::upstream::Upstream;
use crate::worker::dialect::Program;
use crate::worker::routes::Routes;

/// A worker that is busy may take a while.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait of a request.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Number of remembered versions of programs.
const REMEMBERED: usize = 32;

/// The routes of all known programs.
#[derive(Debug, Default)]
pub(in crate::hub) struct Served {
    /// The file that keeps them; `None` in tests.
    path: Option<PathBuf>,
    programs: BTreeMap<String, Arc<Routes>>,
    /// Programs that are being asked.
    asked: HashSet<String>,
}

/// The known routes of a model's program.
#[derive(Debug)]
pub(in crate::hub) struct OfModel {
    /// The program: another one may have replaced it.
    key: String,
    routes: Arc<Routes>,
}

/// The routes known at one moment.
#[derive(Debug)]
pub(in crate::hub) struct Known(BTreeMap<String, Arc<Routes>>);

impl Known {
    /// The routes of the program that serves this model.
    pub(in crate::hub) fn of_model(&self, model: &ModelConfig) -> Option<OfModel> {
        let speaks = told(model);
        if self.0.is_empty() && speaks.is_none() {
            return None;
        }
        let key = Program::of_model(model).ok()?.key();
        let routes = match speaks {
            Some(routes) => Arc::new(routes),
            None => Arc::clone(self.0.get(&key)?),
        };
        Some(OfModel { key, routes })
    }
}

/// The routes that the engine of a model says its worker has; `None` if it leaves that to the worker.
fn told(model: &ModelConfig) -> Option<Routes> {
    match model.engine.speaks(&model.for_engine(0)) {
        Ok(apis) => apis.map(|apis| Routes::of_apis(&apis)),
        Err(problem) => {
            tracing::warn!(hub_model = %model.name, "what its worker serves is not known: {problem}");
            None
        }
    }
}

/// What no request may ask of a model's worker, whose program would load it in place of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuses {
    /// The engine of the program.
    pub engine: String,
    /// Fields of a request's body.
    pub fields: Vec<String>,
}

/// A route that a model's worker lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lack {
    /// Its program, as hub.yaml or its engine names it; `None` for a model that hub.yaml names no longer.
    pub program: Option<String>,
    /// Its engine, unless that is the default one.
    pub engine: Option<String>,
    /// The known routes below `/v1`.
    pub served: Vec<String>,
}

impl Served {
    /// Restores the routes from `routes.json` of that folder, and keeps them there.
    pub(in crate::hub) fn recall(log_path: &Path) -> Self {
        let path = log_path.join("routes.json");
        let programs = match files::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let programs = programs.unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "what the workers serve is not known any more");
            BTreeMap::<String, Routes>::new()
        });
        let programs = programs.into_iter();
        Self {
            path: Some(path),
            programs: programs
                .map(|(key, routes)| (key, Arc::new(routes)))
                .collect(),
            asked: HashSet::new(),
        }
    }

    /// A copy of all routes, to be read without the lock: finding a program reads the disk.
    pub(in crate::hub) fn known(&self) -> Known {
        Known(self.programs.clone())
    }

    /// True if this program is to be asked, by the caller.
    fn is_to_be_asked(&mut self, key: &str) -> bool {
        let is_known = self.programs.get(key).is_some_and(|it| it.are_known());
        !is_known && self.asked.insert(key.to_owned())
    }

    fn note(&mut self, key: String, routes: Routes) {
        if self.programs.len() >= REMEMBERED && !self.programs.contains_key(&key) {
            self.programs.pop_first();
        }
        self.programs.insert(key, Arc::new(routes));
    }

    fn save(&self) {
        let Some(path) = &self.path else { return };
        let programs: BTreeMap<&String, &Routes> = self
            .programs
            .iter()
            .map(|(key, routes)| (key, &**routes))
            .collect();
        if let Err(error) = files::replace_private(path, &programs) {
            tracing::warn!(path = %path.display(), %error, "what the workers serve is not kept");
        }
    }
}

/// Learns the routes of the program of `model` from its worker, unless they are known.
pub(in crate::hub) async fn learn(
    registry: Arc<Registry>,
    model: ModelConfig,
    upstream: Arc<Upstream>,
) {
    let Ok(program) = Program::of_model(&model) else {
        return;
    };
    let key = program.key();
    let is_told = told(&model).is_some();
    if !is_told && registry.learned.lock().served.is_to_be_asked(&key) {
        let asked = tokio::time::timeout(PATIENCE, upstream.get("/openapi.json")).await;
        let routes = match &asked {
            Ok(Ok((StatusCode::OK, body))) => Routes::of_openapi(body),
            _ => None,
        };
        let mut learned = registry.learned.lock();
        learned.served.asked.remove(&key);
        if let Some(routes) = routes {
            learned.served.note(key, routes);
            learned.served.save();
        } else {
            tracing::debug!(hub_model = %model.name, "the worker does not say what it serves");
        }
    }
    registry.publish_served();
}

/// True if a worker says that it has a route of this path. One that does not answer at once has none.
pub(in crate::hub) async fn asked(upstream: &Upstream, path: &str) -> bool {
    match tokio::time::timeout(AT_ONCE, upstream.get("/openapi.json")).await {
        Ok(Ok((StatusCode::OK, body))) => {
            Routes::of_openapi(&body).is_some_and(|routes| !routes.lack(path))
        }
        _ => false,
    }
}

/// Notes that a worker of `model` has no such route.
pub(in crate::hub) fn note_missing(registry: &Registry, model: &Model, path: &str) {
    let config = Arc::clone(&registry.table.load().config);
    let program = config
        .model(&model.name)
        .and_then(|model| Program::of_model(model).ok());
    let Some(key) = program.map(|program| program.key()) else {
        return;
    };
    let mut learned = registry.learned.lock();
    let known = learned.served.programs.get(&key);
    let mut routes = known.map_or_else(Routes::default, |routes| Routes::clone(routes));
    if !routes.are_known() {
        routes.note_missing(path);
        learned.served.note(key, routes);
        learned.served.save();
        drop(learned);
        registry.publish_served();
    }
}

impl Model {
    /// True if its worker is known to lack the route of this path, as far as a look tells that costs
    /// nothing.
    pub(in crate::hub) fn seems_to_lack(&self, path: &str) -> bool {
        let served = self.served.load();
        served
            .as_deref()
            .is_some_and(|served| served.routes.lack(path))
    }

    /// True if it is known to have it, as far as such a look tells.
    pub(in crate::hub) fn seems_to_serve(&self, path: &str) -> bool {
        let served = self.served.load();
        let served = served.as_deref();
        served.is_some_and(|served| served.routes.are_known() && !served.routes.lack(path))
    }
}

/// True if what is known of a model's routes is about the program that it has now. If not, it is
/// forgotten.
pub(in crate::hub) fn is_of_its_program(registry: &Registry, model: &Model) -> bool {
    let table = registry.table.load();
    let config = table.config.model(&model.name);
    let now = config.and_then(|config| Program::of_model(config).ok());
    let Some((now, served)) = now.zip(model.served.load_full()) else {
        return false;
    };
    let is_it = now.key() == served.key;
    if !is_it {
        model.served.store(None);
    }
    is_it
}

/// What no request may ask of the worker of `model`; `None`, at the price of a look, for most engines.
pub(in crate::hub) fn refuses(registry: &Registry, model: &Model) -> Option<Refuses> {
    let table = registry.table.load();
    let engine = &table.config.model(&model.name)?.engine;
    (!engine.refuses.is_empty()).then(|| Refuses {
        engine: engine.name.clone(),
        fields: engine.refuses.clone(),
    })
}

/// Looks closer at a model that [seems to lack](Model::seems_to_lack) a route: its program may be another
/// by now.
pub(in crate::hub) fn lack(registry: &Registry, model: &Model) -> Option<Lack> {
    is_of_its_program(registry, model).then(|| worker_of(registry, model))
}

/// The worker of a model, and what is known of it.
pub(in crate::hub) fn worker_of(registry: &Registry, model: &Model) -> Lack {
    let table = registry.table.load();
    let config = table.config.model(&model.name);
    let served = model.served.load();
    let served = served.iter().flat_map(|served| served.routes.served());
    Lack {
        program: config.and_then(|config| config.worker_command.first().cloned()),
        engine: config
            .filter(|config| !config.engine.is_default())
            .map(|config| config.engine.name.clone()),
        served: served.map(str::to_owned).collect(),
    }
}
