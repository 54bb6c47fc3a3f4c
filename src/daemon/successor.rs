//! The hub that replaces this one, seen from the old one.
//!
//! It is started as a process of its own, gets ready beside the old one, and only then takes over: whatever
//! goes wrong until then, the old hub serves on as if nothing had been. Afterwards [`Raised`] is all that is
//! left to do: serve what has been begun to its end, and tell the new hub of it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::channel::{Channel, Everything, Hello, Word};
use super::service::Service;
use crate::files;

/// Longest time for a hub to get ready: it checks hub.yaml, policies and worker programs.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// Longest time that this hub stands still for it.
const STILL_LIMIT: Duration = Duration::from_secs(5);

/// The file in which the command `restart` leaves the path of the new hub's program.
pub(crate) fn program_file(log_path: &Path) -> PathBuf {
    log_path.join("hub_program.json")
}

/// The way to start a hub that replaces this one.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    /// The program, unless `restart` has left another one.
    pub(super) program: PathBuf,
    pub(super) config_path: PathBuf,
    pub(super) foreground: bool,
}

impl Recipe {
    /// The program to start: the one that `restart` has left in the log folder, once, or this one's.
    pub(super) fn program(&self, log_path: &Path) -> PathBuf {
        let file = program_file(log_path);
        let left = files::read_own(&file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let _ = std::fs::remove_file(&file);
        left.unwrap_or_else(|| self.program.clone())
    }

    /// Starts it, with that end of a channel.
    pub(super) fn start(&self, program: &Path, end: OwnedFd) -> io::Result<Child> {
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(&self.config_path)
            .args(["serve", "--take-over"])
            .stdin(Stdio::from(end))
            // A Ctrl+C is for the process that was started in the terminal: it tells the others.
            .process_group(0);
        if !self.foreground {
            command.arg("--background");
        }
        command.spawn()
    }
}

/// A hub that has been started and has not taken over.
#[derive(Debug)]
pub(super) struct Candidate {
    channel: Channel,
    process: Process,
}

/// Its process.
#[derive(Debug)]
enum Process {
    /// A child of this one.
    Own(Child),
    /// A child of the service's process.
    OfService(u32),
}

/// A hub that has taken over.
#[derive(Debug)]
pub(super) struct Raised {
    pub(super) channel: Channel,
    pub(super) pid: u32,
    /// Unless it is the service's.
    pub(super) child: Option<Child>,
    pub(super) log_path: PathBuf,
}

impl Candidate {
    /// Starts a hub.
    pub(super) async fn start(
        recipe: &Recipe,
        log_path: &Path,
        service: Option<&Service>,
    ) -> Result<Self, String> {
        let program = recipe.program(log_path);
        let (channel, end) = Channel::pair().map_err(|error| error.to_string())?;
        let not_started = |error| format!("`{}` could not be started: {error}", program.display());
        let process = match service {
            Some(service) => {
                let pid = service.start(&program, end).await.map_err(not_started)?;
                Process::OfService(pid)
            }
            None => {
                let child = recipe.start(&program, end);
                Process::Own(child.map_err(|error| not_started(error.to_string()))?)
            }
        };
        Ok(Self { channel, process })
    }

    /// Waits until it could serve; `files` are those of [`Word::Hello`].
    pub(super) async fn ready(
        &mut self,
        hello: Hello,
        files: &[BorrowedFd<'_>],
    ) -> Result<(), String> {
        self.channel
            .say(&Word::Hello(Box::new(hello)), files)
            .await
            .map_err(|error| error.to_string())?;
        match timeout(READY_LIMIT, self.channel.hear()).await {
            Ok(Ok(Some((Word::Ready, _)))) => Ok(()),
            Ok(Ok(Some((Word::Refused { reason }, _)))) => Err(reason),
            Ok(_) => Err("the new hub ended at its start".to_owned()),
            Err(_) => Err(format!(
                "the new hub was not ready within {} seconds",
                READY_LIMIT.as_secs()
            )),
        }
    }

    /// Gives it all that is known, and waits until it serves.
    pub(super) async fn take_over(
        &mut self,
        everything: Everything,
    ) -> Result<(SocketAddr, PathBuf), String> {
        let taken = async {
            let word = Word::Legacy(Box::new(everything));
            self.channel.say(&word, &[]).await.ok()?;
            self.channel.hear().await.ok()?
        };
        match timeout(STILL_LIMIT, taken).await {
            Ok(Some((Word::Serving { address, log_path }, _))) => Ok((address, log_path)),
            Ok(Some((Word::Refused { reason }, _))) => Err(reason),
            _ => Err("the new hub ended before it served".to_owned()),
        }
    }

    /// It serves.
    pub(super) fn raised(self, log_path: PathBuf) -> Raised {
        let (pid, child) = match self.process {
            Process::Own(child) => (child.id().unwrap_or_default(), Some(child)),
            Process::OfService(pid) => (pid, None),
        };
        Raised {
            channel: self.channel,
            pid,
            child,
            log_path,
        }
    }

    /// Ends it: it must not come up later.
    pub(super) async fn dismiss(self) {
        match self.process {
            // Kills and reaps it.
            Process::Own(mut child) => drop(child.kill().await),
            Process::OfService(pid) => super::service::kill(pid),
        }
    }
}
