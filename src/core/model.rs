//! A model as requests and policies find it, in the real hub and in a simulated one.
//!
//! Each hub has more to say about a model: its type holds a [`Model`] and dereferences to it. The machine's facts
//! come in through [`publish`](super::publish::publish); requests count themselves by their leases and places.

use std::fmt::Debug;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::admission::Seen;
use super::gate::{Gate, Runtime};
use super::place::Destination;
use super::queue::{About, Queue};
use super::refusals::load_ahead;
use crate::api::{Activity, MemoryState, ModelFacts};
use crate::config::Settings;
use crate::core::interface::world::{KeepAlive, ModelView};

/// One model, with all that both hubs know of it.
#[derive(Debug)]
pub struct Model<R: Runtime> {
    /// The model's name.
    pub name: Arc<str>,
    /// Lets requests in while the model is loaded.
    pub gate: Arc<Gate<R>>,
    /// The facts published last.
    pub facts: ArcSwap<ModelFacts>,
    /// Its `policy:` mapping.
    pub(crate) settings: ArcSwap<Settings>,
    /// Number of its stops: a verdict reached before a stop does not undo it.
    pub(crate) stops: AtomicU64,
    /// Requests that wait for it to be loaded; an [`Arrival`](super::place::Arrival) each.
    pub(crate) waiting: AtomicUsize,
    /// The last client's wish how long it stays.
    keep_alive: Mutex<Option<KeepAlive>>,
}

impl<R: Runtime> Model<R> {
    /// A model of which nothing is known yet.
    pub(crate) fn new(name: &str, runtime: R) -> Self {
        Self {
            name: name.into(),
            gate: Arc::new(Gate::new(runtime)),
            facts: ArcSwap::default(),
            settings: ArcSwap::default(),
            stops: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            keep_alive: Mutex::default(),
        }
    }

    /// The counters of the moment.
    pub(crate) fn counters(&self) -> Activity {
        Activity {
            active_requests: self.gate.active(),
            waiting_requests: self.waiting.load(Ordering::SeqCst),
            parked_requests: self.gate.parking.len(),
            last_request_at: self.gate.last_used_at(),
            ..Activity::default()
        }
    }

    /// Notes a client's wish, at that Unix time, that it stays in memory so many seconds after its last request;
    /// negative for ever.
    pub(crate) fn is_wished_for(&self, seconds: f64, at: f64) {
        *self.keep_alive.lock() = Some(KeepAlive { seconds, at });
    }

    /// The last of these wishes about its present time in memory.
    pub(crate) fn keep_alive(&self, facts: &ModelFacts) -> Option<f64> {
        self.keep_alive.lock().as_ref()?.about(facts)
    }

    /// The model as policies see it. It is `now` on the clock of the machine, and `at_gate` on that of the gate.
    pub(crate) fn view(
        &self,
        facts: Arc<ModelFacts>,
        activity: Activity,
        now: Duration,
        at_gate: Duration,
    ) -> ModelView {
        let is_loaded = facts.memory_state == MemoryState::Loaded;
        let loaded = (facts.loaded_since.filter(|_| is_loaded)).map(|at| now.saturating_sub(at));
        // Its gate may not be open yet.
        let idle = self.gate.idle(at_gate).min(loaded.unwrap_or(Duration::MAX));
        let was_loaded = facts.last_load_at.is_some();
        ModelView {
            activity,
            idle_seconds: if was_loaded { idle.as_secs_f64() } else { 0.0 },
            keep_alive: self.keep_alive(&facts),
            facts,
            loaded_seconds: loaded.map(|loaded| loaded.as_secs_f64()),
            settings: self.settings.load_full(),
        }
    }
}

impl<R: Runtime + 'static, M: Deref<Target = Model<R>> + Debug> Destination for Arc<M> {
    type Bell = R::Bell;

    fn name(&self) -> &str {
        &self.name
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }

    fn now(&self) -> Duration {
        self.gate.runtime.now()
    }

    fn seen(&self) -> Seen {
        Seen {
            stops: self.stops.load(Ordering::SeqCst),
            changes: (self.gate.parking.changes(), self.gate.given_back()),
        }
    }

    fn arrived(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    fn left(&self) {
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.gate.parking.changed();
    }

    fn with_queue<T>(&self, look: impl FnOnce(&mut Queue<R::Bell>, About<'_>) -> T) -> T {
        let about = About {
            model: &self.name,
            load: load_ahead(&self.facts.load()),
        };
        self.gate.parking.with_queue(|queue| look(queue, about))
    }
}
