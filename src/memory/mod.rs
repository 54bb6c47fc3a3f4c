//! Measures the machine's memory, and the memory that a worker holds.
//!
//! [`Probe`] is the one interface: the lifecycle samples through it and waits by it, tests put a scripted
//! one in its place. A file per platform measures a process, lists the members of a group and
//! reports the pressure. It knows nothing of models and policies, and keeps nothing from one call to the next.

use nix::unistd::Pid;
use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::api::SystemMemory;

mod metal;

pub use metal::wirable;

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod platform;

/// Reads memory. Every call may read files or ask the kernel, for about a millisecond: too long for
/// the hot path and for async code that others wait for.
pub trait Probe: Send + Sync + 'static {
    /// The machine as a whole.
    fn system(&self) -> SystemMemory;

    /// Bytes that the process group led by process `leader` holds, all its processes together; `None`
    /// when there is no such group or none of it can be read.
    fn group(&self, leader: u32) -> Option<u64>;
}

/// The machine that the hub runs on.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisMachine;

impl Probe for ThisMachine {
    fn system(&self) -> SystemMemory {
        platform::system()
    }

    fn group(&self, leader: u32) -> Option<u64> {
        group_bytes(i32::try_from(leader).map(Pid::from_raw).ok()?)
    }
}

/// [`Probe::group`] for this machine: the footprint of each process on macOS (with compressed pages), its
/// proportional share on Linux; the resident size where that cannot be read.
pub fn group_bytes(group: Pid) -> Option<u64> {
    let (mut sum, mut unread) = (None, Vec::new());
    for pid in members(group) {
        match platform::held_by(pid) {
            Some(bytes) => *sum.get_or_insert(0) += bytes,
            None => unread.push(sysinfo::Pid::from_u32(pid.as_raw().unsigned_abs())),
        }
    }
    if unread.is_empty() {
        return sum;
    }
    let mut system = System::new().ok()?;
    let kind = ProcessRefreshKind::nothing().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&unread), true, kind);
    for process in system.processes().values() {
        *sum.get_or_insert(0) += process.memory();
    }
    sum
}

/// The processes of a group; zombies may be among them. Costs well below a millisecond.
pub fn members(group: Pid) -> Vec<Pid> {
    platform::members(group)
}

/// The most of a machine's `total` bytes that the weights of models can take, all together: what the GPU may
/// wire on a Mac, else all.
pub fn usable(total: u64) -> u64 {
    platform::usable(total)
}

/// `sysctl iogpu.wired_limit_mb` in MiB: the most that the GPU may wire, 0 while nobody has set it. `None` where
/// there is no such limit, as on Linux.
pub fn wired_limit() -> Option<u64> {
    platform::wired_limit()
}

/// The system's own figures: bytes built in, used and available.
fn ram() -> Option<System> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    (system.total_memory() > 0).then_some(system)
}
