//! Tells a process from a later one of the same id: process ids are reused.

use std::time::Duration;

use nix::unistd::{Pid, getpgid};
use sysinfo::{ProcessRefreshKind, UpdateKind};
use tokio::time::sleep;

use super::processes;
use crate::runtime_file::RuntimeWorker;

/// Tolerance of start times: they are in seconds, and the clock may be adjusted meanwhile.
const START_TIME_SLACK: u64 = 2;
/// Interval at which a process that is no child is checked, the delay with which its end is noticed.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// A process that leads its own group, with the facts that tell it from a later one of the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its process id.
    pub pid: u32,
    /// Its start, in Unix seconds.
    pub start_time: u64,
    /// The command line it was started with.
    pub command: Vec<String>,
    /// The launch that its processes are marked with; empty for those of an older hub.
    pub launch: String,
}

impl From<&RuntimeWorker> for Identity {
    fn from(worker: &RuntimeWorker) -> Self {
        Self {
            pid: worker.pid,
            start_time: worker.start_time,
            command: worker.command.clone(),
            launch: worker.launch.clone(),
        }
    }
}

/// Evidence that a process is the one that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Proofs {
    start_time: bool,
    command: bool,
}

impl Identity {
    /// True if this very process runs now. It is recognised by its start time, or by its command line
    /// when the clock has been set since. A zombie does not run; a process that cannot be read is taken to run.
    pub fn is_running(&self) -> bool {
        self.look(|proofs| proofs.start_time || proofs.command)
    }

    /// As [`Identity::is_running`] without other evidence: start time and command line must both match.
    pub(super) fn is_surely_running(&self) -> bool {
        self.look(|proofs| proofs.start_time && proofs.command)
    }

    fn look(&self, is_proved: impl FnOnce(Proofs) -> bool) -> bool {
        let Ok(id) = i32::try_from(self.pid) else {
            return false;
        };
        if getpgid(Some(Pid::from_raw(id))) != Ok(Pid::from_raw(id)) {
            return false;
        }
        let kind = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always);
        let Some(system) = processes::of(&[self.pid], kind) else {
            return is_proved(Proofs {
                start_time: true,
                command: false,
            });
        };
        let process = system.process(sysinfo::Pid::from_u32(self.pid));
        process.is_some_and(|process| {
            processes::is_alive(process)
                && is_proved(Proofs {
                    start_time: process.start_time().abs_diff(self.start_time) <= START_TIME_SLACK,
                    command: self.is_command(process.cmd()),
                })
        })
    }

    /// A script's interpreter comes before the program: only the arguments are compared. A worker that began as a
    /// spare has the name of its launch among them.
    fn is_command(&self, command: &[std::ffi::OsString]) -> bool {
        let is_launch = |word: &std::ffi::OsString| *word == *self.launch.as_str();
        if !self.launch.is_empty() && command.iter().any(is_launch) {
            return true;
        }
        let arguments = self.command.get(1..).unwrap_or_default();
        let first = command.len().saturating_sub(arguments.len());
        !arguments.is_empty()
            && command[first..]
                .iter()
                .zip(arguments)
                .all(|(is, was)| is == was.as_str())
            && command.len() >= arguments.len()
    }

    /// Completes when the process runs no more.
    pub(super) async fn ended(&self) {
        while self.is_running() {
            sleep(POLL_EVERY).await;
        }
    }
}

/// A process's start in Unix seconds; `None` when no process has that id.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let system = processes::of(&[pid], ProcessRefreshKind::nothing())?;
    let process = system.process(sysinfo::Pid::from_u32(pid));
    process.map(sysinfo::Process::start_time)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, Identity) {
        let child = Command::new("sleep")
            .arg("60")
            .process_group(0)
            .spawn()
            .unwrap();
        let start_time = start_time(child.id()).unwrap();
        let command = vec!["sleep".to_owned(), "60".to_owned()];
        let identity = Identity {
            pid: child.id(),
            start_time,
            command,
            launch: String::new(),
        };
        (child, identity)
    }

    fn eventually(is_so: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while !is_so() {
            assert!(tokio::time::Instant::now() < deadline, "not in time");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start_or_by_its_command() {
        let (mut child, identity) = sleeper();
        assert!(identity.is_running());
        let clock_was_set = Identity {
            start_time: 17,
            ..identity.clone()
        };
        // The system shows a command line a moment after the process.
        eventually(|| clock_was_set.is_running());
        let stranger = Identity {
            start_time: 17,
            command: vec!["sleep".into(), "61".into()],
            ..identity.clone()
        };
        assert!(!stranger.is_running());
        assert!(identity.is_surely_running());
        assert!(!clock_was_set.is_surely_running());
        child.kill().unwrap();
        // Not reaped yet: a zombie.
        eventually(|| !identity.is_running());
        child.wait().unwrap();
        assert!(!identity.is_running());
    }

    #[test]
    fn a_process_that_leads_no_group_is_a_stranger() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let command = vec!["sleep".to_owned(), "60".to_owned()];
        let identity = Identity {
            pid: child.id(),
            start_time: start_time(child.id()).unwrap(),
            command,
            launch: String::new(),
        };
        assert!(!identity.is_running());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
