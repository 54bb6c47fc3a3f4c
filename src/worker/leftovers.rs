//! Processes that an earlier hub left and nobody can adopt: workers that it started just before it
//! was killed, and children of workers that have died since.
//!
//! The daemon ends them before it starts anything: they hold memory and ports. They are known by a
//! mark in their environment that only this hub's workers and their descendants have, so that a
//! stranger is never taken for one.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};
use tokio::time::Instant;

/// In the environment of every worker: the folder of the logs, which one hub at a time has.
pub(super) const MARK: &str = "MLX_HUB_WORKER_OF";

const LOOK: Duration = Duration::from_millis(5);
/// How long killed processes may take to go.
const KILLED: Duration = Duration::from_secs(10);

/// Ends all that is left of earlier hubs on this log folder, but for the groups that `adoptable`
/// processes lead; returns when it is gone.
pub fn end(log_path: &Path, adoptable: &[u32]) {
    let deadline = Instant::now() + KILLED;
    let mut told = false;
    loop {
        let left = find(log_path, adoptable);
        if left.is_empty() {
            return;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(processes = ?left, "ending what an earlier hub's workers left");
        }
        if Instant::now() >= deadline {
            tracing::error!(processes = ?left, "processes of an earlier hub do not end");
            return;
        }
        for pid in left {
            // One that has gone meanwhile is fine.
            let _ = kill(pid, Signal::SIGKILL);
        }
        std::thread::sleep(LOOK);
    }
}

fn find(log_path: &Path, adoptable: &[u32]) -> Vec<Pid> {
    let Ok(mut system) = System::new() else {
        return Vec::new();
    };
    let kind = ProcessRefreshKind::nothing()
        .with_environ(UpdateKind::Always)
        .without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let mark = format!("{MARK}={}", log_path.display());
    system
        .processes()
        .values()
        .filter(|process| process.environ().iter().any(|word| *word == *mark))
        .filter(|process| {
            !matches!(
                process.status(),
                ProcessStatus::Zombie | ProcessStatus::Dead
            )
        })
        .filter_map(|process| i32::try_from(process.pid().as_u32()).ok())
        .map(Pid::from_raw)
        .filter(|pid| !is_of(*pid, adoptable))
        .collect()
}

/// Whether the process belongs to the group that one of `leaders` leads.
fn is_of(pid: Pid, leaders: &[u32]) -> bool {
    getpgid(Some(pid)).is_ok_and(|group| {
        let group = u32::try_from(group.as_raw());
        group.is_ok_and(|group| leaders.contains(&group))
    })
}
