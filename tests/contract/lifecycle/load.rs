//! Start and load, and the cap of a group.

use serde_json::{Value, json};

use super::{both, pid, states};
use crate::Home;
use crate::home::JIT;
use crate::support::{SOON, spares, wait_for};

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
fn a_second_load_takes_a_spare_where_there_are_some() {
    // In the run with TEST_SPARES=1; otherwise the simulated worker is no program that could have any.
    if !spares::are_used() {
        return;
    }
    for program in ["mlx-openai-server", JIT] {
        let home = Home::started(&format!(
            "models: [{{name: a, model_path: org/a, worker_command: {program}}}]\n"
        ));
        home.done("a", "start");
        home.done("a", "stop");
        let ready = wait_for("spares", SOON, || {
            spares::ready(home.http).filter(|ready| !ready.is_empty())
        });
        home.done("a", "start");
        let pid = pid(&home, "a").as_u64().unwrap();
        assert!(
            ready.contains(&pid),
            "{program}: {pid} is none of {ready:?}"
        );
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
    let home = Home::with_stub(
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
