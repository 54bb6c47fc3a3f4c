//! What a load would do, told before it is done.

use serde_json::{Value, json};

use crate::support::{Hub, stub};

/// Two models in a group with room for one.
fn two_models(policies: &str) -> Hub {
    let model = |name: &str| {
        format!(
            "- {{name: {name}, model_path: org/{name}, group: g, jit_enabled: true, default: true}}\n"
        )
    };
    let hub = Hub::start(&format!(
        "worker_command: {}\n{policies}groups: [{{name: g, max_loaded: 1}}]\nmodels:\n{}{}",
        stub(&[]),
        model("alpha"),
        model("beta")
    ));
    for name in ["alpha", "beta"] {
        hub.wait_for_state(name, "running", "unloaded");
    }
    hub
}

fn plan(hub: &Hub, name: &str) -> Value {
    hub.http.get(&format!("/hub/models/{name}/plan")).json()
}

#[test]
fn a_plan_says_whom_a_load_evicts_and_changes_nothing() {
    let hub = two_models("policies: [lru_swap]\n");
    let begins = json!({"model": "alpha", "load": "begins", "unloads": [], "refusal": null});
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
    let evicts = json!({"model": "beta", "load": "begins", "unloads": ["alpha"], "refusal": null});
    assert_eq!(plan(&hub, "beta"), evicts);
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
