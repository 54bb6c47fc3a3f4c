//! The grant that lets a request be sent to a worker.

use std::sync::Arc;

use super::gate::Lease;
use super::registry::Model;
use crate::upstream::Upstream;

/// The right to send one request to a worker, with the worker's address.
#[derive(Debug)]
pub struct Grant {
    /// Keep it with the response body.
    pub lease: Lease,
    /// The worker.
    pub upstream: Arc<Upstream>,
}

impl Grant {
    /// For a request to a loaded model whose gate is open.
    pub(in crate::hub) fn of(model: &Model) -> Option<Self> {
        // The lease comes first: while it is out, the worker is not replaced.
        let lease = model.gate.try_enter()?;
        let upstream = model.upstream.load_full()?;
        Some(Self { lease, upstream })
    }
}
