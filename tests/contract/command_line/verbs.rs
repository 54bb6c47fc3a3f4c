//! `reload`, the verbs on models, and `stop`.

use super::four;
use crate::Home;

#[test]
fn reload_prints_one_line_with_names_or_none() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    let unchanged = home.run(&["reload"]);
    assert_eq!(
        unchanged.assert_ok().out,
        "[info] Hub reload complete: started=none | stopped=none | unchanged=a, b, c, d\n"
    );
    home.configure(
        "models:\n\
         - {name: e, model_path: org/e, default: true}\n\
         - {name: f, model_path: org/f, default: true}\n\
         - {name: b, model_path: org/b, default: true}\n",
    );
    let changed = home.run(&["reload"]);
    assert_eq!(
        changed.assert_ok().out,
        "[ok] Hub reload complete: started=e, f | stopped=a, c, d | unchanged=b\n"
    );
}

#[test]
fn a_model_verb_returns_at_the_final_state() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    let state = |process: &str, memory: &str| (process.to_owned(), memory.to_owned());
    let (up, ready, off) = (
        state("running", "loaded"),
        state("running", "unloaded"),
        state("stopped", "unloaded"),
    );
    for (arguments, line, states) in [
        (["start-model", "a"], "[ok] a: started", &ready),
        (["start-model", "a"], "[ok] a: already started", &ready),
        (["load-model", "a"], "[ok] a: loaded", &up),
        (["load", "a"], "[ok] a: already loaded", &up),
        (["unload-model", "a"], "[ok] a: unloaded", &ready),
        (["unload", "a"], "[ok] a: already unloaded", &ready),
        (["load", "a"], "[ok] a: loaded", &up),
        (["stop-model", "a"], "[ok] a: stopped", &off),
        (["stop-model", "a"], "[ok] a: already stopped", &off),
    ] {
        let ran = home.run(&arguments);
        assert_eq!(ran.assert_ok().lines(), [line]);
        assert_eq!(&home.states("a"), states, "{arguments:?}");
    }
}

#[test]
fn each_name_gets_its_line_and_any_failure_is_exit_1() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    for (verb, done) in [
        ("start-model", "[ok] a: started"),
        ("load-model", "[ok] a: loaded"),
        ("unload-model", "[ok] a: unloaded"),
        ("stop-model", "[ok] a: stopped"),
    ] {
        let ran = home.run(&[verb, "a", "nosuch", "  "]);
        let lines = ran.assert_failed().lines();
        assert_eq!(lines.len(), 3, "{ran:?}");
        assert_eq!(lines[0], done);
        assert!(lines[1].starts_with("[err] nosuch: "), "{ran:?}");
        assert_eq!(lines[2], "[warn] Skipping blank model name entry");
    }
    let failed = home.run(&["start-model", "d", "c"]);
    let lines = failed.assert_failed().lines();
    assert!(lines[0].starts_with("[err] d: "), "{failed:?}");
    assert!(
        failed.out.contains("Failed to load model"),
        "why: {failed:?}"
    );
    failed.assert_line("[ok] c: started");
    let not_started = home.run(&["load-model", "a"]);
    assert!(
        not_started.assert_failed().out.contains("start"),
        "{not_started:?}"
    );
}

#[test]
fn several_names_are_started_at_once_and_told_in_their_order() {
    let home = Home::started(
        "models:\n\
         - {name: slow, model_path: org/slow, env: {STUB_LOAD_SECONDS: '600'}}\n\
         - {name: quick, model_path: org/quick}\n",
    );
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| home.run(&["start-model", "slow", "quick"]));
        home.wait_for_state("quick", "running", "loaded");
        assert_eq!(home.states("slow").1, "loading");
        home.done("slow", "stop");
        let started = starting.join().unwrap();
        let lines = started.assert_failed().lines();
        assert!(lines[0].starts_with("[err] slow: "), "{started:?}");
        assert_eq!(lines[1..], ["[ok] quick: started"], "{started:?}");
    });
}

#[test]
fn of_several_names_to_load_the_first_gets_the_memory() {
    let member = |name| {
        format!(
            "- {{name: {name}, model_path: org/{name}, jit_enabled: true, default: true, group: g}}\n"
        )
    };
    let home = Home::started(&format!(
        "groups: [{{name: g, max_loaded: 1}}]\nmodels:\n{}{}",
        member("a"),
        member("b")
    ));
    let loaded = home.run(&["load-model", "b", "a"]);
    let lines = loaded.assert_failed().lines();
    assert_eq!(lines[0], "[ok] b: loaded", "{loaded:?}");
    assert!(lines[1].starts_with("[err] a: Group `g` "), "{loaded:?}");
}

#[test]
fn start_model_and_stop_model_reload_first() {
    let home = Home::started(&four());
    let more = format!("{}- {{name: e, model_path: org/e}}\n", four());
    home.configure(&more);
    home.run(&["start-model", "e"])
        .assert_ok()
        .assert_line("[ok] e: started");
    home.configure(&four());
    let gone = home.run(&["stop-model", "e"]);
    assert!(gone.assert_failed().out.contains("[err] e: "), "{gone:?}");
    assert_eq!(home.status()["counts"]["registered"], 4);
}

#[test]
fn stop_returns_when_all_processes_are_gone() {
    for verb in ["stop", "shutdown"] {
        let home = Home::started(&four());
        home.wait_for_state("b", "running", "loaded");
        assert_eq!(home.worker_processes().len(), 3);
        let stopped = home.run(&[verb]);
        assert!(!home.is_running(), "{verb}");
        home.assert_no_workers();
        stopped
            .assert_ok()
            .assert_line("[ok] Hub manager shutdown requested");
        let again = home.run(&[verb]);
        let nothing = "[info] Hub manager is not running; nothing to stop\n";
        assert_eq!(again.assert_ok().out, nothing);
    }
}

#[test]
fn stop_reloads_first_and_starts_nothing() {
    let home = Home::started(&four());
    home.wait_for_state("b", "running", "loaded");
    let more = format!(
        "{}- {{name: e, model_path: org/e, default: true}}\n",
        four()
    );
    home.configure(&more);
    home.run(&["stop"]).assert_ok();
    assert_eq!(home.record.count("start", "e"), 0);
    assert!(home.app_log().contains("hub.yaml read again"));
}

#[test]
fn with_a_hub_a_broken_or_missing_hub_yaml_hinders_only_what_would_start_something_from_it() {
    for broken in [Some("models: [\n"), Some("models: []\n"), None] {
        let home = Home::started(&four());
        match broken {
            Some(text) => home.write(text),
            None => std::fs::remove_file(home.config()).unwrap(),
        }
        let starting = [
            &["reload"][..],
            &["start"],
            &["restart"],
            &["start-model", "b"],
        ];
        for verb in starting {
            let refused = home.run(verb);
            assert!(
                refused.assert_failed().err.starts_with("Error: "),
                "{verb:?}: {refused:?}"
            );
        }
        let status = home.run(&["status"]);
        status
            .assert_ok()
            .assert_line("[warn] Hub status: degraded");
        assert!(status.out.contains("hub.yaml on disk is not valid"));
        for verb in [
            &["status", "--json"][..],
            &["load", "b"],
            &["unload", "b"],
            &["policy", "list"],
            &["policy", "explain", "b"],
            &["policy", "record", "status"],
            &["stop-model", "b"],
        ] {
            home.run(verb).assert_ok();
        }
        let stopped = home.run(&["stop"]);
        let lines = stopped.assert_ok().lines();
        assert!(lines[0].starts_with("[warn] "), "{stopped:?}");
        assert!(!home.is_running(), "{broken:?}");
    }
}

#[test]
fn a_command_needs_no_hub_to_say_how_to_start_one() {
    let home = Home::with_stub(&four());
    for verb in [
        "reload",
        "start-model",
        "stop-model",
        "load-model",
        "unload-model",
    ] {
        let arguments = if verb == "reload" {
            &[verb][..]
        } else {
            &[verb, "a"]
        };
        let error = home.run(arguments).assert_failed().err.clone();
        assert!(error.contains("not running"), "{verb}: {error}");
        assert!(
            error.contains("mlx-openai-server-hub start"),
            "{verb}: {error}"
        );
    }
}
