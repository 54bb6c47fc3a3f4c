//! The process that a service manager follows, and the hub that runs beside it.
//!
//! launchd and systemd know a service by the process that they have started, so that one stays when another
//! hub takes its place: it starts the new ones, passes on the signals it gets, and ends as the hub ends.
//! If it is killed, so is the hub, and what the manager starts next finds the port free.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, getpid};
use tokio::process::Child;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::channel::{Channel, Signalled, Word};
use super::successor::Recipe;

/// Ends a process that has not begun to serve.
pub(super) fn kill(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended by itself.
        let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The service's process, seen from the hub.
#[derive(Debug)]
pub(super) struct Service {
    channel: Arc<Channel>,
    started: Mutex<mpsc::UnboundedReceiver<Result<u32, String>>>,
    _stop: DropGuard,
}

impl Service {
    /// Listens to it: `signalled` gets what its signals mean. When it is gone, so is this process, at once.
    pub(super) fn listen(
        channel: Channel,
        signalled: mpsc::UnboundedSender<Signalled>,
        tracker: &TaskTracker,
    ) -> io::Result<Self> {
        let own = Channel::of(channel.file().try_clone_to_owned()?.into())?;
        let (started, results) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tracker.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = listen(channel, signalled, started) => {
                    tracing::error!("the service's process is gone: so is the hub");
                    // As if it had been killed itself: the workers are for the next hub.
                    let _ = signal::kill(getpid(), Signal::SIGKILL);
                }
            }
        });
        Ok(Self {
            channel: Arc::new(own),
            started: Mutex::new(results),
            _stop: stop.drop_guard(),
        })
    }

    /// For the hub that comes next.
    pub(super) fn file(&self) -> io::Result<OwnedFd> {
        self.channel.file().try_clone_to_owned()
    }

    /// Has it start a hub with that end of a channel; says its process id.
    pub(super) async fn start(&self, program: &Path, end: OwnedFd) -> Result<u32, String> {
        let mut results = self.started.lock().await;
        let program = program.to_owned();
        self.channel
            .say(&Word::Start { program }, &[end.as_fd()])
            .await
            .map_err(|error| error.to_string())?;
        let gone = || Err("the service's process is gone".to_owned());
        results.recv().await.unwrap_or_else(gone)
    }

    /// Tells it which process is the hub now.
    pub(super) async fn follow(&self, pid: u32) {
        // If it does not hear, it is gone.
        let _ = self.channel.say(&Word::Current { pid }, &[]).await;
    }
}

async fn listen(
    mut channel: Channel,
    signalled: mpsc::UnboundedSender<Signalled>,
    started: mpsc::UnboundedSender<Result<u32, String>>,
) {
    while let Ok(Some((word, _))) = channel.hear().await {
        let _ = match word {
            Word::Signal(meaning) => signalled.send(meaning).is_ok(),
            Word::Started { pid } => started.send(Ok(pid)).is_ok(),
            Word::NotStarted { reason } => started.send(Err(reason)).is_ok(),
            _ => true,
        };
    }
}

/// The hub, seen from the service's process.
#[derive(Debug)]
pub(super) struct Keeper {
    channel: Channel,
    recipe: Recipe,
    /// The hub, which is a child of this process, as all its successors are.
    hub: Child,
    pid: Option<u32>,
    /// One that does not serve yet, and hubs that only end what they have begun.
    others: Vec<Child>,
    tracker: TaskTracker,
}

impl Keeper {
    pub(super) fn new(channel: Channel, recipe: Recipe, hub: Child, tracker: TaskTracker) -> Self {
        Self {
            channel,
            recipe,
            pid: hub.id(),
            hub,
            others: Vec::new(),
            tracker,
        }
    }

    /// Tells the hub of a signal.
    pub(super) async fn signalled(&self, meaning: Signalled) {
        // If it does not hear, it has ended.
        let _ = self.channel.say(&Word::Signal(meaning), &[]).await;
    }

    /// Completes when the hub has ended; does until then what it asks for. Dropping the future loses nothing.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        let mut is_open = true;
        loop {
            let heard = tokio::select! {
                status = self.hub.wait() => {
                    // Its last word may have been that another one is the hub now.
                    let ended = self.pid;
                    for (word, files) in self.channel.heard_already() {
                        self.obey(word, files).await;
                    }
                    if self.pid == ended {
                        return status.unwrap_or_default();
                    }
                    continue;
                }
                heard = self.channel.hear(), if is_open => heard,
            };
            match heard {
                Ok(Some((word, files))) => self.obey(word, files).await,
                Ok(None) | Err(_) => is_open = false,
            }
        }
    }

    async fn obey(&mut self, word: Word, files: Vec<OwnedFd>) {
        match word {
            Word::Start { program } => {
                let end = files.into_iter().next();
                let child = end
                    .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
                    .and_then(|end| self.recipe.start(&program, end));
                let answer = match child {
                    Ok(child) => {
                        let pid = child.id().unwrap_or_default();
                        self.others.push(child);
                        Word::Started { pid }
                    }
                    Err(error) => Word::NotStarted {
                        reason: error.to_string(),
                    },
                };
                let _ = self.channel.say(&answer, &[]).await;
            }
            Word::Current { pid } => {
                let place = self.others.iter().position(|other| other.id() == Some(pid));
                if let Some(place) = place {
                    std::mem::swap(&mut self.hub, &mut self.others[place]);
                    self.pid = Some(pid);
                    let mut former = self.others.swap_remove(place);
                    // Reaped when it has ended what it serves.
                    self.tracker.spawn(async move { drop(former.wait().await) });
                }
            }
            _ => {}
        }
        self.others
            .retain_mut(|other| matches!(other.try_wait(), Ok(None)));
    }
}

/// The exit status of a process that ends as another one has.
pub(super) fn same(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
