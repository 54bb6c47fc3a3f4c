//! Spares end with their hub, when they are not wanted, and when memory is scarce.

use nix::sys::signal::Signal;

use crate::support::{Hub, SOON, processes, wait_for, wait_until};
use crate::worker::{SPARE, Worker, facts, python, ready, spare};

fn gone(what: &str, group: u32) {
    wait_until(what, SOON, || processes::members(group).is_empty());
}

fn hub_with_a_spare(worker: &Worker, more: &str) -> (Hub, u32) {
    let hub = Hub::start(&worker.yaml(more, "env: {A: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    let kept = spare(&hub);
    (hub, kept)
}

#[test]
fn spares_end_with_their_hub_however_it_ends_and_its_workers_are_taken_over() {
    let worker = Worker::of(&python());
    let (mut hub, kept) = hub_with_a_spare(&worker, "");
    hub.act("alpha", "unload");
    hub.act("alpha", "load");
    assert_eq!(hub.model("alpha")["pid"], kept);
    let next = spare(&hub);
    hub.kill();
    gone("the spare of a killed hub", next);
    assert_eq!(processes::members(kept).len(), 3, "its worker stays");

    hub.serve_again();
    hub.wait_for_state("alpha", "running", "loaded");
    assert_eq!(hub.model("alpha")["pid"], kept);
    assert_eq!(facts(&hub, "alpha")["server"]["pid"], kept);
    let third = spare(&hub);
    hub.signal(Signal::SIGTERM);
    hub.wait_for_end();
    gone("the worker", kept);
    gone("the spare", third);
}

#[test]
fn a_spare_that_imports_ends_with_its_hub_too() {
    let worker = Worker::of(&python());
    let elsewhere = tempfile::tempdir().unwrap();
    let flag = elsewhere.path().join("slow");
    let module = format!(
        "import os, time\nwhile os.path.exists({:?}): time.sleep(1)\nNAME = __name__\n",
        flag.display()
    );
    worker.write("standin_server.py", &module);
    let (mut hub, first) = hub_with_a_spare(&worker, "");
    // Only the next one comes to that.
    std::fs::write(&flag, "").unwrap();
    hub.act("alpha", "unload");
    hub.act("alpha", "load");
    assert_eq!(hub.model("alpha")["pid"], first);
    let importing = wait_for("a spare that imports", SPARE, || {
        let status = hub.status();
        let spares = status["spares"].as_array().unwrap().iter();
        let mut importing = spares.filter(|spare| spare["ready"] == false);
        u32::try_from(importing.next()?["pid"].as_u64()?).ok()
    });
    assert_eq!(ready(&hub), [0; 0]);
    hub.kill();
    gone("it", importing);
    hub.serve_again();
    hub.wait_for_state("alpha", "running", "loaded");
}

#[test]
fn a_restart_ends_spares_and_the_next_hub_makes_its_own() {
    let worker = Worker::of(&python());
    let hub = Hub::start_in_background(&worker.yaml("", "env: {A: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    let kept = spare(&hub);
    let pid = hub.model("alpha")["pid"].clone();
    assert!(hub.restart().status.success());
    gone("the spare of the hub before", kept);
    assert_eq!(hub.model("alpha")["pid"], pid);
    let own = spare(&hub);
    assert_ne!(own, kept);
    hub.act("alpha", "unload");
    hub.act("alpha", "load");
    assert_eq!(hub.model("alpha")["pid"], own);
}

#[test]
fn a_reload_that_wants_none_ends_them() {
    let worker = Worker::of(&python());
    let (hub, kept) = hub_with_a_spare(&worker, "");
    hub.configure(&worker.yaml("spares: 0\n", "env: {A: '1'}"));
    assert!(hub.run(&["reload"]).status.success());
    gone("the spare", kept);
    assert_eq!(ready(&hub), [0; 0]);
    hub.act("alpha", "unload");
    assert_eq!(hub.act("alpha", "load").status, 200);
    assert_eq!(ready(&hub), [0; 0]);
}
