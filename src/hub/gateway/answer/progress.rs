//! The progress of the load that a request waits for, in the words for its client.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{ApiError, MemoryState, unix_now};
use crate::hub::gateway::refusals;
use crate::hub::lifecycle::Model;

/// `Retry-After` for a model that has never been loaded, in seconds.
const UNKNOWN_LOAD: f64 = 10.0;

/// The progress of a load, for a waiting request.
#[derive(Debug)]
pub(crate) struct Progress {
    model: Arc<Model>,
    began: Instant,
}

impl Progress {
    /// The progress for a request that begins to wait now.
    pub(crate) fn new(model: Arc<Model>) -> Self {
        Self {
            model,
            began: Instant::now(),
        }
    }

    /// The start of the wait.
    pub(crate) fn began(&self) -> Instant {
        self.began
    }

    /// The duration of the wait.
    pub(crate) fn waited(&self) -> Duration {
        self.began.elapsed()
    }

    /// The model.
    pub(crate) fn model(&self) -> &str {
        &self.model.name
    }

    /// `loading qwen3_30b 12s of about 40s`, `loading qwen3_30b 12s, downloaded 1.2 GB of 4.3 GB`, or `waiting for
    /// qwen3_30b 12s` while it is not even loading.
    pub(crate) fn text(&self) -> String {
        let name = &self.model.name;
        let facts = self.model.facts.load();
        match (self.of_load(), self.model.download_of(&facts)) {
            (Some((passed, _)), Some(download)) => {
                format!("loading {name} {passed:.0}s, downloaded {download}")
            }
            (Some((passed, Some(about))), None) => {
                format!("loading {name} {passed:.0}s of about {about:.0}s")
            }
            (Some((passed, None)), None) => format!("loading {name} {passed:.0}s"),
            (None, _) => format!("waiting for {name} {:.0}s", self.waited().as_secs_f64()),
        }
    }

    /// The duration of the load, and that of the last one; `None` before it begins.
    fn of_load(&self) -> Option<(f64, Option<f64>)> {
        let facts = self.model.facts.load();
        let since = facts.memory_last_transition_at?;
        let passed = (unix_now() - since).max(0.0);
        (facts.memory_state == MemoryState::Loading).then_some((passed, facts.load_seconds))
    }

    /// The refusal at the end of the client's own limit.
    pub(crate) fn still_loading(&self) -> ApiError {
        let left = match self.of_load() {
            Some((passed, Some(about))) => about - passed,
            Some((_, None)) => UNKNOWN_LOAD,
            None => self.model.facts.load().load_seconds.unwrap_or(UNKNOWN_LOAD),
        };
        // A load that takes longer than the last one may end at any moment.
        let seconds = left.ceil().max(1.0) as u64;
        refusals::still_loading(&self.text()).with_retry_after(seconds)
    }
}
