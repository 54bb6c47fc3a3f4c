//! A request that waits for its model to be loaded, from the verdict that lets it go to the answer of
//! the supervisor. Being there is what `model.waiting` counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::registry::Model;
use crate::core::admission::Seen;

/// A request on its way to the supervisor. The model counts it until it is dropped.
#[derive(Debug)]
pub struct Arrival {
    pub(in crate::hub) model: Arc<Model>,
    /// Taken before the verdict.
    pub(in crate::hub) seen: Seen,
    /// Under which key it takes turns.
    pub(in crate::hub) client: Arc<str>,
    /// Its earlier time in the queue.
    pub(in crate::hub) parked: Duration,
}

impl Arrival {
    pub(in crate::hub) fn new(
        model: &Arc<Model>,
        seen: Seen,
        client: Arc<str>,
        parked: Duration,
    ) -> Self {
        model.waiting.fetch_add(1, Ordering::SeqCst);
        Self {
            model: Arc::clone(model),
            seen,
            client,
            parked,
        }
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.model.waiting.fetch_sub(1, Ordering::SeqCst);
        self.model.gate.parking.changed();
    }
}
