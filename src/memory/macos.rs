//! macOS: footprints as Activity Monitor shows them, and the system's own pressure level.
//!
//! Called by the module above only. It makes three calls of libc that no crate here wraps; if one fails,
//! sysinfo's figure replaces it, or none does.
#![expect(
    unsafe_code,
    reason = "libproc and sysctlbyname, with libc's own definitions; no crate of ours wraps them"
)]

use std::ffi::{CStr, c_int, c_void};
use std::mem::{size_of, zeroed};
use std::ptr::null_mut;

use nix::unistd::{Pid, getpgid};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

use super::{metal, ram};
use crate::api::{Pressure, SystemMemory};

/// Processes of a group that are expected at most; more cost a second call.
const MANY: usize = 64;

/// Available memory is all but the used memory as Activity Monitor counts it: that of programs without
/// purgeable pages, wired and compressed memory. sysinfo's figure includes memory of busy programs, which only
/// swapping would free. Available is never more than the GPU may wire.
pub(super) fn system() -> SystemMemory {
    let ram = ram();
    let total = ram.as_ref().map(System::total_memory);
    let used = ram.as_ref().map(System::used_memory);
    SystemMemory {
        total,
        available: total
            .zip(used)
            .map(|(total, used)| total.saturating_sub(used).min(usable(total))),
        pressure: pressure().unwrap_or_default(),
        ..SystemMemory::default()
    }
}

pub(super) fn usable(total: u64) -> u64 {
    // Old systems have no such limit, so a failed read means that it is not set.
    metal::wirable(total, wired_limit().unwrap_or(0))
}

pub(super) fn wired_limit() -> Option<u64> {
    number(c"iogpu.wired_limit_mb").and_then(|limit| u64::try_from(limit).ok())
}

/// The level that programs are notified of: 1, 2 or 4 (`DISPATCH_MEMORYPRESSURE_*`).
fn pressure() -> Option<Pressure> {
    match number(c"kern.memorystatus_vm_pressure_level")? {
        1 => Some(Pressure::Normal),
        2 => Some(Pressure::Warning),
        4 => Some(Pressure::Critical),
        _ => None,
    }
}

/// The value of a sysctl.
fn number(name: &CStr) -> Option<c_int> {
    let mut value: c_int = 0;
    let mut size = size_of::<c_int>();
    // SAFETY: the name ends with NUL, `value` has `size` bytes, and nothing is set.
    let failed = unsafe {
        libc::sysctlbyname(
            name.as_ptr(),
            (&raw mut value).cast::<c_void>(),
            &raw mut size,
            null_mut(),
            0,
        )
    };
    (failed == 0).then_some(value)
}

/// The physical footprint: the pages that the process wrote, compressed or not, and wired ones such as Metal
/// buffers, but no files that it only reads.
pub(super) fn held_by(pid: Pid) -> Option<u64> {
    // SAFETY: plain numbers, for which zero is a value.
    let mut usage: libc::rusage_info_v4 = unsafe { zeroed() };
    // SAFETY: the kernel fills a `rusage_info_v4`, as the flavor says. The parameter is declared as a
    // pointer to `rusage_info_t`, which is itself `void *`; the buffer is what it points to.
    let failed = unsafe {
        libc::proc_pid_rusage(
            pid.as_raw(),
            libc::RUSAGE_INFO_V4,
            (&raw mut usage).cast::<libc::rusage_info_t>(),
        )
    };
    (failed == 0).then_some(usage.ri_phys_footprint)
}

pub(super) fn members(group: Pid) -> Vec<Pid> {
    let mut room = MANY;
    loop {
        let mut pids: Vec<libc::pid_t> = vec![0; room];
        let bytes = c_int::try_from(room * size_of::<libc::pid_t>()).unwrap_or(c_int::MAX);
        // SAFETY: the buffer has `bytes` bytes.
        let found = unsafe {
            libc::proc_listpgrppids(group.as_raw(), pids.as_mut_ptr().cast::<c_void>(), bytes)
        };
        match usize::try_from(found) {
            // None, or the call failed: it does not say which.
            Err(_) | Ok(0) => return listed(group),
            Ok(found) if found >= room => room *= 4,
            Ok(_) => {
                pids.retain(|pid| *pid > 0);
                return pids.into_iter().map(Pid::from_raw).collect();
            }
        }
    }
}

/// The same from the list of all processes, which costs milliseconds.
fn listed(group: Pid) -> Vec<Pid> {
    let Ok(mut system) = System::new() else {
        return Vec::new();
    };
    let kind = ProcessRefreshKind::nothing().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
    let pids = system.processes().keys();
    pids.filter_map(|pid| i32::try_from(pid.as_u32()).ok())
        .map(Pid::from_raw)
        .filter(|pid| getpgid(Some(*pid)) == Ok(group))
        .collect()
}
