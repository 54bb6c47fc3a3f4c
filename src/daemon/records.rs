//! `hub_runtime.json`, kept up to date: how commands find this hub, and a later one its workers.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::runtime_file::{RuntimeFile, RuntimeModels};
use crate::telemetry::Troubles;

/// Time until a failed write is retried.
const WRITE_AGAIN: Duration = Duration::from_secs(2);
const UNWRITTEN: &str = "`hub_runtime.json` cannot be written: a hub that is killed now would lose sight of its workers";

/// The parts of the file.
#[derive(Debug, Clone)]
pub(super) struct Records {
    pub(super) file: RuntimeFile,
    /// The hubs before this one, until they are gone.
    pub(super) before: Vec<u32>,
    pub(super) gone: Option<CancellationToken>,
    pub(super) log_path: PathBuf,
    pub(super) models: watch::Receiver<RuntimeModels>,
    pub(super) troubles: Troubles,
}

/// The task that writes it.
#[derive(Debug)]
pub(super) struct Filing {
    records: Records,
    pause: CancellationToken,
    task: JoinHandle<()>,
}

impl Filing {
    /// Writes whatever changes from now on, and the hubs before this one.
    pub(super) fn begin(mut records: Records, tracker: &TaskTracker) -> Self {
        if !records.before.is_empty() {
            records.models.mark_changed();
        }
        let pause = CancellationToken::new();
        let task = tracker.spawn(keep(records.clone(), pause.clone()));
        Self {
            records,
            pause,
            task,
        }
    }

    /// The models as they are now.
    pub(super) fn models(&self) -> RuntimeModels {
        self.records.models.borrow().clone()
    }

    /// Returns when nothing is being written any more, nor will be.
    pub(super) async fn pause(&mut self) {
        self.pause.cancel();
        // One that panicked has said so.
        let _ = (&mut self.task).await;
    }

    /// Goes on, with what has changed meanwhile.
    pub(super) fn resume(&mut self, tracker: &TaskTracker) {
        let mut records = self.records.clone();
        records.models.mark_changed();
        *self = Self::begin(records, tracker);
    }

    /// Completes after the last write, when nothing changes any more.
    pub(super) async fn ended(self) {
        let _ = self.task.await;
    }
}

/// Writes it whenever a worker comes or goes, and again while it cannot be written.
async fn keep(records: Records, pause: CancellationToken) {
    let Records {
        mut file,
        before,
        gone,
        log_path,
        mut models,
        troubles,
    } = records;
    let (service, mut gone) = (file.also.clone(), gone.filter(|gone| !gone.is_cancelled()));
    let mut is_written = true;
    loop {
        let all_gone = async {
            match &gone {
                Some(gone) => gone.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = pause.cancelled() => return,
            changed = models.changed() => if changed.is_err() {
                return;
            },
            () = all_gone => gone = None,
            () = tokio::time::sleep(WRITE_AGAIN), if !is_written => {}
        }
        file.also.clone_from(&service);
        if gone.is_some() {
            file.also.extend(&before);
        }
        file.models = models.borrow_and_update().clone();
        let (copy, folder) = (file.clone(), log_path.clone());
        let written = tokio::task::spawn_blocking(move || copy.write(&folder)).await;
        let written = written.unwrap_or_else(|panicked| Err(panicked.into()));
        is_written = written.is_ok();
        if troubles.note(UNWRITTEN, written.as_ref().copied()) {
            match written {
                Ok(()) => tracing::info!("hub_runtime.json is written again"),
                Err(error) => tracing::warn!(%error, "hub_runtime.json cannot be written"),
            }
        }
    }
}
