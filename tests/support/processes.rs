//! Which processes are there, and which ports are free.

use std::collections::HashMap;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use super::{SOON, wait_until};

/// The stand-ins for the programs of engines.
pub const ENGINE_PROGRAMS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/support/engine_programs.py"
);

/// How many ports [`ports`] hands out at once.
const BLOCK: u16 = 40;

/// Ports for one test: the first is free, the next [`BLOCK`] − 1 are for its workers. They lie below
/// the range that systems give to outgoing connections, and apart from those of other tests.
pub fn ports() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = (std::process::id() * 17 + turn) % 450;
        let first = 12_000 + u16::try_from(place).expect("below 450") * BLOCK;
        if (first..first + 8).all(is_free) {
            return first;
        }
    }
}

/// Whether nobody listens there.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// All processes that are not zombies, each with its group.
pub fn living() -> Vec<(u32, u32)> {
    table()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (pid, group, state) = (words.next()?, words.next()?, words.next()?);
            let ids = (pid.parse().ok()?, group.parse().ok()?);
            (!state.starts_with('Z')).then_some(ids)
        })
        .collect()
}

/// The same of simulated workers, of the stand-ins for other programs, and of their children.
pub fn living_workers() -> Vec<(u32, u32)> {
    let workers = with_any_argument(&[" stub-worker ", ENGINE_PROGRAMS]);
    let is_worker = |pid: u32| {
        let pid = pid.to_string();
        workers
            .iter()
            .any(|line| line.split_whitespace().next() == Some(&pid))
    };
    let mut living = living();
    living.retain(|(pid, _)| is_worker(*pid));
    living
}

/// Processes of a group that are not zombies.
pub fn members(group: u32) -> Vec<u32> {
    let mut living = living();
    living.retain(|(_, of)| *of == group);
    living.into_iter().map(|(pid, _)| pid).collect()
}

/// Resident memory of a process in KiB; 0 if it is not there.
pub fn memory_kib(pid: u32) -> u64 {
    let output = Command::new("ps")
        .args(["-o", "rss=", "-p", &pid.to_string()])
        .output();
    let text = String::from_utf8_lossy(&output.expect("ps").stdout).into_owned();
    text.trim().parse().unwrap_or_default()
}

/// Children of a process, zombies too.
pub fn children(parent: u32) -> Vec<u32> {
    let output = Command::new("ps")
        .args(["-ax", "-o", "pid=,ppid="])
        .output();
    let wanted = parent.to_string();
    String::from_utf8_lossy(&output.expect("ps").stdout)
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(_, ppid)| ppid.trim() == wanted)
        .filter_map(|(pid, _)| pid.parse().ok())
        .collect()
}

/// Command lines of all processes that contain `text`, with their pids.
pub fn with_argument(text: &str) -> Vec<String> {
    with_any_argument(&[text])
}

fn with_any_argument(texts: &[&str]) -> Vec<String> {
    let output = Command::new("ps")
        .args(["-axww", "-o", "pid=,args="])
        .output();
    String::from_utf8_lossy(&output.expect("ps").stdout)
        .lines()
        .filter(|line| texts.iter().any(|text| line.contains(text)))
        .map(str::to_owned)
        .collect()
}

/// CPU time that a process group has used.
pub fn cpu_seconds(group: u32) -> f64 {
    let milliseconds = of_each(&members(group), sysinfo::Process::accumulated_cpu_time);
    milliseconds.values().sum::<u64>() as f64 / 1000.0
}

/// When these processes began, in Unix seconds; without those that are not there.
pub fn began(pids: &[u32]) -> HashMap<u32, u64> {
    of_each(pids, sysinfo::Process::start_time)
}

fn of_each(pids: &[u32], read: impl Fn(&sysinfo::Process) -> u64) -> HashMap<u32, u64> {
    let mut system = sysinfo::System::new().expect("processes are shown");
    let asked: Vec<_> = pids.iter().copied().map(sysinfo::Pid::from_u32).collect();
    system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&asked), true);
    let read = |pid| Some((sysinfo::Pid::as_u32(pid), read(system.process(pid)?)));
    asked.into_iter().filter_map(read).collect()
}

/// Waits until a process group that has worked does not any more: it is held up, as nobody reads what it writes.
#[track_caller]
pub fn wait_until_held_up(group: u32) {
    wait_until("the processes to be held up", SOON, || {
        let before = cpu_seconds(group);
        // The time that is looked at.
        std::thread::sleep(Duration::from_millis(300));
        before > 0.2 && cpu_seconds(group) - before < 0.02
    });
}

fn table() -> String {
    let output = Command::new("ps")
        .args(["-ax", "-o", "pid=,pgid=,stat="])
        .output();
    String::from_utf8_lossy(&output.expect("ps").stdout).into_owned()
}

/// Whether the process is there, a zombie or not.
pub fn exists(pid: u32) -> bool {
    signal::kill(raw(pid), None).is_ok()
}

/// Whether the process is there and no zombie.
pub fn is_alive(pid: u32) -> bool {
    let wanted = pid.to_string();
    table().lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some(&wanted) && words.nth(1).is_some_and(|state| !state.starts_with('Z'))
    })
}

/// Sends a signal; a process that has gone is fine.
pub fn send(pid: u32, what: Signal) {
    let _ = signal::kill(raw(pid), what);
}

/// Sends a signal to a whole group; one that has gone is fine.
pub fn send_to_group(group: u32, what: Signal) {
    let _ = signal::killpg(raw(group), what);
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a pid is an i32"))
}
