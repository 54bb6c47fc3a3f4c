//! The interface between the supervisor and real processes: tests put a fake here.

use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::worker::launch::{self, Instruction, Order, Report};

/// Starts workers.
pub trait Launcher: Send + Sync + 'static {
    /// Begins one launch; returns at once. `report` is called with each step, the last of which is
    /// [`Report::Gone`], or [`Report::Standby`] without a process.
    fn launch(
        &self,
        order: Order,
        instructions: UnboundedReceiver<Instruction>,
        report: Arc<dyn Fn(Report) + Send + Sync>,
    );
}

/// Real processes, one tracked task each.
#[derive(Debug, Clone)]
pub struct Processes {
    tracker: TaskTracker,
}

impl Processes {
    /// Launches whose tasks `tracker` waits for.
    pub fn new(tracker: TaskTracker) -> Self {
        Self { tracker }
    }
}

impl Launcher for Processes {
    fn launch(
        &self,
        order: Order,
        instructions: UnboundedReceiver<Instruction>,
        report: Arc<dyn Fn(Report) + Send + Sync>,
    ) {
        let span = tracing::info_span!("worker", hub_model = %order.model.name);
        let task = launch::run(order, instructions, move |step| report(step));
        self.tracker.spawn(task.instrument(span));
    }
}
