//! Policies that are changed while the hub runs: read again by themselves, and never at the cost of a
//! request.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::{Hub, SOON, wait_until};
use crate::{alpha, assert_error};

const PASSES: &str = "return { on_request = function() end }";

fn refuses(text: &str) -> String {
    format!(
        "return {{ on_request = function(_, hub)
           return hub.reject{{ status = 418, message = '{text}' }}
         end }}"
    )
}

/// What the hub says to a chat.
fn said(hub: &Hub) -> String {
    hub.http.chat("alpha", "hello").text()
}

fn warns_of(hub: &Hub, text: &str) -> bool {
    let warnings = hub.status()["warnings"].clone();
    let is_it = |line: &Value| line.as_str().is_some_and(|line| line.contains(text));
    warnings
        .as_array()
        .is_some_and(|lines| lines.iter().any(is_it))
}

#[test]
fn a_changed_policy_decides_soon_and_a_broken_one_never() {
    let hub = Hub::start_with(&alpha(&[]), &[("a.lua", &refuses("first"))]);
    let path = hub.folder().join("a.lua");
    assert!(said(&hub).contains("first"));

    fs::write(&path, refuses("second")).unwrap();
    wait_until("the new verdict", SOON, || said(&hub).contains("second"));

    fs::write(&path, "return { on_request = function(").unwrap();
    wait_until("a warning", SOON, || warns_of(&hub, "a.lua:1"));
    assert!(said(&hub).contains("second"));
    assert!(warns_of(
        &hub,
        "The policies were not reloaded, the old ones stay"
    ));

    // As an editor writes that replaces the file.
    let beside = hub.folder().join(".a.lua.new");
    fs::write(&beside, refuses("third")).unwrap();
    fs::rename(&beside, &path).unwrap();
    wait_until("the repaired verdict", SOON, || {
        said(&hub).contains("third")
    });
    assert!(!warns_of(&hub, "a.lua"));

    fs::remove_file(&path).unwrap();
    wait_until("no verdict", SOON, || {
        hub.http.chat("alpha", "hello").status == 200
    });
}

#[test]
fn a_changed_module_and_a_new_file_are_noticed() {
    let requires = "local text = require('lib.text')
        return { on_request = function(_, hub) return hub.reject{ status = 418, message = text } end }";
    let hub = Hub::start_with(&alpha(&[]), &[("z.lua", PASSES)]);
    fs::create_dir(hub.folder().join("lib")).unwrap();
    fs::write(
        hub.folder().join("lib/text.lua"),
        "return 'from the module'",
    )
    .unwrap();
    fs::write(hub.folder().join("b.lua"), requires).unwrap();
    wait_until("the new policy", SOON, || {
        said(&hub).contains("from the module")
    });
    fs::write(
        hub.folder().join("lib/text.lua"),
        "return 'from a changed module'",
    )
    .unwrap();
    wait_until("the module", SOON, || {
        said(&hub).contains("a changed module")
    });
    fs::write(hub.folder().join("a.lua"), refuses("from a new file")).unwrap();
    wait_until("the file", SOON, || said(&hub).contains("from a new file"));
}

#[test]
fn what_observers_wrote_is_there_after_the_change() {
    let observer = "hub.on('model.loaded', function(event, hub) hub.state.loaded = event.model end)
                    return {}";
    let hub = Hub::start_with(&alpha(&[]), &[("observer.lua", observer)]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let tells = "return { on_request = function(_, hub)
        return hub.reject{ status = 418, message = 'loaded: ' .. tostring(hub.state.loaded) }
      end }";
    fs::write(hub.folder().join("tells.lua"), tells).unwrap();
    wait_until("the observed model", SOON, || {
        said(&hub).contains("loaded: alpha")
    });
}

/// A chat waits as `policy` says, seen in that count of the status, and is answered by the policy that
/// takes its place.
#[track_caller]
fn is_answered_after_the_change(policy: &str, count: &str) {
    let hub = Hub::start_with(&alpha(&[]), &[("a.lua", policy)]);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| hub.http.chat("alpha", "hello").status);
        wait_until(count, SOON, || hub.model("alpha")[count] == 1);
        fs::write(hub.folder().join("a.lua"), PASSES).unwrap();
        wait_until("an answer", SOON, || client.is_finished());
        assert_eq!(client.join().unwrap(), 200);
    });
}

#[test]
fn a_parked_request_is_asked_about_by_the_changed_policy() {
    is_answered_after_the_change(
        "return { on_request = function(_, hub) return hub.wait{ seconds = 3600 } end }",
        "parked_requests",
    );
}

#[test]
fn a_parked_load_is_asked_about_by_the_changed_policy() {
    is_answered_after_the_change(
        "return { on_load = function(_, hub) return hub.wait{ seconds = 3600 } end }",
        "waiting_requests",
    );
}

#[test]
fn observers_hear_that_a_model_has_ended_which_hub_yaml_no_longer_names() {
    let observer = "local function note(event, hub)
           hub.state.seen = (hub.state.seen or '') .. event.name .. ' ' .. event.model .. '; '
         end
         hub.on('model.unloaded', note)
         hub.on('model.stopped', note)
         return { on_request = function(req, hub)
           if hub.state.seen then return hub.reject{ status = 418, message = hub.state.seen } end
         end }";
    let alpha = alpha(&[]);
    let both = format!(
        "{alpha}- {{name: beta, model_path: org/beta, jit_enabled: true, default: true}}\n"
    );
    let hub = Hub::start_with(&both, &[("a.lua", observer)]);
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
    hub.configure(&alpha);
    assert!(hub.run(&["reload"]).status.success());
    wait_until("the end of beta", SOON, || {
        said(&hub).contains("model.unloaded beta; model.stopped beta; ")
    });
}

#[test]
fn no_request_fails_while_policies_are_changed_again_and_again() {
    let hub = Hub::start_with(&alpha(&[]), &[("a.lua", PASSES)]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let is_over = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answered = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let answer = hub.http.chat("alpha", "hello");
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for round in 0..5 {
            let marker = format!("return {{ on_request = function() end, nosuch{round} = 1 }}");
            fs::write(hub.folder().join("a.lua"), marker).unwrap();
            let hook = format!("nosuch{round}");
            wait_until("the broken file", SOON, || warns_of(&hub, &hook));
            fs::write(hub.folder().join("a.lua"), PASSES).unwrap();
            wait_until("the good file", SOON, || !warns_of(&hub, &hook));
        }
        is_over.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum::<u32>()
    });
    assert!(answered > 20, "{answered}");
}

#[test]
fn hub_yaml_is_not_read_again_by_itself() {
    let hub = Hub::start_with(&alpha(&[]), &[("a.lua", &refuses("first"))]);
    hub.configure(&alpha(&[]).replace("name: alpha", "name: beta"));
    fs::write(hub.folder().join("a.lua"), PASSES).unwrap();
    wait_until("the policy", SOON, || {
        hub.http.chat("alpha", "hello").status == 200
    });
    assert_error(
        &hub.http.chat("beta", "hello"),
        404,
        "invalid_request_error",
        "model_not_found",
        &["beta"],
    );
}
