//! Section 5: lifecycle.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::Home;
use crate::home::JIT;
use crate::support::processes;

fn states(process: &str, memory: &str) -> (String, String) {
    (process.to_owned(), memory.to_owned())
}

fn pid(home: &Home, name: &str) -> Value {
    home.model(name)["pid"].clone()
}

/// The same model on a worker of each dialect.
fn both(rest: &str) -> String {
    format!(
        "models:\n\
         - {{name: classic, model_path: org/classic, {rest}}}\n\
         - {{name: jit, model_path: org/jit, worker_command: {JIT}, {rest}}}\n"
    )
}

const TALKATIVE: &str = "env: {STUB_TOKENS: '100000', STUB_TOKEN_MS: '20'}";

#[test]
fn start_of_a_jit_model_leaves_it_unloaded() {
    let home = Home::started(&both("jit_enabled: true"));
    for name in ["classic", "jit"] {
        home.done(name, "start");
        assert_eq!(home.states(name), states("running", "unloaded"));
        assert_eq!(home.record.count("load", name), 0);
    }
    assert_eq!(
        pid(&home, "classic"),
        Value::Null,
        "it cannot stay up unloaded"
    );
    assert!(pid(&home, "jit").is_u64());
    assert_eq!(home.status()["counts"]["started"], 2);
}

#[test]
fn start_of_any_other_model_loads_it() {
    let home = Home::started(&both("default: false"));
    for name in ["classic", "jit"] {
        home.done(name, "start");
        assert_eq!(home.states(name), states("running", "loaded"));
        assert!(pid(&home, name).is_u64());
    }
}

#[test]
fn a_request_loads_a_started_model_once_however_many_wait() {
    for options in ["jit_enabled: true", "jit_enabled: false"] {
        let home = Home::started(&both(&format!(
            "{options}, env: {{STUB_LOAD_SECONDS: '0.3'}}"
        )));
        for name in ["classic", "jit"] {
            home.done(name, "start");
            home.done(name, "unload");
            assert_eq!(
                home.states(name),
                states("running", "unloaded"),
                "{options}"
            );
            let before = home.record.events("loaded").len();
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let answer = home.http.chat(name, "hello");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    });
                }
                scope.spawn(|| home.done(name, "load"));
            });
            assert_eq!(
                home.record.events("loaded").len(),
                before + 1,
                "{name}, {options}"
            );
            assert_eq!(home.states(name), states("running", "loaded"));
        }
    }
}

#[test]
fn requests_and_load_join_a_start() {
    let home = Home::started(
        "models: [{name: a, model_path: org/a, default: true, env: {STUB_LOAD_SECONDS: '0.5'}}]\n",
    );
    home.wait_for_state("a", "starting", "loading");
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(home.http.chat("a", "hello").status, 200));
        scope.spawn(|| home.done("a", "load"));
        scope.spawn(|| home.done("a", "start"));
    });
    assert_eq!(home.record.events("start").len(), 1);
}

#[test]
fn a_process_that_ends_before_it_is_ready_has_failed_whatever_its_code() {
    let home = Home::started(
        "models:\n\
         - {name: zero, model_path: org/zero, env: {STUB_FAIL_LOAD: 'true'}}\n\
         - {name: seven, model_path: org/seven, \
            env: {STUB_CRASH_ON_START: 'true', STUB_EXIT_CODE: '7'}}\n",
    );
    for (name, code) in [("zero", 0), ("seven", 7)] {
        assert_eq!(home.act(name, "start").status, 503);
        let model = home.model(name);
        assert_eq!(home.states(name), states("failed", "failed"));
        assert_eq!(model["exit_code"], code, "{name}");
        assert_eq!(model["pid"], Value::Null);
        let error = model["memory_last_error"].as_str().unwrap();
        assert!(error.contains(&format!("code {code}")), "{error}");
        assert!(model["stopped_at"].is_f64());
    }
}

#[test]
fn a_process_that_ends_unasked_has_failed_and_the_next_request_tries_again() {
    let home = Home::started(&both("default: true"));
    for name in ["classic", "jit"] {
        let model = home.wait_for_state(name, "running", "loaded");
        let worker = u32::try_from(model["pid"].as_u64().unwrap()).unwrap();
        processes::send(worker, Signal::SIGKILL);
        let model = home.wait_for_state(name, "failed", "failed");
        assert_eq!(model["exit_code"], -9, "death by a signal");
        assert!(processes::members(worker).is_empty(), "nor its children");
        assert_eq!(home.http.chat(name, "hello").status, 200);
        let model = home.wait_for_state(name, "running", "loaded");
        assert_eq!(model["exit_code"], Value::Null);
        assert_eq!(model["memory_last_error"], Value::Null);
    }
}

#[test]
fn a_jit_load_that_fails_keeps_the_model_started() {
    let home = Home::started(&format!(
        "models: [{{name: jit, model_path: org/jit, jit_enabled: true, worker_command: {JIT}, \
         env: {{STUB_FAIL_LOAD: 'true'}}}}]\n"
    ));
    home.done("jit", "start");
    for _ in 0..2 {
        let failed = home.http.chat("jit", "hello");
        assert_eq!(failed.status, 503, "{}", failed.text());
        assert!(failed.text().contains("jit"), "{}", failed.text());
        assert_eq!(home.states("jit"), states("running", "failed"));
        assert!(home.model("jit")["memory_last_error"].is_string());
    }
    let listed = home.http.get("/v1/models").json();
    let metadata = &listed["data"][0]["metadata"];
    assert!(metadata["vram_load_error"].is_string(), "{listed}");
}

#[test]
fn unload_waits_for_a_request_in_flight_and_new_ones_load_again() {
    let home = Home::started(&both("env: {STUB_TOKENS: '40', STUB_TOKEN_MS: '25'}"));
    for name in ["classic", "jit"] {
        home.done(name, "start");
        let first = pid(&home, name);
        let mut stream = home.http.stream(name, "hello").events();
        stream.next().unwrap().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| home.done(name, "unload"));
            home.wait_for_state(name, "running", "unloading");
            let waiting = scope.spawn(|| home.http.chat(name, "and me?").status);
            let rest: Result<Vec<_>, _> = stream.collect();
            assert_eq!(rest.unwrap().last().unwrap(), "[DONE]", "not cut short");
            assert_eq!(waiting.join().unwrap(), 200);
        });
        assert_eq!(home.states(name), states("running", "loaded"));
        assert_ne!(pid(&home, name), first, "the memory was freed in between");
    }
}

#[test]
fn during_a_stop_new_requests_get_503_and_those_in_flight_end() {
    let home = Home::started(
        "models: [{name: a, model_path: org/a, env: {STUB_TOKENS: '40', STUB_TOKEN_MS: '25'}}]\n",
    );
    home.done("a", "start");
    let mut stream = home.http.stream("a", "hello").events();
    stream.next().unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| home.done("a", "stop"));
        home.wait_for_state("a", "stopping", "unloading");
        let refused = home.http.chat("a", "me too");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert_eq!(refused.json()["error"]["type"], "service_unavailable");
        let rest: Result<Vec<_>, _> = stream.collect();
        assert_eq!(rest.unwrap().last().unwrap(), "[DONE]");
    });
    assert_eq!(home.states("a"), states("stopped", "unloaded"));
    home.assert_no_workers();
}

#[test]
fn after_drain_timeout_requests_in_flight_are_cut() {
    let home = Home::started(&format!(
        "drain_timeout: 1\nmodels: [{{name: a, model_path: org/a, {TALKATIVE}}}]\n"
    ));
    for verb in ["unload", "stop"] {
        home.done("a", "start");
        home.done("a", "load");
        let mut stream = home.http.stream("a", "hello").events();
        stream.next().unwrap().unwrap();
        let begun = tokio::time::Instant::now();
        home.done("a", verb);
        let took = begun.elapsed();
        assert!(
            (1.0..15.0).contains(&took.as_secs_f64()),
            "{verb}: {took:?}"
        );
        let ended = stream.last().unwrap();
        assert!(
            ended.is_err() || ended.unwrap() != "[DONE]",
            "{verb}: it was cut"
        );
    }
}

#[test]
fn a_stop_goes_from_sigterm_over_sigint_to_sigkill() {
    let home = Home::started(&format!(
        "stop_timeout: 2\ndrain_timeout: 0\n\
         models:\n\
         - {{name: busy, model_path: org/busy, worker_command: {JIT}, \
            env: {{STUB_IGNORE_SIGTERM: 'true'}}}}\n\
         - {{name: deaf, model_path: org/deaf, worker_command: {JIT}, \
            env: {{STUB_IGNORE_SIGTERM: 'true', STUB_IGNORE_SIGINT: 'true', \
            STUB_GRANDCHILD: stubborn}}}}\n"
    ));
    std::thread::scope(|scope| {
        for (name, at_least) in [("busy", 1.0), ("deaf", 2.0)] {
            let home = &home;
            scope.spawn(move || {
                home.done(name, "start");
                let begun = tokio::time::Instant::now();
                home.done(name, "stop");
                let took = begun.elapsed().as_secs_f64();
                assert!((at_least..10.0).contains(&took), "{name}: {took}");
                let heard = |signal| home.record.count(signal, &format!("org/{name}"));
                assert_eq!((heard("sigterm"), heard("sigint")), (1, 1), "{name}");
                assert_eq!(home.states(name), states("stopped", "unloaded"));
                assert_eq!(home.model(name)["exit_code"], Value::Null);
            });
        }
    });
    home.assert_no_workers();
}

#[test]
fn a_reload_reconciles_and_leaves_everything_else_alone() {
    let model = |name: &str, path: &str, rest: &str| {
        format!("- {{name: {name}, model_path: {path}, {rest}}}\n")
    };
    let yaml = |changed: &str, rest: &str| {
        format!(
            "models:\n{}{}{}{rest}",
            model("kept", "org/kept", "default: true"),
            model("changed", changed, "default: true"),
            model("idle", changed, "default: false"),
        )
    };
    let home = Home::started(&yaml(
        "org/old",
        &model("gone", "org/gone", "default: true"),
    ));
    for name in ["kept", "changed", "gone"] {
        home.wait_for_state(name, "running", "loaded");
    }
    let (kept, changed, gone) = (
        pid(&home, "kept"),
        pid(&home, "changed"),
        pid(&home, "gone"),
    );
    let gone = u32::try_from(gone.as_u64().unwrap()).unwrap();

    let new = model("new", "org/new", "default: true") + &model("later", "org/later", "port: null");
    home.configure(&yaml("org/newer", &new));
    assert_eq!(
        home.reload(),
        json!({"started": ["changed", "new"], "stopped": ["gone", "changed"],
            "unchanged": ["kept", "idle", "later"]})
    );
    assert!(
        processes::members(gone).is_empty(),
        "stopped by the time of the answer"
    );
    for name in ["changed", "new"] {
        home.wait_for_state(name, "running", "loaded");
    }
    assert_eq!(pid(&home, "kept"), kept, "not touched");
    assert_ne!(pid(&home, "changed"), changed);
    let arguments = home.worker_arguments("changed");
    assert!(arguments.contains(&"org/newer".to_owned()), "{arguments:?}");
    assert_eq!(home.states("idle"), states("inactive", "unloaded"));
    assert_eq!(home.http.chat("gone", "hello").status, 404);
    assert_eq!(home.act("gone", "start").status, 404);

    let unchanged = json!({"started": [], "stopped": [],
        "unchanged": ["kept", "changed", "idle", "new", "later"]});
    assert_eq!(home.reload(), unchanged);
}

#[test]
fn a_model_stays_stopped_across_a_reload_and_settings_of_the_hub_restart_nothing() {
    let yaml = |rest: &str| {
        format!(
            "models:\n\
             - {{name: off, model_path: org/off, default: true}}\n\
             - {{name: on, model_path: org/on, default: true{rest}}}\n"
        )
    };
    let home = Home::started(&yaml(""));
    let on = home.wait_for_state("on", "running", "loaded")["pid"].clone();
    home.wait_for_state("off", "running", "loaded");
    home.done("off", "stop");
    home.configure(&yaml(", group: free, policy: {weight: 2}"));
    assert_eq!(
        home.reload(),
        json!({"started": [], "stopped": [], "unchanged": ["off", "on"]})
    );
    assert_eq!(home.states("off"), states("stopped", "unloaded"));
    assert_eq!(pid(&home, "on"), on);
    assert_eq!(home.model("on")["group"], "free", "and it is in force");
}

#[test]
fn a_new_host_port_or_log_path_is_a_warning() {
    let models = "models: [{name: a, model_path: org/a}]\n";
    let home = Home::started(models);
    let elsewhere = processes::ports();
    home.write(&format!(
        "host: 0.0.0.0\nport: {elsewhere}\nlog_path: ~/elsewhere\n{models}"
    ));
    home.reload();
    let warnings = home.warnings();
    for key in ["`host`", "`port`", "`log_path`"] {
        assert!(warnings.contains(key), "{key}: {warnings}");
    }
    assert!(warnings.contains("next start"), "{warnings}");
    let status = home.status();
    assert_eq!(
        (&status["host"], &status["port"]),
        (&json!("127.0.0.1"), &json!(home.port))
    );
    home.configure(models);
    home.reload();
    assert_eq!(home.warnings(), "");
}

#[test]
fn looking_never_loads_a_model() {
    let home = Home::started(&both("jit_enabled: true, default: true"));
    for name in ["classic", "jit"] {
        home.wait_for_state(name, "running", "unloaded");
    }
    for path in [
        "/health",
        "/hub",
        "/hub/status",
        "/v1/models",
        "/v1/models/jit",
    ] {
        assert_eq!(home.http.get(path).status, 200, "{path}");
    }
    home.run(&["status"]).assert_ok();
    assert_eq!(home.record.events("load"), Vec::<Value>::new());
}

#[test]
fn a_worker_that_does_not_answer_in_time_is_not_dead() {
    let home = Home::started(&format!(
        "models: [{{name: a, model_path: org/a, worker_command: {JIT}, default: true, \
         env: {{STUB_BLOCKING: 'true', STUB_FIRST_TOKEN_SECONDS: '7'}}}}]\n"
    ));
    let worker = home.wait_for_state("a", "running", "loaded")["pid"].clone();
    let answer = home.http.chat("a", "hello");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(pid(&home, "a"), worker);
}

#[test]
fn shutdown_drains_and_a_second_signal_skips_that() {
    let talk =
        "models: [{name: a, model_path: org/a, env: {STUB_TOKENS: '40', STUB_TOKEN_MS: '25'}}]\n";
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::with(talk);
        let mut daemon = home.serve();
        home.done("a", "start");
        let mut stream = home.http.stream("a", "hello").events();
        stream.next().unwrap().unwrap();
        processes::send(home.pid(), signal);
        home.wait_for_state("a", "stopping", "unloading");
        let refused = home.http.chat("a", "me too");
        assert_eq!(refused.status, 503, "nobody is let in any more");
        let rest: Result<Vec<_>, _> = stream.collect();
        assert_eq!(rest.unwrap().last().unwrap(), "[DONE]", "{signal}");
        assert!(daemon.wait().unwrap().success());
    }
    let home = Home::with(&format!(
        "models: [{{name: a, model_path: org/a, {TALKATIVE}}}]\n"
    ));
    let mut daemon = home.serve();
    home.done("a", "start");
    let mut stream = home.http.stream("a", "hello").events();
    stream.next().unwrap().unwrap();
    processes::send(home.pid(), Signal::SIGTERM);
    home.wait_for_state("a", "stopping", "unloading");
    processes::send(home.pid(), Signal::SIGTERM);
    assert!(daemon.wait().unwrap().success());
    home.assert_no_workers();
}

#[test]
fn a_stop_ends_a_load_that_is_under_way() {
    let home = Home::started(&both("env: {STUB_LOAD_SECONDS: '60'}"));
    for name in ["classic", "jit"] {
        std::thread::scope(|scope| {
            let start = scope.spawn(|| home.act(name, "start").status);
            home.wait_for_state(name, "starting", "loading");
            home.done(name, "stop");
            assert_eq!(start.join().unwrap(), 503);
        });
        assert_eq!(home.states(name), states("stopped", "unloaded"));
    }
    home.assert_no_workers();
}

#[test]
fn the_cap_counts_memory_and_not_processes() {
    let member = |name: &str| {
        format!(
            "- {{name: {name}, model_path: org/{name}, group: g, jit_enabled: true, \
             worker_command: {JIT}, env: {{STUB_LOAD_SECONDS: '0.3'}}}}\n"
        )
    };
    let home = Home::started(&format!(
        "groups: [{{name: g, max_loaded: 1}}]\nmodels:\n{}{}{}",
        member("one"),
        member("two"),
        member("three"),
    ));
    for name in ["one", "two", "three"] {
        home.done(name, "start");
    }
    // Loading counts as much as loaded: of three at once one gets in.
    let answers: Vec<u16> = std::thread::scope(|scope| {
        let chats = ["one", "two", "three"]
            .map(|name| scope.spawn(move || (name, home.http.chat(name, "hello"))));
        let answers = chats.map(|chat| chat.join().unwrap());
        answers
            .iter()
            .map(|(name, answer)| {
                if answer.status == 429 {
                    let text = answer.text();
                    assert!(text.contains("`g`"), "{name}: {text}");
                }
                answer.status
            })
            .collect()
    });
    let mut sorted = answers.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [200, 429, 429], "{answers:?}");
    let group = &home.status()["groups"][0];
    assert_eq!(group["loaded"].as_array().unwrap().len(), 1);
    assert_eq!(group["members"], json!(["one", "two", "three"]));
}

#[test]
fn a_bundled_policy_or_a_user_may_overrule_the_cap() {
    let home = Home::with(
        "groups: [{name: g, max_loaded: 1}]\n\
         models:\n\
         - {name: one, model_path: org/one, group: g}\n\
         - {name: two, model_path: org/two, group: g}\n",
    );
    let policy = "return { on_load = function(load, hub) return hub.allow() end }\n";
    std::fs::write(home.base().join("generous.lua"), policy).unwrap();
    home.start();
    home.done("one", "start");
    home.done("two", "start");
    assert_eq!(home.status()["counts"]["loaded"], 2);
}
