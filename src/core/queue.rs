//! What bounds the requests that wait, whether a policy parked them before a model or put off its load.

use std::time::Duration;

use crate::config::ModelConfig;

/// A request is not asked about more often than this unless something changes.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// What a policy's `seconds` count for at most: later than any `queue_timeout`.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many may be parked at a model, and how long each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    /// `queue_size` of hub.yaml.
    pub(crate) size: usize,
    /// `queue_timeout` of hub.yaml.
    pub(crate) timeout: Duration,
}

impl QueueLimits {
    pub(crate) fn of(model: &ModelConfig) -> Self {
        Self {
            size: model.queue_size(),
            timeout: model.queue_timeout().min(LONGEST_WAIT),
        }
    }
}

/// When to ask again after a verdict to wait for so long.
pub(crate) fn pause(seconds: f64) -> Duration {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT);
    seconds.clamp(SHORTEST_WAIT, LONGEST_WAIT)
}
