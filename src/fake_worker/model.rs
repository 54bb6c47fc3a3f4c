//! The simulated model: its load, the time that takes, and the memory it holds.

use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Mutex;

use super::family;
use super::options::{Dialect, Knobs};
use super::record::Record;
use super::server::log;

/// Number of steps of a load.
const STEPS: u32 = 10;
const MEGABYTE: usize = 1024 * 1024;

/// Memory that is really held: every page is written to.
#[derive(Debug, Default)]
pub(super) struct Weights(Vec<Vec<u8>>);

impl Weights {
    /// Takes `megabytes` step by step during `time`.
    pub(super) async fn grow_over(&mut self, megabytes: usize, time: Duration) {
        for step in 1..=STEPS {
            tokio::time::sleep(time / STEPS).await;
            self.grow_to(megabytes * step as usize / STEPS as usize);
        }
    }

    fn grow_to(&mut self, megabytes: usize) {
        self.0.resize_with(megabytes, || vec![1; MEGABYTE]);
    }
}

/// The place of the weights: the worker itself, or 1.8.1's model process.
enum Loaded {
    Here { _weights: Weights },
    InChild(Child),
}

impl Loaded {
    fn is_alive(&mut self) -> bool {
        match self {
            Self::Here { .. } => true,
            Self::InChild(child) => matches!(child.try_wait(), Ok(None)),
        }
    }
}

/// The load failed, for the reason in every log line and answer about it.
#[derive(Debug)]
pub(super) struct LoadFailed;

/// One model, loaded or not.
pub(super) struct Model {
    knobs: Knobs,
    record: Arc<Record>,
    /// Held while loading: other requests for the model wait here.
    loaded: Mutex<Option<Loaded>>,
    initialized: AtomicBool,
}

impl Model {
    pub(super) fn new(knobs: Knobs, record: Arc<Record>) -> Self {
        Self {
            knobs,
            record,
            loaded: Mutex::new(None),
            initialized: AtomicBool::new(false),
        }
    }

    /// The answer of `/health`; 1.8.1 gives it even after its model process has died.
    pub(super) fn is_initialized(&self) -> bool {
        self.initialized.load(Ordering::Relaxed)
    }

    /// Returns when the model is loaded, loading it if need be; once, however many wait.
    pub(super) async fn ensure_loaded(&self) -> Result<(), LoadFailed> {
        let mut loaded = self.loaded.lock().await;
        if loaded.as_mut().is_some_and(Loaded::is_alive) {
            return Ok(());
        }
        *loaded = Some(self.load().await?);
        self.initialized.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn load(&self) -> Result<Loaded, LoadFailed> {
        self.record.event("load", &json!({}));
        log("INFO", "app.core.handler", "Loading model");
        let mut weights = Weights::default();
        let mut child = match self.knobs.dialect {
            Dialect::Jit => None,
            Dialect::V181 => Some(family::start_model(&self.knobs).map_err(|_| LoadFailed)?),
        };
        for step in 1..=STEPS {
            self.knobs.pass(self.knobs.load_seconds / STEPS).await;
            if self.knobs.chatty_load {
                let share = step * 100 / STEPS;
                log(
                    "INFO",
                    "huggingface_hub",
                    &format!("Fetching files: {share}%"),
                );
            }
            if child.is_none() {
                weights.grow_to(self.knobs.memory_mb * step as usize / STEPS as usize);
            }
        }
        if self.knobs.fail_load {
            child.as_mut().map(end);
            self.record.event("load_failed", &json!({}));
            log(
                "ERROR",
                "app.core.handler",
                "Failed to load model handler: no such model",
            );
            return Err(LoadFailed);
        }
        self.record.event("loaded", &json!({}));
        log("INFO", "app.core.handler", "Model loaded");
        Ok(child.map_or(Loaded::Here { _weights: weights }, Loaded::InChild))
    }

    /// Ends the model process, if there is one.
    pub(super) async fn end(&self) {
        if let Some(Loaded::InChild(mut child)) = self.loaded.lock().await.take() {
            end(&mut child);
        }
    }
}

/// Ends a child and waits until it is gone.
pub(super) fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
