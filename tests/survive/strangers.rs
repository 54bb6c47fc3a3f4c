//! Process ids are used again: what `hub_runtime.json` names may be anybody's process by now.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use serde_json::{Value, json};

use crate::support::{Hub, processes};
use crate::{models, pid, worker};

/// A process of the test that has nothing to do with the hub; it leads a group of its own, as a
/// worker does.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        Self(command.arg("600").process_group(0).spawn().unwrap())
    }

    fn is_alive(&self) -> bool {
        processes::is_alive(self.0.id())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stranger_that_has_a_workers_process_id_is_left_alone() {
    for in_hub_yaml in [true, false] {
        let entry = [("alpha", "default: true"), ("beta", "jit_enabled: true")];
        let mut hub = Hub::start(&format!("{}\n{}", worker(&[]), models(&entry)));
        hub.wait_for_state("alpha", "running", "loaded");
        let real = pid(&hub, "alpha").unwrap();
        hub.kill();
        let stranger = Stranger::new();
        let file = hub.logs().join("hub_runtime.json");
        let mut runtime: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        runtime["workers"][0]["pid"] = json!(stranger.0.id());
        // As if the real one had ended long ago.
        processes::send_to_group(real, nix::sys::signal::Signal::SIGKILL);
        crate::wait_until("the worker to be gone", crate::SOON, || {
            processes::members(real).is_empty()
        });
        runtime["workers"][0]["start_time"] = json!(1_000_000_000);
        std::fs::write(&file, runtime.to_string()).unwrap();
        if !in_hub_yaml {
            hub.configure(&format!("{}\n{}", worker(&[]), models(&entry[1..])));
        }
        hub.serve_again();
        if in_hub_yaml {
            hub.wait_for_state("alpha", "running", "loaded");
            assert_ne!(pid(&hub, "alpha"), Some(stranger.0.id()));
        }
        assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
        assert!(stranger.is_alive(), "in hub.yaml: {in_hub_yaml}");
    }
}

/// A shell in the folder of a worker is not a worker.
#[test]
fn a_process_that_works_in_a_workers_folder_is_left_alone() {
    let entry = [("alpha", "default: true")];
    let mut hub = Hub::start(&format!("{}\n{}", worker(&[]), models(&entry)));
    hub.wait_for_state("alpha", "running", "loaded");
    let folder = hub.logs().join("workers/alpha");
    let mut command = Command::new("sleep");
    let stranger = Stranger(
        command
            .arg("600")
            .current_dir(folder)
            .process_group(0)
            .spawn()
            .unwrap(),
    );
    hub.kill();
    hub.serve_again();
    assert_eq!(hub.run(&["stop"]).status.code(), Some(0));
    assert!(stranger.is_alive());
}
