//! What the views of the running call read from: the world, the request, and the number that tells
//! a view of this call from one that a policy kept.
//!
//! Used only under the lock of the Lua state it belongs to; the atomics and the mutex are there
//! because mlua's callbacks must be `Send`, and are never contended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::Value as Json;

use super::flood::Flood;
use super::limits::Limits;
use super::{EventName, Plain, RequestView, World};

/// Bytes that `req.vars` of a request that waits may take.
const MOST_VARS_BYTES: usize = 64 << 10;

/// No call is running.
const NO_CALL: u64 = 0;

/// One per Lua state.
pub(super) struct Stage {
    pub(super) world: Arc<dyn World>,
    pub(super) limits: Arc<Limits>,
    pub(super) flood: Flood,
    calls: AtomicU64,
    current: AtomicU64,
    request: Mutex<Option<Request>>,
    /// What `hub.on` was given since a file began to load; `None` while none does.
    registered: Mutex<Option<Vec<Observer>>>,
}

/// An event, and the function of a policy that hears of it.
pub(super) type Observer = (EventName, mlua::Function);

/// The request on stage, and what was made of it on demand.
pub(super) struct Request {
    pub(super) view: RequestView,
    /// The parsed body: unread, or read and perhaps no JSON.
    pub(super) json: Option<Option<Json>>,
    /// The same as Lua sees it.
    pub(super) body: Option<mlua::Value>,
    /// `req.headers`.
    pub(super) headers: Option<mlua::Value>,
    /// `req.vars`.
    pub(super) vars: Option<mlua::Table>,
    /// Where they were counted before: in a recording, which has no text.
    pub(super) prompt_chars: Option<usize>,
}

impl Request {
    /// Puts `req.vars` into the view, for the next asking.
    pub(super) fn keep_vars(&mut self) -> mlua::Result<()> {
        let Some(vars) = &self.vars else {
            return Ok(());
        };
        let kept = Plain::of(&mlua::Value::Table(vars.clone()), MOST_VARS_BYTES);
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
    pub(super) fn new(world: Arc<dyn World>, limits: Arc<Limits>) -> Self {
        Self {
            world,
            limits,
            flood: Flood::default(),
            calls: AtomicU64::new(NO_CALL),
            current: AtomicU64::new(NO_CALL),
            request: Mutex::new(None),
            registered: Mutex::new(None),
        }
    }

    /// A file begins to load: until [`Stage::loaded`] it may register observers.
    pub(super) fn load(&self) {
        *self.registered.lock() = Some(Vec::new());
    }

    /// The file has run; gives what it registered.
    pub(super) fn loaded(&self) -> Vec<Observer> {
        self.registered.lock().take().unwrap_or_default()
    }

    /// Takes an observer of the file that loads; false when none does.
    pub(super) fn register(&self, observer: Observer) -> bool {
        let mut registered = self.registered.lock();
        let registered = registered.as_mut();
        registered.map(|all| all.push(observer)).is_some()
    }

    /// A call begins; its views carry the number.
    pub(super) fn open(&self) -> u64 {
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        self.current.store(call, Ordering::Relaxed);
        call
    }

    /// The call is over, and so are its views.
    pub(super) fn close(&self) {
        self.current.store(NO_CALL, Ordering::Relaxed);
    }

    /// The number of the running call, if one is running.
    pub(super) fn current(&self) -> Option<u64> {
        Some(self.current.load(Ordering::Relaxed)).filter(|call| *call != NO_CALL)
    }

    /// The number of the running call, for a new view of `what`.
    pub(super) fn enter(&self, what: &str) -> mlua::Result<u64> {
        self.current().ok_or_else(|| {
            mlua::Error::runtime(format!("{what} can be read only while a hook runs"))
        })
    }

    /// Refuses views of earlier calls.
    pub(super) fn check(&self, what: &str, call: u64) -> mlua::Result<()> {
        if self.current.load(Ordering::Relaxed) == call {
            return Ok(());
        }
        Err(mlua::Error::runtime(format!(
            "{what} is over: a view can be read only while the hook that got it runs"
        )))
    }

    /// A call about a request begins.
    pub(super) fn open_request(&self, view: RequestView) -> u64 {
        *self.request.lock() = Some(Request {
            view,
            json: None,
            body: None,
            headers: None,
            vars: None,
            prompt_chars: None,
        });
        self.open()
    }

    /// The call is over; the request goes back. `None` only when none was on stage.
    pub(super) fn close_request(&self) -> Option<RequestView> {
        self.close();
        self.request.lock().take().map(|request| request.view)
    }

    /// Reads the request on stage.
    pub(super) fn request<R>(
        &self,
        read: impl FnOnce(&mut Request) -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        match &mut *self.request.lock() {
            Some(request) => read(request),
            None => Err(mlua::Error::runtime("request is over")),
        }
    }
}
