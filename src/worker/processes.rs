//! Looks at the processes of this machine, and knows when it has seen nothing.
//!
//! On macOS a list of processes may come back empty when many begin at once. One in which this very
//! process is missing says nothing of the others, who must not be taken for gone then.

use std::process;

use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};

/// How often it is looked again after a list that says nothing.
const LOOKS: usize = 5;

/// All processes; none when they cannot be seen.
pub(super) fn all(kind: ProcessRefreshKind) -> Option<System> {
    look(ProcessesToUpdate::All, kind)
}

/// Those of `pids` that are there, among others; none when they cannot be seen.
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
    (0..LOOKS).find_map(|_| {
        let mut system = System::new().ok()?;
        system.refresh_processes_specifics(which, true, kind);
        system.process(own).is_some().then_some(system)
    })
}

/// Whether it has not ended: a zombie only waits for somebody to ask how.
pub(super) fn is_alive(process: &Process) -> bool {
    !matches!(
        process.status(),
        ProcessStatus::Zombie | ProcessStatus::Dead
    )
}
