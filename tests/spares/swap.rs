//! One model leaves, another comes.

use crate::support::{Hub, SOON, processes, wait_for, wait_until};
use crate::worker::{SPARE, Worker, facts, python, spare};

#[test]
fn a_load_does_not_wait_for_a_server_that_has_ended_its_model_process_already() {
    let worker = Worker::of(&python());
    let elsewhere = tempfile::tempdir().unwrap();
    let flag = elsewhere.path().join("lingers");
    std::fs::write(&flag, "").unwrap();
    let more = "policies: [lru_swap]\nstop_timeout: 120\ngroups: [{name: g, max_loaded: 1}]\n";
    let keys = format!("group: g, env: {{STANDIN_LINGERS: '{}'}}", flag.display());
    let hub = Hub::start(&worker.yaml(more, &keys));
    hub.wait_for_state("alpha", "running", "loaded");
    let leaving = u32::try_from(hub.model("alpha")["pid"].as_u64().unwrap()).unwrap();
    let model = facts(&hub, "alpha")["model"]["pid"].as_u64().unwrap();

    assert_eq!(hub.act("beta", "load").status, 200);
    assert!(processes::is_alive(leaving), "it is still about to end");
    assert!(!processes::is_alive(u32::try_from(model).unwrap()));
    hub.wait_for_state("alpha", "running", "unloaded");
    facts(&hub, "beta");

    std::fs::remove_file(&flag).unwrap();
    wait_until("the end of the one that left", SOON, || {
        processes::members(leaving).is_empty()
    });
    // Back again, which has beta leave.
    assert_eq!(hub.act("alpha", "load").status, 200);
    facts(&hub, "alpha");
}

#[test]
fn a_model_that_leaves_does_not_end_a_spare_that_imports() {
    let worker = Worker::of(&python());
    let hub = Hub::start(&worker.yaml("", "env: {STANDIN_IMPORT: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    spare(&hub);
    assert_eq!(hub.act("beta", "load").status, 200);
    let importing = wait_for("a spare that imports", SPARE, || {
        let spare = &hub.status()["spares"][0];
        let pid = spare["pid"].as_u64().filter(|_| spare["ready"] == false)?;
        u32::try_from(pid).ok()
    });
    assert_eq!(hub.act("beta", "unload").status, 200);
    assert_eq!(spare(&hub), importing);
}
