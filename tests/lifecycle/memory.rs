//! The probe of this machine, on real processes that hold a known amount of memory, and what a hub tells
//! of it.

#![expect(clippy::unwrap_used, reason = "helpers fail like the tests they help")]

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use mlx_openai_server_hub::memory::{Probe as _, ThisMachine};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::hub::{Hub, stub};
use crate::support::{BINARY, SOON, processes, wait_until};

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

/// What the status says of the only model.
fn metadata(hub: &Hub) -> serde_json::Value {
    hub.status()["models"][0]["metadata"].clone()
}

#[test]
fn the_status_shows_what_a_model_holds_and_a_later_hub_what_it_ever_held() {
    let mut hub = Hub::start(&format!(
        "models:\n\
         - {{name: alpha, model_path: org/alpha, worker_command: {}}}\n",
        stub(&["--memory-mb", "64"])
    ));
    let memory = &hub.status()["memory"];
    assert!(memory["total"].as_u64() > memory["available"].as_u64());
    assert_eq!(metadata(&hub)["peak_bytes"], serde_json::Value::Null);
    assert!(hub.run(&["start-model", "alpha"]).status.success());
    wait_until("64 MiB of a peak", SOON, || {
        metadata(&hub)["peak_bytes"].as_u64() >= Some(HELD)
    });
    let held = metadata(&hub)["memory_bytes"].as_u64().unwrap();
    assert!((HELD..HELD + LITTLE).contains(&held), "{held}");

    assert!(hub.run(&["stop"]).status.success());
    hub.wait_for_end();
    let learned = hub.logs().join("learned.json");
    let mode = std::fs::metadata(&learned).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    hub.serve_again();
    let alpha = metadata(&hub);
    assert_eq!(alpha["memory_bytes"], serde_json::Value::Null);
    assert!(alpha["peak_bytes"].as_u64() >= Some(held), "{alpha}");
}
