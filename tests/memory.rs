//! The probe of this machine, on real processes that hold a known amount of memory.

#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

mod support;

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use mlx_openai_server_hub::memory::{Probe as _, ThisMachine};
use nix::sys::signal::Signal;
use support::{BINARY, SOON, processes, wait_until};
use tempfile::TempDir;

const MEBIBYTE: u64 = 1024 * 1024;
const HELD: u64 = 64 * MEBIBYTE;
/// The simulated worker's own memory, all its processes together, is far below this.
const LITTLE: u64 = HELD / 2;

/// A simulated worker in a group of its own that holds so much once it is loaded.
struct Worker {
    process: Child,
    _folder: TempDir,
}

impl Worker {
    fn start(dialect: &str, memory_mb: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let process = Command::new(BINARY)
            .args(["stub-worker", "--dialect", dialect, "--memory-mb"])
            .arg(memory_mb.to_string())
            .args(["launch", "--model-path", "some/model"])
            .args(["--host", "127.0.0.1", "--port"])
            .arg(processes::ports().to_string())
            .env("TMPDIR", folder.path())
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            process,
            _folder: folder,
        }
    }

    fn held(&self) -> u64 {
        ThisMachine.group(self.process.id()).unwrap_or(0)
    }

    fn members(&self) -> usize {
        processes::members(self.process.id()).len()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        processes::send_to_group(self.process.id(), Signal::SIGKILL);
        let _ = self.process.wait();
    }
}

#[test]
fn a_process_that_takes_64_mib_is_seen_to_hold_them() {
    let worker = Worker::start("jit", HELD / MEBIBYTE);
    wait_until("64 MiB", SOON, || worker.held() >= HELD);
    assert!(worker.held() < HELD + LITTLE, "{}", worker.held());
    assert_eq!(worker.members(), 1);
}

#[test]
fn what_its_children_hold_counts_too_and_no_more_than_once() {
    let worker = Worker::start("1.8.1", HELD / MEBIBYTE);
    wait_until("64 MiB", SOON, || worker.held() >= HELD);
    assert_eq!(worker.members(), 3, "server, tracker, model process");
    assert!(worker.held() < HELD + LITTLE, "{}", worker.held());
    let leader = i32::try_from(worker.process.id()).unwrap();
    let members = mlx_openai_server_hub::memory::members(nix::unistd::Pid::from_raw(leader));
    assert_eq!(members.len(), 3);
}

#[test]
fn a_group_that_is_gone_holds_nothing_that_could_be_told() {
    let worker = Worker::start("jit", 0);
    let leader = worker.process.id();
    wait_until("any memory", SOON, || worker.held() > 0);
    drop(worker);
    assert_eq!(ThisMachine.group(leader), None);
    assert_eq!(ThisMachine.group(u32::MAX), None);
}

#[test]
fn the_machine_has_memory_and_some_of_it_is_available() {
    let system = ThisMachine.system();
    let (total, available) = (system.total.unwrap(), system.available.unwrap());
    assert!(total > 256 * MEBIBYTE, "{total}");
    assert!(
        0 < available && available <= total,
        "{available} of {total}"
    );
}
