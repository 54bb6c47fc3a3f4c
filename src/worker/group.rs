//! A process group: sends signals to all of it, and watches for its end.
//!
//! The worker leads a group of its own, so that its children end with it and a Ctrl+C in the hub's
//! terminal does not reach it. The same calls serve macOS and Linux.

use std::collections::HashMap;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use sysinfo::{ProcessRefreshKind, ProcessStatus};
use tokio::time::{Instant, sleep};

use super::leader::Leader;
use super::{leftovers, processes};
use crate::memory;

/// Intervals at which an ending group is checked: the first, which is doubled up to the longest.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// In bytes; less is lost among what other programs take and give.
const LITTLE: u64 = 256 * 1024 * 1024;
/// Longest wait for the end of a killed group.
const KILLED: Duration = Duration::from_secs(10);

/// The group that a process leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group(Pid);

impl Group {
    /// The group led by process `pid`; `None` for 0, 1 and an invalid process id.
    pub fn led_by(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok()?;
        (pid > 1).then(|| Self(Pid::from_raw(pid)))
    }

    /// Sends a signal to every process of the group. A group that is gone is no error.
    pub fn signal(self, signal: Signal) {
        if let Err(error) = killpg(self.0, signal)
            && error != Errno::ESRCH
        {
            tracing::debug!(group = %self.0, %signal, %error, "the process group was not signalled");
        }
    }

    /// True if no process of the group runs any more. Zombies that another process must reap count
    /// as gone; a group that exists and shows no process does not.
    pub fn is_gone(self) -> bool {
        match killpg(self.0, None) {
            Ok(()) => {
                let members = self.members();
                !members.is_empty() && members.iter().all(|member| member.is_zombie)
            }
            // macOS answers EPERM for a group of zombies; a living one of ours would not.
            Err(_) => true,
        }
    }

    /// Completes when one of its processes has ended and the others hold little: a model process ends before the
    /// server that started it, which has more to clear away.
    pub(super) async fn has_given_back(self) {
        let living = || {
            let members = self.members();
            members.iter().filter(|member| !member.is_zombie).count()
        };
        let before = living();
        let mut pause = FIRST_LOOK;
        loop {
            sleep(pause).await;
            pause = LOOK_EVERY.min(pause * 2);
            if living() >= before {
                continue;
            }
            // Takes milliseconds for a process that holds much.
            let held = tokio::task::spawn_blocking(move || self.memory_bytes()).await;
            let is_little = match held.ok().flatten() {
                Some(bytes) => bytes < LITTLE,
                None => self.is_gone(),
            };
            if is_little {
                return;
            }
        }
    }

    /// True if one of its processes was stopped, as by SIGSTOP.
    pub(super) fn is_stopped(self) -> bool {
        self.members().iter().any(|member| member.is_stopped)
    }

    /// Bytes that the group's processes hold; `None` when that cannot be read.
    pub fn memory_bytes(self) -> Option<u64> {
        memory::group_bytes(self.0)
    }

    /// CPU time that each of the group's processes has used. Reads files or asks the kernel.
    pub fn cpu_times(self) -> CpuTimes {
        let members = self.members().into_iter();
        CpuTimes(
            members
                .map(|member| (member.pid, member.cpu_time))
                .collect(),
        )
    }

    fn members(self) -> Vec<Member> {
        let pids: Vec<_> = memory::members(self.0)
            .into_iter()
            .map(|pid| pid.as_raw().unsigned_abs())
            .collect();
        let kind = ProcessRefreshKind::nothing().with_cpu();
        let Some(system) = processes::of(&pids, kind) else {
            return Vec::new();
        };
        system
            .processes()
            .values()
            .filter(|process| pids.contains(&process.pid().as_u32()))
            .map(|process| Member {
                pid: process.pid(),
                is_zombie: !processes::is_alive(process),
                is_stopped: process.status() == ProcessStatus::Stop,
                cpu_time: Duration::from_millis(process.accumulated_cpu_time()),
            })
            .collect()
    }
}

struct Member {
    pid: sysinfo::Pid,
    is_zombie: bool,
    is_stopped: bool,
    cpu_time: Duration,
}

/// Resolution of Linux' count: a small program may have used none.
const COUNTS_HUNDREDTHS: bool = cfg!(target_os = "linux");

/// CPU time by process at one moment. It could not be read if it has no process, or if on a system with an
/// exact count all have used none: macOS without permission to ask for the length of its ticks.
#[derive(Debug, Default)]
pub struct CpuTimes(HashMap<sysinfo::Pid, Duration>);

impl CpuTimes {
    /// CPU time that the running processes have used since `before`; processes that ended meanwhile do not
    /// count. `None` when either could not be read.
    pub fn since(&self, before: &Self) -> Option<Duration> {
        let used = |(pid, now): (&sysinfo::Pid, &Duration)| {
            now.saturating_sub(before.0.get(pid).copied().unwrap_or_default())
        };
        (self.is_known() && before.is_known()).then(|| self.0.iter().map(used).sum())
    }

    fn is_known(&self) -> bool {
        self.may_be(COUNTS_HUNDREDTHS)
    }

    /// True if it is what a system tells that counts in hundredths of a second, or exactly.
    fn may_be(&self, in_hundredths: bool) -> bool {
        let mut times = self.0.values();
        let is_empty = self.0.is_empty();
        !is_empty && (in_hundredths || times.any(|time| !time.is_zero()))
    }
}

/// Ends a worker, its whole group and the processes that have left it: SIGTERM, SIGINT at half of `limit`,
/// SIGKILL at its end. Reaps the leader at once (its children leave only then) and returns when all are gone.
pub(super) async fn end(leader: &mut Leader, group: Group, launch: &str, limit: Duration) {
    let begun = Instant::now();
    group.signal(Signal::SIGTERM);
    let is_gone = gone_by(leader, group, begun + limit / 2).await || {
        group.signal(Signal::SIGINT);
        gone_by(leader, group, begun + limit).await
    };
    if !is_gone {
        kill_group(leader, group).await;
    }
    leftovers::end_of_launch(launch, limit.saturating_sub(begun.elapsed())).await;
}

/// Sends SIGKILL to the whole group and to the processes that have left it; returns when all are gone.
pub(super) async fn kill(leader: &mut Leader, group: Group, launch: &str) {
    kill_group(leader, group).await;
    leftovers::end_of_launch(launch, Duration::ZERO).await;
}

async fn kill_group(leader: &mut Leader, group: Group) {
    group.signal(Signal::SIGKILL);
    if !gone_by(leader, group, Instant::now() + KILLED).await {
        tracing::error!(group = %group.0, "processes of a worker do not end, not even by SIGKILL");
    }
}

async fn gone_by(leader: &mut Leader, group: Group, deadline: Instant) -> bool {
    let mut pause = FIRST_LOOK;
    let mut has_ended = false;
    loop {
        if leader.has_ended() && group.is_gone() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::select! {
            // Then the others end at once, or are about to.
            _ = leader.ended(), if !has_ended => {
                has_ended = true;
                pause = FIRST_LOOK;
            }
            () = sleep(pause) => pause = LOOK_EVERY.min(pause * 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(times: &[(u32, u64)]) -> CpuTimes {
        let times = times.iter();
        CpuTimes(
            times
                .map(|(pid, seconds)| (sysinfo::Pid::from_u32(*pid), Duration::from_secs(*seconds)))
                .collect(),
        )
    }

    #[test]
    fn a_process_that_has_ended_does_not_hide_what_the_others_compute() {
        let before = times(&[(1, 10), (2, 90)]);
        let used = |now: &[(u32, u64)]| times(now).since(&before);
        assert_eq!(used(&[(1, 13), (3, 4)]), Some(Duration::from_secs(7)));
        assert_eq!(used(&[(1, 10)]), Some(Duration::ZERO));
        assert_eq!(used(&[]), None, "it could not be read");
    }

    #[test]
    fn a_group_that_has_used_no_cpu_time_at_all_could_not_be_read() {
        let (none, some) = (times(&[(1, 0), (2, 0)]), times(&[(1, 0), (2, 3)]));
        assert!(!none.may_be(false) && some.may_be(false));
        assert!(none.may_be(true) && some.may_be(true));
        assert!(!times(&[]).may_be(true));
    }
}
