//! Policies that use up their time: the hub answers other requests meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::alpha;
use crate::support::{Hub, SOON, wait_until};

/// What a call of an observer may take, the longest time that a policy may keep others waiting at once.
const LONGEST_CALL: Duration = Duration::from_millis(250);

/// A request that has to wait for several such calls still ends within this, with the work of a slow
/// machine on top.
const BOUND: Duration = LONGEST_CALL.saturating_mul(8);

/// Requests that the others send, each.
const EACH: u32 = 20;

/// A policy that does `costly` for embeddings and nothing for others.
fn hub_with(costly: &str) -> Hub {
    let policy = format!(
        "return {{ on_request = function(req)
           if req.path == '/v1/embeddings' then {costly} end
         end }}"
    );
    let hub = Hub::start_with(&alpha(&[]), &[("slow.lua", &policy)]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    hub
}

/// Chats of three clients; each is answered, within the bound.
fn chats_are_answered(hub: &Hub) {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let asked = Instant::now();
                    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
                    let took = asked.elapsed();
                    assert!(took < BOUND, "{took:?}");
                }
            });
        }
    });
}

#[track_caller]
fn others_are_answered_while_a_policy_does(costly: &str) {
    let hub = hub_with(costly);
    let (is_over, burnt) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let burner = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // What becomes of it is not the point here; the stub serves chats.
                let body = json!({"model": "alpha", "input": "hello"});
                hub.http.post("/v1/embeddings", &body);
                burnt.fetch_add(1, Ordering::Relaxed);
            }
        });
        wait_until("a request that burns", SOON, || {
            burnt.load(Ordering::Relaxed) > 0
        });
        let answered = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            chats_are_answered(&hub);
        }));
        is_over.store(true, Ordering::Relaxed);
        burner.join().unwrap();
        answered.unwrap();
    });
    let policies = hub.http.get("/hub/policies").json();
    let facts = &policies["policies"][0];
    assert_eq!(facts["name"], "slow.lua");
    assert!(facts["failures"].as_u64().unwrap() > 0, "{facts}");
    let error = facts["last_error"].as_str().unwrap();
    assert!(error.contains("50 ms"), "{error}");
}

#[test]
fn others_are_answered_while_a_policy_never_ends() {
    others_are_answered_while_a_policy_does("while true do end");
}

#[test]
fn others_are_answered_while_a_policy_matches_a_pattern_without_end() {
    others_are_answered_while_a_policy_does("return string.rep('a', 5000):find('.-.-.-.-.-.-b')");
}

#[test]
fn others_are_answered_while_an_observer_never_ends() {
    let observer = "hub.on('request.finished', function() while true do end end) return {}";
    let hub = Hub::start_with(&alpha(&[]), &[("slow.lua", observer)]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    chats_are_answered(&hub);
    wait_until("the observer to be switched off", SOON, || {
        let policies = hub.http.get("/hub/policies").json();
        policies["policies"][0]["switched_off"] == true
    });
}
