//! What the views of the running call read from: the world, the request, the models that were looked
//! at, and the number that tells a view of this call from one that a policy kept.
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
use crate::policy::sandbox::flood::Flood;
use crate::policy::sandbox::limits::Limits;
use crate::policy::{EventName, ModelView, Plain, RequestView, World};

/// Bytes that `req.vars` of a request that waits may take.
const MOST_VARS_BYTES: usize = 64 << 10;

/// No call is running.
const NO_CALL: u64 = 0;

/// One per Lua state.
pub(crate) struct Stage {
    pub(crate) world: Arc<dyn World>,
    pub(crate) limits: Arc<Limits>,
    /// Shared by all Lua states of a set.
    pub(crate) flood: Arc<Flood>,
    /// Whether what policies log is dropped.
    is_silent: AtomicBool,
    calls: AtomicU64,
    current: AtomicU64,
    scene: Mutex<Scene>,
    /// What `hub.on` was given since a file began to load; `None` while none does.
    registered: Mutex<Option<Vec<Observer>>>,
}

/// An event, and the function of a policy that hears of it.
pub(crate) type Observer = (EventName, mlua::Function);

/// What is on stage.
#[derive(Default)]
struct Scene {
    request: Option<Request>,
    /// Those looked at in this call, each once: their views are the places here.
    models: Vec<Model>,
    texts: Texts,
}

/// A model on stage, as of the moment a policy first looked for it.
pub(crate) struct Model {
    pub(crate) facts: Arc<ModelFacts>,
    /// The rest, as of the moment a policy first asked for any of it.
    now: OnceCell<ModelView>,
}

impl Model {
    pub(crate) fn new(facts: Arc<ModelFacts>) -> Self {
        Self {
            facts,
            now: OnceCell::new(),
        }
    }

    /// Its counters, clocks and settings. A model that is gone meanwhile has none.
    pub(crate) fn now(&self, world: &dyn World) -> &ModelView {
        self.now.get_or_init(|| {
            let view = world.model(&self.facts.name);
            view.unwrap_or_else(|| ModelView::at_rest(Arc::clone(&self.facts)))
        })
    }
}

/// The request on stage, and what was made of it on demand.
pub(crate) struct Request {
    pub(crate) view: Box<RequestView>,
    /// The parsed body: unread, or read and perhaps no JSON.
    pub(crate) json: Option<Option<Json>>,
    /// The same as Lua sees it.
    pub(crate) body: Option<Value>,
    /// `req.vars`.
    pub(crate) vars: Option<mlua::Table>,
    /// Where they were counted before: in a recording, which has no text.
    pub(crate) prompt_chars: Option<usize>,
}

impl Request {
    /// Puts `req.vars` into the view, for the next asking.
    pub(crate) fn keep_vars(&mut self) -> mlua::Result<()> {
        let Some(vars) = &self.vars else {
            return Ok(());
        };
        let kept = Plain::of(&Value::Table(vars.clone()), MOST_VARS_BYTES);
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
    pub(crate) fn new(world: Arc<dyn World>, limits: Arc<Limits>, flood: Arc<Flood>) -> Self {
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

    /// Drops what policies log from now on, or not: a file that loads a second time has said it all.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
    }

    /// Whether a policy may log another line now.
    pub(crate) fn admits_line(&self) -> bool {
        !self.is_silent.load(Ordering::Relaxed) && self.flood.admits()
    }

    /// A file begins to load: until [`Stage::loaded`] it may register observers.
    pub(crate) fn load(&self) {
        *self.registered.lock() = Some(Vec::new());
    }

    /// The file has run; gives what it registered.
    pub(crate) fn loaded(&self) -> Vec<Observer> {
        self.registered.lock().take().unwrap_or_default()
    }

    /// Takes an observer of the file that loads; false when none does.
    pub(crate) fn register(&self, observer: Observer) -> bool {
        let mut registered = self.registered.lock();
        let registered = registered.as_mut();
        registered.map(|all| all.push(observer)).is_some()
    }

    /// A call begins; its views carry the number.
    pub(crate) fn open(&self) -> u64 {
        let call = self.calls.load(Ordering::Relaxed) + 1;
        self.calls.store(call, Ordering::Relaxed);
        self.current.store(call, Ordering::Relaxed);
        call
    }

    /// The call is over, and so are its views.
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

    /// A call about a request begins.
    pub(crate) fn open_request(&self, view: Box<RequestView>) -> u64 {
        self.scene.lock().request = Some(Request {
            view,
            json: None,
            body: None,
            vars: None,
            prompt_chars: None,
        });
        self.open()
    }

    /// The call is over; the request goes back. `None` only when none was on stage.
    pub(crate) fn close_request(&self) -> Option<Box<RequestView>> {
        self.current.store(NO_CALL, Ordering::Relaxed);
        let mut scene = self.scene.lock();
        scene.models.clear();
        scene.request.take().map(|request| request.view)
    }

    /// Reads the request on stage.
    pub(crate) fn request<R>(
        &self,
        read: impl FnOnce(&mut Request) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        match &mut self.scene.lock().request {
            Some(request) => read(request),
            None => Err(mlua::Error::runtime("request is over")),
        }
    }

    /// The model of that name or path, which is on stage from now on.
    pub(crate) fn find(&self, name_or_path: &str) -> mlua::Result<Option<Handle>> {
        let call = self.enter("model")?;
        let models = &mut self.scene.lock().models;
        find(models, &*self.world, call, name_or_path)
    }

    /// The same of the text of that number.
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
        read: impl FnOnce(&Model) -> mlua::Result<R>,
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

    /// Keeps a text that Lua is likely to come with again.
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

    /// The same of a model.
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
    models: &mut Vec<Model>,
    world: &dyn World,
    call: u64,
    name_or_path: &str,
) -> mlua::Result<Option<Handle>> {
    let Some(facts) = world.facts(name_or_path) else {
        return Ok(None);
    };
    let is_it = |model: &Model| {
        Arc::ptr_eq(&model.facts, &facts) || is_same_name(&model.facts.name, &facts.name)
    };
    let place = models.iter().position(is_it).unwrap_or_else(|| {
        models.push(Model::new(facts));
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
