//! Asks a starting worker whether it is ready, as its engine understands the answer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Upstream;
use crate::config::ModelConfig;
use crate::engine::{Answer, Memory};

/// Interval of the health checks of a starting worker, the delay with which readiness is noticed if it does not tell
/// that it listens.
const POLL: Duration = Duration::from_millis(10);
/// A worker whose event loop is blocked answers late; a refused connection answers at once.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// A starting worker that is asked whether it is ready.
pub(super) struct Asked {
    pub(super) upstream: Arc<Upstream>,
    pub(super) command: Vec<String>,
    pub(super) model: ModelConfig,
    pub(super) port: u16,
    pub(super) resident: bool,
}

impl Asked {
    /// Completes when the worker gives an answer that its engine takes for that of a worker that is ready: until
    /// then another program may have its port, and that is a `stranger`. Only a `resident` worker, or one that is
    /// loaded by a request, may answer without its weights; any other is asked again until it has them, and at
    /// once when it is `listening`.
    ///
    /// # Errors
    /// When the engine's file fails.
    pub(super) async fn ready(
        &self,
        stranger: &AtomicBool,
        listening: impl Future<Output = ()>,
    ) -> Result<Memory, String> {
        let mut listening = pin!(listening);
        let mut has_told = false;
        let engine = &self.model.engine;
        let model = self.model.for_engine(self.port);
        let path = engine.ready_path(&model)?;
        let may_be_unloaded = self.resident || engine.load.is_some();
        loop {
            if let Ok(Ok((status, body))) = timeout(HEALTH_TIMEOUT, self.upstream.get(&path)).await
            {
                let answer = Answer {
                    status: status.as_u16(),
                    body: &body,
                    argv: &self.command,
                };
                match engine.understand(&answer, &model)? {
                    Memory::Unknown => {}
                    Memory::Other => stranger.store(true, Ordering::Relaxed),
                    found => {
                        stranger.store(false, Ordering::Relaxed);
                        if found == Memory::Loaded || may_be_unloaded {
                            return Ok(found);
                        }
                    }
                }
            }
            tokio::select! {
                biased;
                () = &mut listening, if !has_told => has_told = true,
                () = sleep(POLL) => {}
            }
        }
    }
}
