//! Linux: proportional shares from `smaps_rollup`, pressure from PSI.
//!
//! Called by the module above only. It reads nothing but /proc; a figure that is missing there (in a
//! container, with an old kernel) is left out.

use std::fs;

use nix::unistd::{Pid, getpgid};

use super::ram;
use crate::api::{Pressure, SystemMemory};

/// Share of the last ten seconds in which some program waited for memory (or all did), in percent:
/// from here on users notice.
const STALLED: f64 = 10.0;
/// Without PSI, shares of the memory that are still available.
const WARNING_SHARE: f64 = 0.15;
const CRITICAL_SHARE: f64 = 0.05;

pub(super) fn system() -> SystemMemory {
    let ram = ram();
    let total = ram.as_ref().map(sysinfo::System::total_memory);
    let available = ram.as_ref().map(sysinfo::System::available_memory);
    let stalls = fs::read_to_string("/proc/pressure/memory").ok();
    SystemMemory {
        total,
        available,
        pressure: pressure(stalls.as_deref(), available, total),
        ..SystemMemory::default()
    }
}

pub(super) fn usable(total: u64) -> u64 {
    total
}

pub(super) fn wired_limit() -> Option<u64> {
    None
}

/// Judged by stalls, or by available memory where the kernel does not count stalls.
fn pressure(stalled: Option<&str>, available: Option<u64>, total: Option<u64>) -> Pressure {
    let scarce = || Some(scarcity(available?, total?));
    let pressure = stalled.and_then(stalls).or_else(scarce);
    pressure.unwrap_or_default()
}

/// The pressure that the text of `/proc/pressure/memory` reports.
/// <https://docs.kernel.org/accounting/psi.html>
fn stalls(text: &str) -> Option<Pressure> {
    let share = |kind: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let average = line.trim_start().strip_prefix("avg10=")?;
        average.split(' ').next()?.parse().ok()
    };
    Some(if share("full")? >= STALLED {
        Pressure::Critical
    } else if share("some")? >= STALLED {
        Pressure::Warning
    } else {
        Pressure::Normal
    })
}

fn scarcity(available: u64, total: u64) -> Pressure {
    let share = available as f64 / total as f64;
    if share < CRITICAL_SHARE {
        Pressure::Critical
    } else if share < WARNING_SHARE {
        Pressure::Warning
    } else {
        Pressure::Normal
    }
}

/// The proportional set size: memory that several processes share is divided among them.
pub(super) fn held_by(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

pub(super) fn members(group: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .filter(|pid| getpgid(Some(*pid)) == Ok(group))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_told_from_stalls() {
        let psi = |some: &str, full: &str| {
            stalls(&format!(
                "some avg10={some} avg60=99.00 avg300=99.00 total=1\n\
                 full avg10={full} avg60=99.00 avg300=99.00 total=1\n"
            ))
        };
        assert_eq!(psi("0.00", "0.00"), Some(Pressure::Normal));
        assert_eq!(psi("10.00", "9.99"), Some(Pressure::Warning));
        assert_eq!(psi("80.00", "10.00"), Some(Pressure::Critical));
        assert_eq!(psi("none", "0.00"), None);
        assert_eq!(stalls(""), None);
    }

    #[test]
    fn pressure_of_which_nothing_tells_is_unknown() {
        for (stalls, available, total) in [
            (None, None, None),
            (Some("what is this"), Some(1), None),
            (None, None, Some(1)),
        ] {
            assert_eq!(pressure(stalls, available, total), Pressure::Unknown);
        }
        assert_eq!(pressure(None, Some(4), Some(100)), Pressure::Critical);
    }

    #[test]
    fn without_stalls_it_is_told_from_what_is_left() {
        assert_eq!(scarcity(15, 100), Pressure::Normal);
        assert_eq!(scarcity(14, 100), Pressure::Warning);
        assert_eq!(scarcity(4, 100), Pressure::Critical);
    }
}
