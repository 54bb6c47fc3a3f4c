//! The world of a recording, over the current hub.yaml.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::{ModelView, Unstarted, World};
use super::record::line::Row;
use crate::api::SystemMemory;
use crate::config::Config;

/// The world at the moment of the current line.
pub(crate) struct Recorded {
    hub: Unstarted,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    time: f64,
    rows: BTreeMap<String, Row>,
    memory: SystemMemory,
}

impl Recorded {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            hub: Unstarted::new(config),
            now: Mutex::default(),
        }
    }

    /// Advances to a moment, with the models and the memory that changed.
    pub(crate) fn advance(
        &self,
        time: f64,
        mut models: BTreeMap<String, Row>,
        memory: Option<SystemMemory>,
    ) {
        let mut now = self.now.lock();
        now.time = time;
        now.rows.append(&mut models);
        if let Some(memory) = memory {
            now.memory = memory;
        }
    }
}

impl World for Recorded {
    fn config(&self) -> Arc<Config> {
        self.hub.config()
    }

    fn model(&self, name_or_path: &str) -> Option<ModelView> {
        let mut view = self.hub.model(name_or_path)?;
        let now = self.now.lock();
        let Some(row) = now.rows.get(&view.facts.name) else {
            return Some(view);
        };
        let since = |then: f64| (now.time - then).max(0.0);
        let facts = Arc::make_mut(&mut view.facts);
        facts.process_state = row.process;
        facts.memory_state = row.memory;
        facts.last_load_at = row.loaded_since;
        facts.load_seconds = row.load_seconds;
        view.activity.active_requests = row.active;
        view.activity.waiting_requests = row.waiting;
        view.activity.parked_requests = row.parked;
        view.keep_alive = row.keep_alive;
        view.idle_seconds = row.idle_since.map_or(0.0, since);
        view.loaded_seconds = row.loaded_since.map(since);
        view.activity.memory_bytes = row.memory_bytes;
        view.activity.peak_bytes = row.peak_bytes;
        Some(view)
    }

    fn memory(&self) -> SystemMemory {
        self.now.lock().memory
    }

    fn clock(&self) -> f64 {
        self.now.lock().time
    }
}
