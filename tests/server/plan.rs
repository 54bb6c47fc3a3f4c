//! What a verb on a model would do, told before it is done.

use serde_json::{Value, json};

use crate::support::alpha::ask_and_wait;
use crate::support::http::chat;
use crate::support::{Hub, SOON, stub, wait_until};

/// Two models in a group with room for one.
fn two_models(policies: &str) -> Hub {
    two_models_with(policies, &[])
}

fn two_models_with(policies: &str, files: &[(&str, &str)]) -> Hub {
    let model = |name: &str| {
        format!(
            "- {{name: {name}, model_path: org/{name}, group: g, jit_enabled: true, default: true}}\n"
        )
    };
    let yaml = format!(
        "worker_command: {}\n{policies}groups: [{{name: g, max_loaded: 1}}]\nmodels:\n{}{}",
        stub(&["--tokens", "100000", "--token-ms", "20"]),
        model("alpha"),
        model("beta")
    );
    let hub = Hub::start_with(&yaml, files);
    for name in ["alpha", "beta"] {
        hub.wait_for_state(name, "running", "unloaded");
    }
    hub
}

fn plan(hub: &Hub, name: &str) -> Value {
    plan_of(hub, name, "load")
}

fn plan_of(hub: &Hub, name: &str, verb: &str) -> Value {
    let path = format!("/hub/models/{name}/plan?verb={verb}");
    hub.http.get(&path).json()
}

#[test]
fn a_plan_says_whom_a_load_evicts_and_changes_nothing() {
    let hub = two_models("policies: [lru_swap]\n");
    let begins = json!({
        "model": "alpha",
        "load": "begins",
        "unloads": [],
        "refusal": null,
        "in_flight": 0,
        "refused_requests": 0,
    });
    assert_eq!(plan(&hub, "alpha"), begins);
    assert_eq!(hub.act("alpha", "load").status, 200);
    assert_eq!(plan(&hub, "alpha")["load"], "needless");

    let seen = || {
        let policies = hub.http.get("/hub/policies").json();
        let calls: Vec<_> = policies["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|policy| policy["calls"].clone())
            .collect();
        (
            calls,
            hub.http.get("/hub/policies/decisions").json()["decisions"].clone(),
        )
    };
    let before = seen();
    let evicts = plan(&hub, "beta");
    assert_eq!(evicts["load"], "begins");
    assert_eq!(evicts["unloads"], json!(["alpha"]));
    assert_eq!(seen(), before);
    assert_eq!(hub.model("alpha")["memory_state"], "loaded");

    assert_eq!(hub.act("beta", "load").status, 200);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    assert_eq!(hub.http.get("/hub/models/nosuch/plan").status, 404);
}

#[test]
fn a_plan_of_a_load_without_room_has_the_words_of_its_refusal() {
    let hub = two_models("");
    assert_eq!(hub.act("alpha", "load").status, 200);
    let planned = plan(&hub, "beta");
    assert_eq!(planned["load"], "refused");
    let refused = hub.act("beta", "load");
    assert_eq!(refused.status, 429);
    assert_eq!(planned["refusal"], refused.json()["error"]["message"]);
}

/// The hub is asked, so no client has to tell from what it saw of the models.
#[test]
fn a_plan_is_of_the_verb_that_is_asked_about() {
    let hub = two_models("");
    assert_eq!(plan_of(&hub, "alpha", "start")["load"], "needless");
    assert_eq!(hub.act("alpha", "stop").status, 200);
    let planned = plan(&hub, "alpha");
    let refused = hub.act("alpha", "load");
    assert_eq!(refused.status, 400);
    assert_eq!(planned["load"], "refused");
    assert_eq!(planned["refusal"], refused.json()["error"]["message"]);
    // Its start waits for a request.
    assert_eq!(plan_of(&hub, "alpha", "start")["load"], "needless");
    let strange = hub.http.get("/hub/models/alpha/plan?verb=eat");
    assert_eq!(strange.status, 400);
}

#[test]
fn a_plan_counts_the_requests_that_it_concerns() {
    let swap = "return { on_load = function(load, hub)
        if load.model.name == 'beta' then return hub.evict { 'alpha' } end
    end }";
    let hub = two_models_with("", &[("swap.lua", swap)]);
    let concerned = |name, verb| {
        let plan = plan_of(&hub, name, verb);
        [&plan["in_flight"], &plan["refused_requests"]].map(|count| count.as_u64().unwrap())
    };
    let mut answer = hub.http.stream("alpha", "hello").events();
    answer.next().unwrap().unwrap();
    for (name, verb, expected) in [
        ("alpha", "stop", [1, 0]),
        ("alpha", "unload", [1, 0]),
        ("alpha", "load", [0, 0]),
        // It takes the place of alpha.
        ("beta", "load", [1, 0]),
        ("beta", "stop", [0, 0]),
    ] {
        assert_eq!(concerned(name, verb), expected, "{verb} {name}");
    }
    let _waits = ask_and_wait(&hub, &chat("beta", "hello", false));
    wait_until("it waits for its model", SOON, || {
        concerned("beta", "stop") == [0, 1]
    });
    assert_eq!(concerned("beta", "unload"), [0, 0]);
}
