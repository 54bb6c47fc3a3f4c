//! The source of the views of the running call: the world, the request, the models that it has looked at, and
//! the number that tells a view of this call from one that a policy has kept.
//!
//! Used only under the lock of the Lua state it belongs to; the atomics and the mutex are there
//! because mlua's callbacks must be `Send`, and are never contended.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mlua::{Lua, Value};
use parking_lot::Mutex;
use serde_json::Value as Json;

use super::interned::{Tables, Texts};
use super::views::handle::Handle;
use crate::api::ModelFacts;
use crate::policy::{EventName, ModelView, Plain, RequestView, World};
use crate::sandbox::flood::Flood;
use crate::sandbox::limits::SandboxLimits;

/// Bytes of a queued request's `req.vars`.
const MAX_VARS_BYTES: usize = 64 << 10;

/// No call is running.
const NO_CALL: u64 = 0;

/// The stage of one Lua state.
pub(crate) struct Stage {
    pub(crate) world: Arc<dyn World>,
    pub(crate) limits: Arc<SandboxLimits>,
    /// Shared by all Lua states of a set.
    pub(crate) flood: Arc<Flood>,
    /// True while the log lines of policies are dropped.
    is_silent: AtomicBool,
    calls: AtomicU64,
    current: AtomicU64,
    scene: Mutex<Scene>,
    /// The observers given to `hub.on` since a file began to load; `None` while none does.
    registered: Mutex<Option<Vec<Observer>>>,
}

/// An event, and the function of a policy that observes it.
pub(crate) type Observer = (EventName, mlua::Function);

/// The values on stage.
#[derive(Default)]
struct Scene {
    request: Option<StagedRequest>,
    /// The models looked at in this call, each once: a view holds the place in this list.
    models: Vec<StagedModel>,
    texts: Texts,
}

/// A model on stage, as of the moment a policy first looked for it.
pub(crate) struct StagedModel {
    pub(crate) facts: Arc<ModelFacts>,
    /// The other facts, as of the moment a policy first read any of them.
    now: OnceCell<ModelView>,
}

impl StagedModel {
    pub(crate) fn new(facts: Arc<ModelFacts>) -> Self {
        Self {
            facts,
            now: OnceCell::new(),
        }
    }

    /// Its counters, clocks and settings; `None` for a model that is gone meanwhile.
    pub(crate) fn now(&self, world: &dyn World) -> &ModelView {
        self.now.get_or_init(|| {
            let view = world.model(&self.facts.name);
            view.unwrap_or_else(|| ModelView::at_rest(Arc::clone(&self.facts)))
        })
    }
}

/// The request on stage, and the values made from it on demand.
pub(crate) struct StagedRequest {
    pub(crate) view: Box<RequestView>,
    /// The parsed body: unread, or read and perhaps not JSON.
    pub(crate) json: Option<Option<Json>>,
    /// The body as a Lua table.
    pub(crate) body: Option<Value>,
    /// `req.vars`.
    pub(crate) vars: Option<mlua::Table>,
    /// The count from a recording, which has no texts.
    pub(crate) prompt_chars: Option<usize>,
}

impl StagedRequest {
    /// Stores `req.vars` in the view, for the next call.
    pub(crate) fn keep_vars(&mut self) -> mlua::Result<()> {
        let Some(vars) = &self.vars else {
            return Ok(());
        };
        let kept = Plain::of(&Value::Table(vars.clone()), MAX_VARS_BYTES);
        self.view.parked.vars = Some(kept.map_err(|problem| {
            mlua::Error::runtime(format!(
                "hub.wait: `req.vars` of a request that waits {problem}; it may hold booleans, \
                 numbers, strings and tables of these"
            ))
        })?);
        Ok(())
    }
}

impl Stage {
    /// An empty stage.
    pub(crate) fn new(
        world: Arc<dyn World>,
        limits: Arc<SandboxLimits>,
        flood: Arc<Flood>,
    ) -> Self {
        Self {
            world,
            limits,
            flood,
            is_silent: AtomicBool::new(false),
            calls: AtomicU64::new(NO_CALL),
            current: AtomicU64::new(NO_CALL),
            scene: Mutex::default(),
            registered: Mutex::new(None),
        }
    }

    /// Drops the log lines of policies from now on, or not: a file that loads a second time has logged them.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }

    /// True if a policy may log another line now.
    pub(crate) fn admits_line(&self) -> bool {
        !self.is_silent.load(Ordering::Relaxed) && self.flood.admits()
    }

    /// Begins the load of a file: until [`Stage::loaded`] it may register observers.
    pub(crate) fn load(&self) {
        *self.registered.lock() = Some(Vec::new());
    }

    /// Ends the load; returns the registered observers.
    pub(crate) fn loaded(&self) -> Vec<Observer> {
        self.registered.lock().take().unwrap_or_default()
    }

    /// Takes an observer of the file that loads; false when none does.
    pub(crate) fn register(&self, observer: Observer) -> bool {
        let mut registered = self.registered.lock();
        let registered = registered.as_mut();
        registered.map(|all| all.push(observer)).is_some()
    }

    /// Begins a call; its views carry the number.
    pub(crate) fn open(&self) -> u64 {
        let call = self.calls.load(Ordering::Relaxed) + 1;
        self.calls.store(call, Ordering::Relaxed);
        self.current.store(call, Ordering::Relaxed);
        call
    }

    /// Ends the call and its views.
    pub(crate) fn close(&self) {
        self.current.store(NO_CALL, Ordering::Relaxed);
        self.scene.lock().models.clear();
    }

    /// The number of the running call, if one is running.
    pub(crate) fn current(&self) -> Option<u64> {
        Some(self.current.load(Ordering::Relaxed)).filter(|call| *call != NO_CALL)
    }

    /// The number of the running call, for a new view of `what`.
    pub(crate) fn enter(&self, what: &str) -> mlua::Result<u64> {
        self.current().ok_or_else(|| {
            mlua::Error::runtime(format!("{what} can be read only while a hook runs"))
        })
    }

    /// Refuses views of earlier calls.
    pub(crate) fn check(&self, what: &str, call: u64) -> mlua::Result<()> {
        if self.current.load(Ordering::Relaxed) == call {
            return Ok(());
        }
        Err(mlua::Error::runtime(format!(
            "{what} is over: a view can be read only while the hook that got it runs"
        )))
    }

    /// Begins a call about a request.
    pub(crate) fn open_request(&self, view: Box<RequestView>) -> u64 {
        self.scene.lock().request = Some(StagedRequest {
            view,
            json: None,
            body: None,
            vars: None,
            prompt_chars: None,
        });
        self.open()
    }

    /// Ends the call and returns the request. `None` only when none was on stage.
    pub(crate) fn close_request(&self) -> Option<Box<RequestView>> {
        self.current.store(NO_CALL, Ordering::Relaxed);
        let mut scene = self.scene.lock();
        scene.models.clear();
        scene.request.take().map(|request| request.view)
    }

    /// Reads the request on stage.
    pub(crate) fn request<R>(
        &self,
        read: impl FnOnce(&mut StagedRequest) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        match &mut self.scene.lock().request {
            Some(request) => read(request),
            None => Err(mlua::Error::runtime("request is over")),
        }
    }

    /// The model of that name or path, which stays on stage from now on.
    pub(crate) fn find(&self, name_or_path: &str) -> mlua::Result<Option<Handle>> {
        let call = self.enter("model")?;
        let models = &mut self.scene.lock().models;
        find(models, &*self.world, call, name_or_path)
    }

    /// The model whose name or path is the text of that number.
    pub(crate) fn find_known(&self, number: i64) -> mlua::Result<Option<Handle>> {
        let call = self.enter("model")?;
        let Scene { models, texts, .. } = &mut *self.scene.lock();
        match texts.text(number) {
            Some(text) => find(models, &*self.world, call, text),
            None => Ok(None),
        }
    }

    /// Reads a model on stage.
    pub(crate) fn model<R>(
        &self,
        place: usize,
        read: impl FnOnce(&StagedModel) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        match self.scene.lock().models.get(place) {
            Some(model) => read(model),
            None => Err(mlua::Error::runtime("model is over")),
        }
    }

    /// The text of that number, if it still has one.
    pub(crate) fn text(&self, number: i64) -> Option<Arc<str>> {
        self.scene.lock().texts.text(number).cloned()
    }

    /// Keeps a text that Lua is likely to use again.
    pub(crate) fn keep(&self, lua: &Lua, text: &str) -> mlua::Result<()> {
        self.scene.lock().texts.value(lua, text).map(drop)
    }

    /// The tables in which `lua` finds the texts below.
    pub(crate) fn install_texts(&self, lua: &Lua) -> mlua::Result<Tables> {
        self.scene.lock().texts.install(lua)
    }

    /// A text of the request on stage, as [`Texts::value`] gives it.
    pub(crate) fn request_text(
        &self,
        lua: &Lua,
        read: fn(&RequestView) -> Option<&str>,
    ) -> mlua::Result<Value> {
        let Scene { request, texts, .. } = &mut *self.scene.lock();
        match request {
            Some(request) => given(lua, texts, read(&request.view)),
            None => Err(mlua::Error::runtime("request is over")),
        }
    }

    /// A text of a model on stage.
    pub(crate) fn model_text(
        &self,
        lua: &Lua,
        place: usize,
        read: fn(&ModelFacts) -> Option<&str>,
    ) -> mlua::Result<Value> {
        let Scene { models, texts, .. } = &mut *self.scene.lock();
        match models.get(place) {
            Some(model) => given(lua, texts, read(&model.facts)),
            None => Err(mlua::Error::runtime("model is over")),
        }
    }
}

/// The model of that name or path among those on stage.
fn find(
    models: &mut Vec<StagedModel>,
    world: &dyn World,
    call: u64,
    name_or_path: &str,
) -> mlua::Result<Option<Handle>> {
    let Some(facts) = world.facts(name_or_path) else {
        return Ok(None);
    };
    let is_it = |model: &StagedModel| {
        Arc::ptr_eq(&model.facts, &facts) || is_same_name(&model.facts.name, &facts.name)
    };
    let place = models.iter().position(is_it).unwrap_or_else(|| {
        models.push(StagedModel::new(facts));
        models.len() - 1
    });
    Handle::of_model(call, place).map(Some)
}

/// Compares from the end, where the names of many models differ.
fn is_same_name(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().rev().eq(other.bytes().rev())
}

fn given(lua: &Lua, texts: &mut Texts, text: Option<&str>) -> mlua::Result<Value> {
    text.map_or(Ok(Value::Nil), |text| texts.value(lua, text))
}
