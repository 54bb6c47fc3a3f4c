//! The order in which a hub ends: its models, then what it has begun to answer, then its files.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::Serving;
use super::channel::Word;
use super::signals::Signals;
use super::startup::ports_file;
use crate::hub::lifecycle::{Lifecycle, Models};
use crate::runtime_file::{RuntimeFile, Trail};

/// Longest time for open connections to close once every model has ended.
const CONNECTIONS_END: Duration = Duration::from_secs(3);
/// Interval at which a long shutdown logs the reason of its wait.
const STILL_WAITING: Duration = Duration::from_secs(5);

impl Serving {
    /// Ends the hub.
    pub(super) async fn end(self, models: Models, mut signals: Signals) -> ExitCode {
        self.connections.close();
        // For gateways it is over, also if a signal asked for it.
        self.lifecycle.request_shutdown(models);
        match models {
            Models::Stop => {
                self.lifecycle.leave_fleet().await;
                drop(self.fleet);
                stop_models(&self.lifecycle, self.supervisor, &mut signals).await;
                self.ending.full.cancel();
                self.ending.shutdown.cancel();
                if let Some(before) = &self.before {
                    before.say(Word::End);
                }
                wait_for_connections(&self.connections, CONNECTIONS_END, &mut signals).await;
                if let Some(before) = &self.before {
                    let _ = timeout(CONNECTIONS_END, before.gone()).await;
                }
            }
            Models::Keep => {
                // Requests in flight end before the hub that serves them does.
                self.ending.full.cancel();
                self.ending.shutdown.cancel();
                let limit = self.lifecycle.config().drain_timeout;
                wait_for_connections(&self.connections, limit, &mut signals).await;
                self.lifecycle.hand_over();
                let _ = self.supervisor.await;
            }
        }
        self.accepting.abort();
        self.lifecycle.policies().stop_recording();
        // The supervisor has dropped its end of the channel: the last write is over before the removal.
        self.filing.ended().await;
        self.lifecycle.remember_ports(&ports_file(&self.log_path));
        self.lifecycle.remember_learned();
        self.lifecycle.remember_history();
        if models == Models::Stop {
            self.earlier.end_all();
            RuntimeFile::remove(&self.log_path);
            Trail::remove(&self.config_path);
        }
        tracing::info!("the hub has stopped");
        ExitCode::SUCCESS
    }
}

/// Waits until the last answer has been sent, at most `limit`; a signal ends the wait.
async fn wait_for_connections(connections: &TaskTracker, limit: Duration, signals: &mut Signals) {
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, connections.wait()) => ended.is_ok(),
        _ = signals.end() => false,
    };
    if !ended {
        tracing::warn!(
            open = connections.len(),
            "connections are still open; they are cut"
        );
    }
}

/// Drains and ends every model; a second signal skips the drain.
async fn stop_models(
    lifecycle: &Lifecycle,
    supervisor: tokio::task::JoinHandle<()>,
    signals: &mut Signals,
) {
    lifecycle.stop_all(false);
    let mut ended = supervisor;
    let mut still_waiting = tokio::time::interval(STILL_WAITING);
    still_waiting.tick().await;
    loop {
        tokio::select! {
            _ = &mut ended => return,
            name = signals.end() => {
                tracing::warn!("{name} again: requests in flight are cut");
                lifecycle.stop_all(true);
            }
            _ = still_waiting.tick() => {
                for model in lifecycle.status().models {
                    if model.metadata.facts.pid.is_some() {
                        let active = model.metadata.activity.active_requests;
                        tracing::info!(hub_model = %model.id, active, "still waiting for it to end");
                    }
                }
            }
        }
    }
}
