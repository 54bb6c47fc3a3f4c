//! A worker that began as a spare is like one that was started by itself.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::{Hub, SOON, processes, wait_for, wait_until};
use crate::worker::{SPARE, Worker, facts, python, pythons, ready, spare};

/// Seconds that each process of the worker imports.
const IMPORT: f64 = 1.0;

/// Unloads and loads `alpha`; says what its processes are and how long it took.
fn load(hub: &Hub) -> (Value, Duration) {
    assert_eq!(hub.act("alpha", "unload").status, 200);
    let begun = Instant::now();
    let loaded = hub.act("alpha", "load");
    assert_eq!(loaded.status, 200, "{}", loaded.text());
    let took = begun.elapsed();
    (facts(hub, "alpha"), took)
}

/// What differs from one launch to the next.
fn comparable(facts: &Value) -> Value {
    let mut facts = facts.clone();
    for process in ["server", "model"] {
        let process = facts[process].as_object_mut().unwrap();
        process.remove("pid");
        process.remove("parent");
        // Of a spare it is low.
        process.remove("imported_at");
        let environment = process["environment"].as_object_mut().unwrap();
        environment.remove("MLX_HUB_WORKER_LAUNCH");
    }
    facts
}

#[test]
fn every_python_makes_spares_that_become_workers_like_any_other() {
    let pythons = pythons();
    assert!(!pythons.is_empty(), "no Python");
    for python in pythons {
        let worker = Worker::of(&python);
        let keys = format!("env: {{STANDIN_IMPORT: '{IMPORT}'}}");
        // Of itself, first of all.
        let hub = Hub::start(&worker.yaml("spares: 0\n", &keys));
        hub.wait_for_state("alpha", "running", "loaded");
        let (alone, bare) = load(&hub);
        assert_eq!(ready(&hub), [0; 0]);

        hub.configure(&worker.yaml("", &keys));
        assert!(hub.run(&["reload"]).status.success());
        let (taught, _) = load(&hub);
        let kept = spare(&hub);
        assert_eq!(
            processes::members(kept).len(),
            2,
            "a server and a model process"
        );
        let (warm, took) = load(&hub);

        assert_eq!(warm["server"]["pid"], kept);
        assert_eq!(warm["model"]["parent"], kept);
        assert_eq!(hub.model("alpha")["pid"], kept);
        assert_eq!(
            comparable(&warm),
            comparable(&alone),
            "{}",
            python.display()
        );
        for process in ["server", "model"] {
            let (low, usual) = (&warm[process]["imported_at"], &warm[process]["priority"]);
            assert_ne!(low, usual, "of the {process} while it imports");
            assert_eq!(&alone[process]["imported_at"], usual);
        }
        let log = std::fs::read_to_string(hub.logs().join("app.log")).unwrap();
        // The one that teaches at the latest when it is asked; the other may be seen to answer first.
        assert!(log.contains("the worker listens"), "{log}");
        assert!(
            took < bare / 2,
            "{took:?} instead of {bare:?} with {}",
            python.display()
        );
        // The one that teaches has a thread and a channel in each process.
        for process in ["server", "model"] {
            let (taught, alone) = (&taught[process], &alone[process]);
            for key in ["argv", "folder", "temporary", "main", "name", "path"] {
                assert_eq!(taught[key], alone[key], "{key}");
            }
        }
    }
}

#[test]
fn a_program_without_a_model_process_has_spares_without_one() {
    let worker = Worker::of(&python());
    let hub = Hub::start(&worker.yaml("", "env: {STANDIN_ALONE: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    let kept = spare(&hub);
    assert_eq!(processes::members(kept), [kept]);
    let (facts, _) = load(&hub);
    assert_eq!(facts["server"]["pid"], kept);
    assert_eq!(facts["model"], json!(null));
}

#[test]
fn the_interpreter_is_found_where_installers_put_it() {
    let python = python();
    for first_lines in [
        "#!/bin/sh\n'''exec' \"PYTHON\" \"$0\" \"$@\"\n' '''",
        "#!PYTHON -s\n# -*- coding: utf-8 -*-",
    ] {
        let worker = Worker::with(&python, first_lines);
        let hub = Hub::start(&worker.yaml("", "env: {A: '1'}"));
        hub.wait_for_state("alpha", "running", "loaded");
        let kept = spare(&hub);
        let (facts, _) = load(&hub);
        assert_eq!(facts["server"]["pid"], kept, "{first_lines}");
        assert_eq!(facts["model"]["parent"], kept, "{first_lines}");
    }
}

#[test]
fn each_environment_has_spares_of_its_own_and_those_loaded_last_are_kept() {
    let worker = Worker::of(&python());
    let yaml = |spares: u8| {
        format!(
            "worker_command: {}\nspares: {spares}\nmodels:\n\
             - {{name: alpha, model_path: org/a, default: true, env: {{HF_HOME: /a}}}}\n\
             - {{name: beta, model_path: org/b, default: true, env: {{HF_HOME: /b}}}}\n",
            worker.path().display()
        )
    };
    let hub = Hub::start(&yaml(2));
    hub.wait_for_state("alpha", "running", "loaded");
    hub.wait_for_state("beta", "running", "loaded");
    crate::support::wait_until("two spares", SPARE, || ready(&hub).len() == 2);
    let both = ready(&hub);
    for model in ["alpha", "beta"] {
        hub.act(model, "unload");
        hub.act(model, "load");
        let facts = facts(&hub, model);
        let pid = facts["server"]["pid"].as_u64().unwrap();
        assert!(both.contains(&u32::try_from(pid).unwrap()), "{model}");
        let home = format!("/{}", &model[..1]);
        assert_eq!(facts["server"]["environment"]["HF_HOME"], home.as_str());
        assert_eq!(facts["model"]["environment"]["HF_HOME"], home.as_str());
    }
    // One alone is for the model that was loaded last.
    hub.configure(&yaml(1));
    assert!(hub.run(&["reload"]).status.success());
    hub.act("alpha", "unload");
    hub.act("alpha", "load");
    let kept = spare(&hub);
    hub.act("beta", "unload");
    hub.act("beta", "load");
    assert_ne!(hub.model("beta")["pid"], kept);
}

/// An engine of the stand-in worker that sets a variable.
fn engine(worker: &Worker, value: &str) -> String {
    format!(
        "return {{ program = {{ '{}' }}, ready = {{ get = '/health' }}, command = function(model) return {{\n\
         argv = {{ 'launch', '--model-path', model.path, '--host', model.host, '--port', model.port }},\n\
         env = {{ STANDIN_IMPORT = '{value}', STANDIN_NAME = 'engine' }} }} end }}\n",
        worker.path().display()
    )
}

#[test]
fn what_an_engine_sets_is_there_when_its_spares_import() {
    let worker = Worker::of(&python());
    let models = "engine: mine\nspares: 2\nmodels:\n\
                  - {name: alpha, model_path: org/a, default: true, env: {STANDIN_NAME: mine}}\n\
                  - {name: beta, model_path: org/b, default: true}\n";
    let file = engine(&worker, "0.01");
    let hub = Hub::start_with(models, &[("engines/mine.lua", &file)]);
    hub.wait_for_state("alpha", "running", "loaded");
    hub.wait_for_state("beta", "running", "loaded");
    wait_until("two spares", SPARE, || ready(&hub).len() == 2);
    let both = ready(&hub);
    for (model, name) in [("alpha", "mine"), ("beta", "engine")] {
        hub.act(model, "unload");
        hub.act(model, "load");
        let facts = facts(&hub, model);
        let pid = facts["server"]["pid"].as_u64().unwrap();
        assert!(both.contains(&u32::try_from(pid).unwrap()), "{model}");
        for process in ["server", "model"] {
            assert_eq!(facts[process]["saw"], "0.01", "{model}");
            let environment = &facts[process]["environment"];
            assert_eq!(environment["STANDIN_NAME"], name, "{model}");
        }
    }
}

#[test]
fn a_load_waits_for_a_spare_that_has_imported_for_long_instead_of_beginning_anew() {
    let worker = Worker::of(&python());
    let keys = format!("env: {{STANDIN_IMPORT: '{IMPORT}'}}");
    let hub = Hub::start(&worker.yaml("", &keys));
    hub.wait_for_state("alpha", "running", "loaded");
    // How long it imports is known from the first one.
    spare(&hub);
    load(&hub);
    let waited = "its launch waits for a spare process that imports";
    let log = || std::fs::read_to_string(hub.logs().join("app.log")).unwrap();
    // A busy machine may need longer than it did for the first.
    let has_waited = (0..5).any(|_| {
        let imports = wait_for("a spare whose server has imported", SPARE, || {
            let status = hub.status();
            let pid = status["spares"][0]["pid"].as_u64()?;
            let pid = u32::try_from(pid).ok()?;
            (processes::members(pid).len() == 2).then_some(pid)
        });
        let (facts, _) = load(&hub);
        facts["server"]["pid"] == imports && log().contains(waited)
    });
    assert!(has_waited, "{}", log());
    let facts = facts(&hub, "alpha");
    assert_eq!(facts["model"]["parent"], facts["server"]["pid"]);
    assert_eq!(facts["server"]["priority"], facts["model"]["priority"]);
}

#[test]
fn a_process_that_stays_up_without_its_model_begins_as_a_spare_too() {
    let worker = Worker::of(&python());
    let hub = Hub::start(&worker.yaml("", "env: {STANDIN_JIT: '1'}"));
    hub.wait_for_state("alpha", "running", "loaded");
    hub.wait_for_state("beta", "running", "unloaded");
    let first = spare(&hub);
    assert_eq!(hub.act("beta", "load").status, 200);
    let resident = facts(&hub, "beta");
    let pid = u32::try_from(resident["server"]["pid"].as_u64().unwrap()).unwrap();
    let argv = resident["server"]["argv"].as_array().unwrap();
    assert!(argv.contains(&json!("--jit")), "{argv:?}");
    assert_ne!(pid, first, "it was there before");

    // The fresh one after an unload is the spare, which then loads.
    assert_eq!(hub.act("beta", "unload").status, 200);
    wait_until("a fresh process", SOON, || {
        hub.model("beta")["pid"] == first
    });
    hub.wait_for_state("beta", "running", "unloaded");
    assert_eq!(processes::members(first).len(), 2);
    assert_eq!(hub.act("beta", "load").status, 200);
    let facts = facts(&hub, "beta");
    assert_eq!(facts["server"]["pid"], first);
    assert_eq!(facts["model"]["parent"], first);
}
