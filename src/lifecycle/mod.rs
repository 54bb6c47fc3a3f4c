//! The lifecycle service: the only thing that starts, stops, loads, unloads and counts models.
//!
//! [`Lifecycle`] is its handle. It is cheap to clone; the gateway, the control API, the dashboard
//! and the daemon each hold one. Reads (`find`, `status`, …) look at what the supervisor published;
//! everything that changes a model is a message to the one supervisor task.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use serde::{Deserialize, Serialize};

use crate::api_error::ApiError;
use crate::config::Config;
use crate::status::{ModelFacts, Status};
use crate::worker::upstream::Upstream;

pub mod lease;

pub use lease::{Gate, Lease};

/// One model as everybody but the supervisor sees it.
#[derive(Debug)]
pub struct Model {
    /// The model's name.
    pub name: Arc<str>,
    /// Lets requests in while the model is loaded.
    pub gate: Arc<Gate>,
    /// What the supervisor published last.
    pub facts: ArcSwap<ModelFacts>,
    /// Where its worker is; set while the gate is open.
    pub(crate) upstream: ArcSwapOption<Upstream>,
    /// How often it has been stopped: a verdict reached before a stop does not undo it.
    pub(crate) stops: std::sync::atomic::AtomicU64,
}

/// The right to send one request to a worker, and where that worker is.
#[derive(Debug)]
pub struct Grant {
    /// Keep it with the response body.
    pub lease: Lease,
    /// The worker.
    pub upstream: Arc<Upstream>,
}

/// What a verb on a model did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The model changed its state.
    Done,
    /// It was in that state already.
    Already,
}

/// What a reload did: names in hub.yaml's order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// New `default` models, and models restarted because their launch settings changed.
    pub started: Vec<String>,
    /// Models gone from hub.yaml, and restarted ones.
    pub stopped: Vec<String>,
    /// All others.
    pub unchanged: Vec<String>,
}

/// A point in the life of a model that a verdict was reached at; see [`Lifecycle::acquire`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen(pub(crate) u64);

/// The handle.
#[derive(Debug, Clone)]
pub struct Lifecycle {}

impl Lifecycle {
    /// The model of that name, or else the first with that `model_path`; case-sensitive.
    pub fn find(&self, name_or_path: &str) -> Option<Arc<Model>> {
        let _ = name_or_path;
        None
    }

    /// All models in hub.yaml's order.
    pub fn models(&self) -> Vec<Arc<Model>> {
        Vec::new()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        unimplemented!()
    }

    /// The snapshot of the moment.
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// The hot path: a grant when the model is loaded and takes requests, without a message, a lock
    /// or an allocation.
    pub fn try_acquire(&self, model: &Arc<Model>) -> Option<Grant> {
        let lease = model.gate.try_enter()?;
        let upstream = model.upstream.load_full()?;
        Some(Grant { lease, upstream })
    }

    /// Marks the moment before `on_request` is asked about `model`.
    pub fn seen(&self, model: &Model) -> Seen {
        Seen(model.stops.load(std::sync::atomic::Ordering::Acquire))
    }

    /// A grant, loading the model first if need be (once, however many wait). Dropping the future
    /// gives up the place; the load goes on.
    ///
    /// # Errors
    /// What `on_load` refused with; 503 when the load failed (the message holds the last lines of
    /// the log), when the model is being or has been stopped since `seen`, or the hub shuts down.
    pub async fn acquire(&self, model: &Arc<Model>, seen: Seen) -> Result<Grant, ApiError> {
        let _ = (model, seen);
        unimplemented!()
    }

    /// Starts a model and returns when it is running (and loaded, unless it is JIT).
    ///
    /// # Errors
    /// 404 for an unknown name; what `on_load` refused with; 503 when it failed to start.
    pub async fn start(&self, name: &str) -> Result<Outcome, ApiError> {
        let _ = name;
        unimplemented!()
    }

    /// Drains and stops a model; returns when its processes are gone.
    ///
    /// # Errors
    /// 404 for an unknown name.
    pub async fn stop(&self, name: &str) -> Result<Outcome, ApiError> {
        let _ = name;
        unimplemented!()
    }

    /// Loads a started model and returns when it is loaded.
    ///
    /// # Errors
    /// 404 for an unknown name; 400 when it is not started; what `on_load` refused with; 503 when
    /// the load failed.
    pub async fn load(&self, name: &str) -> Result<Outcome, ApiError> {
        let _ = name;
        unimplemented!()
    }

    /// Drains a model and frees its memory; it stays started.
    ///
    /// # Errors
    /// 404 for an unknown name.
    pub async fn unload(&self, name: &str) -> Result<Outcome, ApiError> {
        let _ = name;
        unimplemented!()
    }

    /// Reads hub.yaml again and reconciles. With `start` false nothing is started (the `stop`
    /// command reloads so).
    ///
    /// # Errors
    /// 400 with the reason when hub.yaml is not valid; nothing has changed then.
    pub async fn reload(&self, start: bool) -> Result<ReloadReport, ApiError> {
        let _ = start;
        unimplemented!()
    }

    /// Asks the daemon to shut down; returns at once. Completes nothing itself: the daemon owns the
    /// order.
    pub fn request_shutdown(&self) {}
}
