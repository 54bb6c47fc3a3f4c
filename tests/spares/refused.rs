//! Where a spare cannot be had, or does not fit, the program is started by itself.

use nix::sys::signal::Signal;

use crate::support::{Hub, SOON, processes, stub, wait_until};
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
fn an_engine_that_wants_no_spares_has_none_and_check_and_the_log_say_so() {
    let worker = Worker::of(&python());
    let file = format!(
        "return {{ program = {{ '{}' }}, spares = false, ready = {{ get = '/health' }}, command = function(model) return {{\n\
         argv = {{ 'launch', '--model-path', model.path, '--host', model.host, '--port', model.port }} }} end }}\n",
        worker.path().display()
    );
    let models = "engine: mine\nmodels: [{name: alpha, model_path: org/a, default: true}]\n";
    let hub = Hub::start_with(models, &[("engines/mine.lua", &file)]);
    hub.wait_for_state("alpha", "running", "loaded");
    let why = "its engine `mine` has `spares = false`";
    wait_until("a line of the log", SOON, || log(&hub).contains(why));
    let check = hub.run(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains(why), "{said}");
    load(&hub, "alpha");
    assert!(
        !hub.logs().join("spares.json").exists(),
        "it is not learned"
    );
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

/// `alpha`, and `bad` with that path, which is not loaded by itself.
fn with_bad(worker: &Worker, path: &str) -> String {
    worker.yaml("", "env: {A: '1'}")
        + &format!(
            "- {{name: bad, model_path: org/{path}, default: false, jit_enabled: true, env: {{A: '1'}}}}\n"
        )
}

/// What a load of `bad` is refused with.
fn refusal(hub: &Hub) -> String {
    let refused = hub.act("bad", "load");
    assert_eq!(refused.status, 503, "{}", refused.text());
    let error = refused.json()["error"]["message"].clone();
    error.as_str().unwrap().to_owned()
}

/// Number of starts of the program for `bad`.
fn starts(hub: &Hub) -> usize {
    let log = std::fs::read_to_string(hub.logs().join("bad.log")).unwrap();
    log.matches("server process").count()
}

#[test]
fn a_load_that_fails_by_its_own_fault_is_told_once_as_without_spares_and_the_next_one_has_none() {
    let faults = [
        (
            "fails",
            "exited with code 3 before it was ready",
            "no model there",
        ),
        (
            "dies",
            "exited with code 4 before it was ready",
            "no room for the model",
        ),
    ];
    let worker = Worker::of(&python());
    for (path, how, why) in faults {
        let hub = Hub::start(&with_bad(&worker, path));
        hub.wait_for_state("alpha", "running", "loaded");
        let used = spare(&hub);
        hub.act("bad", "start");
        let message = refusal(&hub);
        assert!(message.contains(how) && message.contains(why), "{message}");
        assert_eq!(starts(&hub), 1);
        assert!(!ready(&hub).contains(&used), "it was the spare's load");
        let kept = spare(&hub);
        let message = refusal(&hub);
        assert!(message.contains(how) && message.contains(why), "{message}");
        assert_eq!(starts(&hub), 2);
        assert_eq!(
            ready(&hub),
            [kept],
            "one that has failed is tried by itself"
        );
        assert_eq!(log(&hub).matches("came to nothing").count(), 0);
    }
}

#[test]
fn a_model_process_that_is_killed_is_no_fault_of_the_model() {
    let worker = Worker::of(&python());
    let hub = Hub::start(&with_bad(&worker, "killed"));
    hub.wait_for_state("alpha", "running", "loaded");
    spare(&hub);
    hub.act("bad", "start");
    let message = refusal(&hub);
    assert!(
        message.contains("exited with code 4 before it was ready"),
        "{message}"
    );
    assert_eq!(starts(&hub), 2, "it is tried by itself at once");
    let why = "came to nothing, the program is started: its model process was ended by signal 9";
    assert!(log(&hub).contains(why), "{}", log(&hub));
}

#[test]
fn a_model_process_that_does_not_take_over_is_replaced_and_the_worker_lives_on() {
    let worker = Worker::of(&python());
    let hub = Hub::start(&worker.yaml("", "env: {A: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    let kept = spare(&hub);
    let members = processes::members(kept);
    let stopped = *members.iter().find(|pid| **pid != kept).unwrap();
    processes::send(stopped, Signal::SIGSTOP);
    assert_eq!(load(&hub, "alpha"), u64::from(kept));
    let facts = facts(&hub, "alpha");
    assert_ne!(facts["model"]["pid"], stopped);
    assert!(!processes::members(kept).contains(&stopped));
    let said = std::fs::read_to_string(hub.logs().join("alpha.log")).unwrap();
    let told = "a spare model process has not taken over: another one is started";
    assert_eq!(said.matches(told).count(), 1, "{said}");
}

#[test]
fn a_program_that_is_told_apart_by_its_modules_loads_all_the_same() {
    let worker = Worker::of(&python());
    let hub = Hub::start(&worker.yaml("", "env: {STANDIN_STRANGE: raises}"));
    hub.wait_for_state("alpha", "running", "loaded");
    let kept = spare(&hub);
    assert_ne!(load(&hub, "alpha"), u64::from(kept));
    let why = "the program is started: AttributeError: it was imported elsewhere";
    assert!(log(&hub).contains(why), "{}", log(&hub));
}

#[test]
fn a_program_that_ends_itself_where_a_spare_has_imported_is_loaded_without_after_a_while() {
    let worker = Worker::of(&python());
    let hub = Hub::start(&worker.yaml("", "env: {STANDIN_STRANGE: ends}"));
    hub.wait_for_state("alpha", "running", "loaded");
    for _ in 0..3 {
        spare(&hub);
        hub.act("alpha", "unload");
        let refused = hub.act("alpha", "load");
        assert!(
            refused.text().contains("exited with code 6"),
            "{}",
            refused.text()
        );
        load(&hub, "alpha");
    }
    let told = "it loads without spare processes from now on";
    assert!(log(&hub).contains(told), "{}", log(&hub));
    let kept = spare(&hub);
    assert_ne!(load(&hub, "alpha"), u64::from(kept));
}

#[test]
fn code_that_was_replaced_since_a_spare_imported_it_is_not_run_and_is_learned_anew() {
    let worker = Worker::of(&python());
    let module = |name: &str, more: &str| format!("{more}SAW = '{name}'\nNAME = __name__\n");
    worker.write("standin_server.py", &module("old", ""));
    let hub = Hub::start(&worker.yaml("", "env: {A: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    let old = spare(&hub);
    worker.write("standin_extra.py", "");
    let new = module("new", "import standin_extra\n");
    worker.write("standin_server.py", &new);
    assert_ne!(load(&hub, "alpha"), u64::from(old));
    for process in ["server", "model"] {
        assert_eq!(facts(&hub, "alpha")[process]["saw"], "new");
    }
    let why = "standin_server.py` is not as it was when a spare process imported it";
    assert!(log(&hub).contains(why), "{}", log(&hub));
    let lessons = || std::fs::read_to_string(hub.logs().join("spares.json")).unwrap_or_default();
    wait_until("what it imports now", SOON, || {
        lessons().contains("standin_extra")
    });
    // That was no fault of spares: the next one is used.
    let kept = spare(&hub);
    assert_eq!(load(&hub, "alpha"), u64::from(kept));
    assert_eq!(facts(&hub, "alpha")["server"]["saw"], "new");

    // In place, as an editor may write it: the folder stays as it is.
    let kept = spare(&hub);
    std::fs::write(worker.path().with_file_name("standin_extra.py"), "A = 1\n").unwrap();
    assert_ne!(load(&hub, "alpha"), u64::from(kept));
}

#[test]
fn a_module_that_is_gone_is_left_to_the_program() {
    let worker = Worker::of(&python());
    worker.write("standin_extra.py", "");
    worker.write(
        "standin_server.py",
        "try:\n    import standin_extra\nexcept ImportError:\n    pass\nNAME = __name__\n",
    );
    let mut hub = Hub::start(&worker.yaml("", "env: {A: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    spare(&hub);
    hub.kill();
    worker.write("standin_extra.py", "raise SystemExit('no more')\n");
    worker.write("standin_server.py", "NAME = __name__\n");
    hub.serve_again();
    hub.wait_for_state("alpha", "running", "loaded");
    let kept = spare(&hub);
    assert_eq!(load(&hub, "alpha"), u64::from(kept));
    assert_eq!(ready(&hub).len(), 0);
}
