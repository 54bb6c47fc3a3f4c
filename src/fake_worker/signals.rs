//! The ends of a worker: SIGTERM waits for the requests in flight, SIGINT after it does not, SIGINT alone
//! is an exit with 1, and a worker that was asked to end dies by SIGTERM.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::server::Worker;

/// The end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// With this code.
    Code(u8),
    /// By signal 15.
    Terminated,
    /// By signal 15, too suddenly to end the children.
    CutShort,
}

impl Exit {
    /// True if the worker ends its children first.
    pub(super) fn is_orderly(self) -> bool {
        self != Self::CutShort
    }

    /// Ends the process this way.
    pub(super) fn into_code(self) -> ExitCode {
        let Self::Code(code) = self else {
            // A handled signal cannot be un-handled without unsafe code; a fresh program image in
            // the same process can, and dies with the status that the hub has to see.
            let error = Command::new("/bin/sh").args(["-c", "kill -TERM $$"]).exec();
            log_failure(&error);
            return ExitCode::FAILURE;
        };
        ExitCode::from(code)
    }
}

fn log_failure(error: &std::io::Error) {
    super::server::log("ERROR", "app.main", &format!("Cannot run /bin/sh: {error}"));
}

/// The two signals a worker is ended with.
pub(super) struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    /// Completes when the worker has to end; returns the way.
    pub(super) async fn until_the_end(&mut self, worker: &Arc<Worker>) -> Exit {
        let mut asked: Option<Exit> = None;
        let drained = worker.drained();
        tokio::pin!(drained);
        loop {
            let how = tokio::select! {
                () = &mut drained => return asked.unwrap_or(Exit::Terminated),
                _ = self.term.recv() => {
                    worker.record.event("sigterm", &json!({}));
                    if worker.knobs.ignore_sigterm {
                        continue;
                    }
                    Exit::Terminated
                }
                _ = self.int.recv() => {
                    worker.record.event("sigint", &json!({}));
                    if worker.knobs.ignore_sigint {
                        continue;
                    }
                    if asked.is_some() {
                        return Exit::CutShort;
                    }
                    Exit::Code(1)
                }
            };
            if !worker.is_ready() {
                return Exit::CutShort;
            }
            asked.get_or_insert(how);
            worker.stopping.cancel();
        }
    }
}
