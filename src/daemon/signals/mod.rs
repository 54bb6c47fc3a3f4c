//! The meaning of the hub's signals.
//!
//! SIGINT and SIGTERM end it. So does SIGHUP in a terminal, which has gone then; in the background it reads
//! hub.yaml again, and where it was ignored when the hub was started (`nohup`) it stays so. Others that would
//! end a process that does not expect them do nothing. A hub beside a service's process is told of the
//! signals that one gets.

use std::io::{self, IsTerminal as _};

use nix::sys::signal::Signal as Name;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::channel::Signalled;

mod ignored;

/// They would end the process. `SIGXFSZ` comes with a write beyond the largest file that the process may have, which
/// then fails like one to a full disk.
const MEANINGLESS: [Name; 9] = [
    Name::SIGUSR1,
    Name::SIGUSR2,
    Name::SIGALRM,
    Name::SIGVTALRM,
    Name::SIGPROF,
    Name::SIGIO,
    Name::SIGQUIT,
    Name::SIGXCPU,
    Name::SIGXFSZ,
];

/// A signal that means something, by its name, and what it means.
pub(super) type Meant = (&'static str, Signalled);

/// The signals of this process, and those of the service's process.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Unless it is ignored.
    hang_up: Option<Signal>,
    has_terminal: bool,
    of_service: mpsc::UnboundedReceiver<Signalled>,
    /// Number of times that each of the two was told to end: a manager may tell all processes at once.
    told_to_end: [u32; 2],
}

impl Signals {
    /// The signals of this process.
    pub(super) fn new(of_service: mpsc::UnboundedReceiver<Signalled>) -> io::Result<Self> {
        for name in MEANINGLESS {
            // A signal that has been listened to once never has its default action again.
            drop(signal(SignalKind::from_raw(name as i32))?);
        }
        let hang_up = match ignored::is_ignored(Name::SIGHUP) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        // One in the background has none: all three are files.
        let has_terminal =
            io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up,
            has_terminal,
            of_service,
            told_to_end: [0, 0],
        })
    }

    /// The next one that means something.
    pub(super) async fn next(&mut self) -> Meant {
        loop {
            let hang_up = async {
                match &mut self.hang_up {
                    Some(hang_up) => hang_up.recv().await,
                    None => std::future::pending().await,
                }
            };
            let (name, meaning, whose) = tokio::select! {
                _ = self.interrupt.recv() => ("SIGINT", Signalled::Terminate, 0),
                _ = self.terminate.recv() => ("SIGTERM", Signalled::Terminate, 0),
                _ = hang_up => match self.has_terminal {
                    true => ("SIGHUP", Signalled::Terminate, 0),
                    false => ("SIGHUP", Signalled::Reload, 0),
                },
                Some(meaning) = self.of_service.recv() => ("the service's signal", meaning, 1),
            };
            if meaning == Signalled::Reload {
                return (name, meaning);
            }
            let before = self.told_to_end.iter().max().copied();
            self.told_to_end[whose] += 1;
            if self.told_to_end.iter().max().copied() > before {
                return (name, meaning);
            }
        }
    }

    /// The next one that is to end the process, by its name.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            if let (name, Signalled::Terminate) = self.next().await {
                return name;
            }
        }
    }
}
