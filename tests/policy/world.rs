//! A hub that stands still: models and groups as a test sets them, a folder of policies, and the
//! questions the hub would ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use http::HeaderValue;
use mlx_openai_server_hub::api::{
    Activity, GroupFacts, MemoryState, ModelFacts, ProcessState, SystemMemory,
};
use mlx_openai_server_hub::config::{Config, Settings};
use mlx_openai_server_hub::policy::{
    GroupView, LoadReason, ModelView, Parked, PendingLoad, Policies, RequestVerdict, RequestView,
    World,
};
use parking_lot::RwLock;
use tempfile::TempDir;

/// What the hooks see.
#[derive(Default)]
pub(crate) struct FakeWorld {
    pub(crate) models: RwLock<Vec<ModelView>>,
    pub(crate) groups: RwLock<Vec<GroupFacts>>,
    pub(crate) memory: RwLock<SystemMemory>,
    pub(crate) settings: RwLock<Arc<Settings>>,
}

/// When it is in every test.
pub(crate) const NOW: f64 = 1_764_000_000.0;

impl World for FakeWorld {
    /// Its lists stand for what hub.yaml would say.
    fn config(&self) -> Arc<Config> {
        let none = Config::parse(
            Path::new("/nowhere/hub.yaml"),
            "models: [{name: a, model_path: org/a}]",
        );
        Arc::new(none.expect("a valid hub.yaml"))
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let models = self.models.read();
        let by_name = models.iter().find(|m| m.facts.name == name_or_path);
        let by_path = || models.iter().find(|m| m.facts.model_path == name_or_path);
        by_name.or_else(by_path).cloned()
    }

    fn model_names(&self) -> Vec<String> {
        let models = self.models.read();
        models.iter().map(|m| m.facts.name.clone()).collect()
    }

    fn group(&self, name: &str) -> Option<GroupView> {
        let groups = self.groups.read();
        let facts = groups.iter().find(|g| g.name == name)?.clone();
        let models = self.models.read();
        let members = || {
            models
                .iter()
                .filter(|m| m.facts.group.as_deref() == Some(name))
        };
        let held = members().filter(|m| m.facts.memory_state.holds_memory());
        Some(GroupView {
            members: members().map(|m| m.facts.name.clone()).collect(),
            loaded: held.map(|m| m.facts.name.clone()).collect(),
            facts,
        })
    }

    fn group_names(&self) -> Vec<String> {
        self.groups.read().iter().map(|g| g.name.clone()).collect()
    }

    fn memory(&self) -> SystemMemory {
        *self.memory.read()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read())
    }

    fn clock(&self) -> f64 {
        NOW
    }
}

/// A started JIT model that is not loaded.
pub(crate) fn model(name: &str) -> ModelView {
    ModelView {
        facts: Arc::new(ModelFacts {
            name: name.to_owned(),
            model_path: format!("org/{name}"),
            model_type: "lm".into(),
            engine: "mlx_lm".to_owned(),
            jit_enabled: true,
            process_state: ProcessState::Running,
            ..ModelFacts::default()
        }),
        activity: Activity::default(),
        idle_seconds: 0.0,
        loaded_seconds: None,
        keep_alive: None,
        settings: Arc::default(),
    }
}

/// A load that `waiting` requests wait for and that no policy was asked about before.
pub(crate) fn pending(reason: LoadReason, waiting: usize) -> PendingLoad {
    PendingLoad {
        reason,
        waiting,
        waited_seconds: 0.0,
    }
}

/// Changes to a model, chained.
pub(crate) trait ModelViewExt: Sized {
    fn facts(self, change: impl FnOnce(&mut ModelFacts)) -> Self;
    fn loaded(self, idle_seconds: f64) -> Self;
    fn in_group(self, name: &str) -> Self;
}

impl ModelViewExt for ModelView {
    fn facts(mut self, change: impl FnOnce(&mut ModelFacts)) -> Self {
        change(Arc::make_mut(&mut self.facts));
        self
    }

    fn loaded(mut self, idle_seconds: f64) -> Self {
        self.idle_seconds = idle_seconds;
        self.loaded_seconds = Some(idle_seconds);
        self.facts(|facts| {
            facts.memory_state = MemoryState::Loaded;
            facts.last_load_at = Some(NOW - idle_seconds);
        })
    }

    fn in_group(self, name: &str) -> Self {
        self.facts(|facts| facts.group = Some(name.to_owned()))
    }
}

/// A group with a cap and an idle limit.
pub(crate) fn group(name: &str, max_loaded: Option<u32>, idle_minutes: Option<u32>) -> GroupFacts {
    GroupFacts {
        name: name.to_owned(),
        max_loaded,
        idle_unload_trigger_min: idle_minutes,
    }
}

/// A folder of policies beside a world.
pub(crate) struct Hub {
    pub(crate) folder: TempDir,
    pub(crate) world: Arc<FakeWorld>,
}

impl Hub {
    /// Three models: `alpha` is loaded and idle for 30 s, `beta` started, `gamma` stopped.
    pub(crate) fn new() -> Self {
        let world = FakeWorld::default();
        *world.models.write() = vec![
            model("alpha").loaded(30.0),
            model("beta"),
            model("gamma").facts(|facts| facts.process_state = ProcessState::Stopped),
        ];
        Self {
            folder: tempfile::tempdir().unwrap(),
            world: Arc::new(world),
        }
    }

    /// The same with one user policy, `policy.lua`.
    pub(crate) fn with(source: &str) -> Self {
        Self::new().file("policy.lua", source)
    }

    pub(crate) fn file(self, name: &str, source: impl AsRef<[u8]>) -> Self {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, source).unwrap();
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn load(&self) -> Policies {
        Policies::load(self.path(), &[], Arc::clone(&self.world) as Arc<dyn World>)
    }

    /// Loads, asks about a request for `alpha` with a small body, and returns the verdict.
    pub(crate) fn ask(&self) -> (RequestVerdict, Policies) {
        let policies = self.load();
        let (_, verdict) = policies.on_request(request("alpha"));
        (verdict, policies)
    }
}

/// A chat request with its whole body.
pub(crate) fn request(model: &str) -> Box<RequestView> {
    let body = serde_json::json!({
        "model": model,
        "stream": true,
        "messages": [{"role": "user", "content": "héllo"}],
    });
    let (parts, ()) = http::Request::post("/v1/chat/completions?x=1")
        .header("content-type", "application/json")
        .header("X-Tier", "gold")
        .body(())
        .unwrap()
        .into_parts();
    Box::new(RequestView {
        parts,
        id: HeaderValue::from_static("req-1"),
        model: Some(model.to_owned()),
        client: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 50_000),
        via: None,
        credential: None,
        protocol: RequestView::OPENAI,
        keep_alive: Some(60.0),
        body: Some(body.to_string().into()),
        parked: Parked::default(),
    })
}

/// The message of a rejection.
pub(crate) fn rejected(verdict: &RequestVerdict) -> (u16, &str) {
    match verdict {
        RequestVerdict::Reject(error) => (error.status, &error.message),
        other => panic!("not a rejection: {other:?}"),
    }
}
