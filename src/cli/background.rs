//! Puts the daemon into the background and waits until it answers.
//!
//! The daemon is this program again (`serve`), in a session of its own, so that neither Ctrl+C nor the end of
//! the terminal reaches it. Its output before its log is open, and any panic, go to
//! `<log_path>/app.stderr.log`.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use process_wrap::std::{ChildWrapper, CommandWrap, ProcessSession};
use tokio::time::{Instant, sleep};

use super::client::{Client, Probe};
use crate::config::Config;
use crate::runtime_file::RuntimeFile;
use crate::{files, telemetry};

/// Longest wait for a daemon's first answer.
pub(super) const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// Size in bytes at which a log is emptied at the next start.
const MAX_LOG: u64 = 1024 * 1024;
/// Number of lines of the log in an error.
const SHOWN_LINES: usize = 20;

/// A started daemon that does not answer yet.
pub(super) struct Background {
    child: Box<dyn ChildWrapper>,
    log: File,
    /// Byte offset of this daemon's part of the log.
    log_start: u64,
    log_file: PathBuf,
    log_path: PathBuf,
}

/// The hub that answers.
pub(super) enum Ready {
    /// This daemon, with its process id.
    Own(u32),
    /// Another one, which was faster, with its process id, unless that is lost.
    Another(Option<u32>),
}

/// The reason why there is no daemon.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(
        "`{}` cannot be written: {cause}\nhint: set another `log_path` in hub.yaml",
        .path.display()
    )]
    Log {
        path: PathBuf,
        cause: std::io::Error,
    },
    #[error("cannot find the hub's own program: {0}")]
    Program(std::io::Error),
    #[error("cannot start the process of the hub: {0}")]
    Spawn(std::io::Error),
    #[error("the hub ended at its start ({0})")]
    Died(ExitStatus),
    #[error(
        "the hub did not answer within {} seconds and was told to stop",
        START_LIMIT.as_secs()
    )]
    Silent,
}

impl Background {
    /// Starts it.
    pub(super) fn spawn(config: &Config) -> anyhow::Result<Self> {
        let log_path = config.log_path.clone();
        telemetry::create_log_folder(&log_path)?;
        let log_file = telemetry::stderr_log(&log_path);
        let (log, log_start) = open_log(&log_file).map_err(|cause| Failure::Log {
            path: log_file.clone(),
            cause,
        })?;
        let program = std::env::current_exe().map_err(Failure::Program)?;
        let mut command = Command::new(program);
        command
            .arg("--config")
            .arg(&config.path)
            .args(["serve", "--background"])
            // Not the caller's: a daemon must not keep an unrelated folder busy.
            .current_dir(config.folder())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?);
        let child = CommandWrap::from(command)
            .wrap(ProcessSession)
            .spawn()
            .map_err(Failure::Spawn)?;
        Ok(Self {
            child,
            log,
            log_start,
            log_file,
            log_path,
        })
    }

    /// Waits until a hub answers. If the daemon dies because another one was faster, that one counts.
    pub(super) async fn ready(mut self, client: &Client) -> anyhow::Result<Ready> {
        let Err(failure) = self.answers(client).await? else {
            let whose = self.whose();
            if matches!(whose, Ready::Another(_)) {
                // It would go on waiting for the port, and take it if the other one is stopped.
                self.dismiss()?;
            }
            return Ok(whose);
        };
        if client.probe().await == Probe::Hub {
            return Ok(Ready::Another(self.keeper()));
        }
        let mut said = self.last_lines();
        if said.is_empty()
            && let Err(error) = files::has_room(&self.log_path)
        {
            // The daemon could not have logged it either.
            let log_path = self.log_path.display();
            said = format!("\n  the log folder `{log_path}` cannot be written: {error}");
        }
        let stderr_log = self.log_file.display();
        let app_log = telemetry::app_log(&self.log_path);
        let app_log = app_log.display();
        if matches!(failure, Failure::Silent) {
            // Otherwise it could start later unnoticed, or block the next attempt.
            let _ = self.child.signal(Signal::SIGTERM as i32);
        }
        anyhow::bail!("{failure}{said}\nits logs: {stderr_log}, {app_log}")
    }

    /// Ends a daemon without a port. It takes no time, as the daemon handles no signal so far.
    fn dismiss(&mut self) -> std::io::Result<()> {
        self.child.signal(Signal::SIGTERM as i32)?;
        self.child.wait().map(drop)
    }

    /// The answering hub while the daemon lives, which may not have noticed yet that another has the port.
    fn whose(&self) -> Ready {
        match self.keeper() {
            Some(pid) if pid != self.child.id() => Ready::Another(Some(pid)),
            _ => Ready::Own(self.child.id()),
        }
    }

    /// The process of the runtime file, which a hub writes before it answers.
    fn keeper(&self) -> Option<u32> {
        RuntimeFile::read(&self.log_path).map(|runtime| runtime.pid)
    }

    async fn answers(&mut self, client: &Client) -> std::io::Result<Result<(), Failure>> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            // In this order: a hub that answers after the child's death is not the child.
            let ended = self.child.try_wait()?;
            if let Some(status) = ended {
                return Ok(Err(Failure::Died(status)));
            }
            if client.probe().await == Probe::Hub {
                return Ok(Ok(()));
            }
            sleep(POLL).await;
        }
        Ok(Err(Failure::Silent))
    }

    /// The daemon's output, as lines that continue an error; empty without output.
    fn last_lines(&mut self) -> String {
        let mut text = Vec::new();
        // Without the lines the error still names the file.
        let read = self
            .log
            .seek(SeekFrom::Start(self.log_start))
            .and_then(|_| self.log.read_to_end(&mut text));
        if read.is_err() {
            return String::new();
        }
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.trim_end().lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        shown
            .iter()
            .fold(String::new(), |said, line| said + "\n  " + line)
    }
}

/// Opens the log to append, and returns its length.
fn open_log(path: &Path) -> std::io::Result<(File, u64)> {
    let log = files::open_private(path)?;
    if log.metadata()?.len() > MAX_LOG {
        log.set_len(0)?;
    }
    let start = log.metadata()?.len();
    Ok((log, start))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn every_reason_why_there_is_no_daemon_is_told() {
        let cause = || std::io::Error::other("no more processes");
        let path = "logs/app.stderr.log".into();
        let told = [
            Failure::Log {
                path,
                cause: cause(),
            },
            Failure::Program(cause()),
            Failure::Spawn(cause()),
            Failure::Died(ExitStatus::from_raw(1 << 8)),
            Failure::Silent,
        ]
        .map(|failure| failure.to_string());
        insta::assert_snapshot!(told.join("\n"), @"
        `logs/app.stderr.log` cannot be written: no more processes
        hint: set another `log_path` in hub.yaml
        cannot find the hub's own program: no more processes
        cannot start the process of the hub: no more processes
        the hub ended at its start (exit status: 1)
        the hub did not answer within 20 seconds and was told to stop
        ");
    }
}
