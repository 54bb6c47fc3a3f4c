//! Processes of workers without a hub: those of a killed hub, and those that have left the group of a worker
//! that has ended.
//!
//! They hold memory and ports. The mark in their environment ([`super::mark`]) tells them from all others; a
//! process without a readable environment belongs to them if another of its group has the mark.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getpgrp};
use sysinfo::{ProcessRefreshKind, UpdateKind};
use tokio::time::{Instant, sleep};

use super::identity::Identity;
use super::mark::{Mark, Owner};
use super::processes;
use crate::runtime_file::RuntimeWorker;

const POLL_EVERY: Duration = Duration::from_millis(5);
/// Longest wait for the end of killed processes.
const KILLED: Duration = Duration::from_secs(10);

/// The processes of this machine that may be workers, at one moment.
#[derive(Debug)]
pub(super) struct Survey(Vec<Candidate>);

#[derive(Debug)]
struct Candidate {
    pid: Pid,
    group: Pid,
    start_time: u64,
    environment: Environment,
}

#[derive(Debug)]
enum Environment {
    Marked(Mark),
    Unmarked,
    /// Empty if the system does not show it: no environment is really empty.
    Hidden,
}

/// A process of a worker without a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leftover {
    /// Its process id.
    pub(super) pid: u32,
    /// The model it was launched for, if known.
    pub(super) model: Option<String>,
}

impl Survey {
    /// Lists the processes of this moment. Takes milliseconds.
    pub(super) fn take() -> Self {
        let kind = ProcessRefreshKind::nothing().with_environ(UpdateKind::Always);
        let Some(system) = processes::all(kind) else {
            return Self(Vec::new());
        };
        let alive = system.processes().values();
        let alive = alive.filter(|process| processes::is_alive(process));
        let seen = alive.filter_map(|process| {
            let pid = Pid::from_raw(i32::try_from(process.pid().as_u32()).ok()?);
            let environment = process.environ();
            let is_shown = || {
                environment
                    .iter()
                    .any(|word| word.to_string_lossy().contains('='))
            };
            Some(Candidate {
                pid,
                group: getpgid(Some(pid)).ok()?,
                start_time: process.start_time(),
                environment: match Mark::of(environment) {
                    Some(mark) => Environment::Marked(mark),
                    None if is_shown() => Environment::Unmarked,
                    None => Environment::Hidden,
                },
            })
        });
        Self(seen.collect())
    }

    /// True if a process that a runtime file names is a worker of `owner` and runs.
    pub(super) fn has(&self, worker: &RuntimeWorker, owner: &Owner) -> bool {
        let identity = Identity::from(worker);
        let Some(leader) = self.0.iter().find(|seen| is_pid(seen.pid, worker.pid)) else {
            return false;
        };
        let group = self.0.iter().filter(|seen| seen.group == leader.pid);
        let is_marked = |seen: &Candidate| seen.mark().is_some_and(|mark| owner.owns(mark));
        match leader.environment {
            Environment::Marked(_) => is_marked(leader) && identity.is_running(),
            Environment::Unmarked => false,
            Environment::Hidden => {
                identity.is_surely_running()
                    || (group.into_iter().any(is_marked) && identity.is_running())
            }
        }
    }

    /// The log folders of the hubs that launched `owner`'s workers.
    pub(super) fn log_paths(&self, owner: &Owner) -> Vec<PathBuf> {
        let marks = self.0.iter().filter_map(Candidate::mark);
        let mut paths: Vec<_> = marks
            .filter(|mark| owner.owns(mark))
            .map(|mark| mark.log_path.clone())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// The processes that belong to `owner`, without the groups that `adopted` processes lead.
    pub(super) fn left(&self, owner: &Owner, adopted: &[u32]) -> Vec<Leftover> {
        self.marked(|mark| owner.owns(mark))
            .filter(|seen| !adopted.iter().any(|leader| is_pid(seen.group, *leader)))
            .map(|seen| Leftover {
                pid: seen.pid.as_raw().unsigned_abs(),
                model: self.model_of(seen).map(str::to_owned),
            })
            .collect()
    }

    /// The model of a process, from its own mark or that of another in its group.
    fn model_of<'s>(&'s self, seen: &'s Candidate) -> Option<&'s str> {
        let group = self.0.iter().filter(|other| other.group == seen.group);
        let mut marks = std::iter::once(seen)
            .chain(group)
            .filter_map(Candidate::mark);
        marks.find_map(Mark::model)
    }

    /// The processes with such a mark, and those of their groups without a readable environment. Never this
    /// process and its own group.
    fn marked(&self, is_meant: impl Fn(&Mark) -> bool) -> impl Iterator<Item = &Candidate> {
        let is_own = |seen: &&Candidate| seen.pid == Pid::this() || seen.group == getpgrp();
        let is_meant = move |seen: &Candidate| seen.mark().is_some_and(&is_meant);
        let groups: HashSet<Pid> = self
            .0
            .iter()
            .filter(|seen| is_meant(seen))
            .map(|seen| seen.group)
            .collect();
        self.0
            .iter()
            .filter(move |seen| !is_own(seen))
            .filter(move |seen| match seen.environment {
                Environment::Marked(_) => is_meant(seen),
                Environment::Unmarked => false,
                Environment::Hidden => groups.contains(&seen.group),
            })
    }
}

impl Candidate {
    fn mark(&self) -> Option<&Mark> {
        match &self.environment {
            Environment::Marked(mark) => Some(mark),
            Environment::Unmarked | Environment::Hidden => None,
        }
    }

    /// True if it still runs.
    fn is_alive(&self) -> bool {
        let pid = self.pid.as_raw().unsigned_abs();
        let system = processes::of(&[pid], ProcessRefreshKind::nothing());
        let Some(system) = system else {
            return true;
        };
        let process = system.process(sysinfo::Pid::from_u32(pid));
        process.is_some_and(|process| {
            processes::is_alive(process) && process.start_time() == self.start_time
        })
    }
}

fn is_pid(pid: Pid, number: u32) -> bool {
    u32::try_from(pid.as_raw()) == Ok(number)
}

/// Ends all leftovers of `owner`'s workers, without the groups that `adopted` processes lead; returns when
/// they are gone.
pub(super) fn end(owner: &Owner, adopted: &[u32]) {
    let deadline = Instant::now() + KILLED;
    let mut told = false;
    loop {
        let left = Survey::take().left(owner, adopted);
        if left.is_empty() {
            return;
        }
        let pids: Vec<u32> = left.iter().map(|left| left.pid).collect();
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(processes = ?pids, "ending what an earlier hub's workers left");
        }
        if Instant::now() >= deadline {
            tracing::error!(processes = ?pids, "processes of an earlier hub do not end");
            return;
        }
        for pid in pids {
            signal(pid, Signal::SIGKILL);
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// Ends the processes that have left the group of an ended worker of that launch: SIGTERM, and SIGKILL after
/// `limit`. Returns when they are gone. If there are none, it costs one list of all processes.
pub(super) async fn end_of_launch(launch: &str, limit: Duration) {
    if launch.is_empty() {
        // An older hub did not mark its launches.
        return;
    }
    let begun = Instant::now();
    let mut told = false;
    loop {
        let name = launch.to_owned();
        let left = tokio::task::spawn_blocking(move || {
            let is_meant = |mark: &Mark| mark.launch.as_deref() == Some(&name);
            let mut survey = Survey::take();
            let left: HashSet<Pid> = survey.marked(is_meant).map(|seen| seen.pid).collect();
            survey.0.retain(|seen| left.contains(&seen.pid));
            survey.0
        });
        let left = left.await.unwrap_or_default();
        if left.is_empty() {
            return;
        }
        let pids: Vec<i32> = left.iter().map(|seen| seen.pid.as_raw()).collect();
        if begun.elapsed() >= limit + KILLED {
            tracing::error!(launch, processes = ?pids, "processes of a worker do not end, not even by SIGKILL");
            return;
        }
        let is_late = begun.elapsed() >= limit;
        let (what, deadline) = match is_late {
            true => (Signal::SIGKILL, begun + limit + KILLED),
            false => (Signal::SIGTERM, begun + limit),
        };
        if !std::mem::replace(&mut told, true) {
            tracing::info!(launch, processes = ?pids, "ending what has left the group of a worker");
        }
        for seen in &left {
            // The process may have ended meanwhile.
            let _ = kill(seen.pid, what);
        }
        gone_by(left, deadline).await;
    }
}

async fn gone_by(mut left: Vec<Candidate>, deadline: Instant) {
    while !left.is_empty() && Instant::now() < deadline {
        sleep(POLL_EVERY).await;
        left.retain(Candidate::is_alive);
    }
}

fn signal(pid: u32, what: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), what);
    }
}

/// Ends the workers that a killed hub of `owner` left and their leftovers; no other hub may adopt them
/// meanwhile. SIGTERM first, SIGKILL after `limit`.
pub(super) async fn end_all(owner: &Owner, workers: &[RuntimeWorker], limit: Duration) {
    let ends = workers
        .iter()
        .map(|worker| super::launch::end_found(worker, limit));
    futures_util::future::join_all(ends).await;
    let owner = owner.clone();
    let _ = tokio::task::spawn_blocking(move || end(&owner, &[])).await;
}
