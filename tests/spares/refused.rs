//! Where a spare cannot be had, or does not fit, the program is started by itself.

use crate::support::{Hub, SOON, stub, wait_until};
use crate::worker::{Worker, facts, python, ready, spare};

fn log(hub: &Hub) -> String {
    std::fs::read_to_string(hub.logs().join("app.log")).unwrap_or_default()
}

fn load(hub: &Hub, model: &str) -> u64 {
    hub.act(model, "unload");
    let loaded = hub.act(model, "load");
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    hub.model(model)["pid"].as_u64().unwrap()
}

#[test]
fn a_program_that_is_no_python_is_named_by_check_and_the_log() {
    let yaml = format!(
        "worker_command: {}\nmodels: [{{name: alpha, model_path: org/a, default: true}}]\n",
        stub(&[])
    );
    let hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    let why = "it is no Python program: it has no `#!` line";
    wait_until("a line of the log", SOON, || log(&hub).contains(why));
    let check = hub.run(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    let mut lines = said
        .lines()
        .filter(|line| line.starts_with("No spare processes: "));
    assert!(
        lines.next().is_some_and(|line| line.ends_with(why)),
        "{said}"
    );
    load(&hub, "alpha");
    assert_eq!(log(&hub).matches(why).count(), 1);
}

#[test]
fn a_variable_that_the_program_sets_after_a_module_has_read_it_makes_it_start_the_model_process_itself()
 {
    let worker = Worker::of(&python());
    let keys = "env: {STANDIN_SETS: 'STANDIN_IMPORT=0.01', STANDIN_IMPORT: '0'}";
    let hub = Hub::start(&worker.yaml("", keys));
    hub.wait_for_state("alpha", "running", "loaded");
    let kept = spare(&hub);
    // The server has read it too: it cannot go on, and the program is started by itself.
    let pid = load(&hub, "alpha");
    assert_ne!(pid, u64::from(kept));
    let facts = facts(&hub, "alpha");
    assert_eq!(facts["model"]["environment"]["STANDIN_IMPORT"], "0.01");
    assert!(
        log(&hub).contains("a spare process came to nothing"),
        "{}",
        log(&hub)
    );
    // Repeatedly: then no longer with one.
    for _ in 0..2 {
        spare(&hub);
        load(&hub, "alpha");
    }
    let told = "it loads without spare processes from now on";
    assert!(log(&hub).contains(told), "{}", log(&hub));
    let kept = spare(&hub);
    assert_ne!(load(&hub, "alpha"), u64::from(kept));
    assert_eq!(log(&hub).matches("came to nothing").count(), 3);
}

#[test]
fn a_load_that_fails_is_told_as_without_spares() {
    let worker = Worker::of(&python());
    let yaml = worker.yaml("", "env: {A: '1'}")
        + "- {name: bad, model_path: org/fails, default: false, jit_enabled: true, env: {A: '1'}}\n";
    let hub = Hub::start(&yaml);
    hub.wait_for_state("alpha", "running", "loaded");
    spare(&hub);
    hub.act("bad", "start");
    let refused = hub.act("bad", "load");
    assert_eq!(refused.status, 503, "{}", refused.text());
    let message = refused.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.contains("exited with code 3 before it was ready"),
        "{message}"
    );
    assert!(message.contains("no model there"), "{message}");
}

#[test]
fn a_module_that_is_gone_is_left_to_the_program() {
    let worker = Worker::of(&python());
    worker.write("standin_extra.py", "");
    worker.write(
        "standin_server.py",
        "try:\n    import standin_extra\nexcept ImportError:\n    pass\nNAME = __name__\n",
    );
    let hub = Hub::start(&worker.yaml("", "env: {A: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    spare(&hub);
    worker.write("standin_extra.py", "raise SystemExit('no more')\n");
    load(&hub, "alpha");
    worker.write("standin_server.py", "NAME = __name__\n");
    let kept = spare(&hub);
    assert_eq!(load(&hub, "alpha"), u64::from(kept));
    assert_eq!(ready(&hub).len(), 0);
}
