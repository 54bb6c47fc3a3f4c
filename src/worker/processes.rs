//! Lists the processes of this machine, and detects a failed list.
//!
//! On macOS a list of processes may come back empty when many start at once. A list without this process has
//! failed, and the others must not be taken for ended.

use std::process;

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

/// Number of attempts at a list.
const ATTEMPTS: usize = 5;

/// All processes; `None` when they cannot be listed.
pub(super) fn all(kind: ProcessRefreshKind) -> Option<System> {
    look(ProcessesToUpdate::All, kind)
}

/// Those of `pids` that exist, among others; `None` when they cannot be listed.
pub(super) fn of(pids: &[u32], kind: ProcessRefreshKind) -> Option<System> {
    let own = [process::id()];
    let pids: Vec<_> = pids
        .iter()
        .chain(&own)
        .map(|pid| Pid::from_u32(*pid))
        .collect();
    look(ProcessesToUpdate::Some(&pids), kind)
}

fn look(which: ProcessesToUpdate<'_>, kind: ProcessRefreshKind) -> Option<System> {
    let kind = kind.without_tasks();
    let own = Pid::from_u32(process::id());
    (0..ATTEMPTS).find_map(|_| {
        let mut system = System::new().ok()?;
        system.refresh_processes_specifics(which, true, kind);
        system.process(own).is_some().then_some(system)
    })
}

/// True if it has not ended: a zombie has, and only waits to be reaped.
pub(super) fn is_alive(process: &Process) -> bool {
    !matches!(
        process.status(),
        ProcessStatus::Zombie | ProcessStatus::Dead
    )
}
