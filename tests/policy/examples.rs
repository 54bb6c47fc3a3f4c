//! The policies of `examples/policies` do what their first comment says.

use std::sync::Arc;

use mlx_openai_server_hub::policy::{
    IdleVerdict, LoadReason, LoadVerdict, ModelView, RequestVerdict,
};
use serde_json::json;

use crate::world::{Hub, ModelViewExt as _, group, model, pending, request};

fn hub(example: &str, models: Vec<ModelView>) -> Hub {
    let hub = Hub::with(example);
    *hub.world.models.write() = models;
    hub
}

fn with_settings(mut model: ModelView, settings: serde_json::Value) -> ModelView {
    model.settings = Arc::new(settings.as_object().unwrap().clone());
    model
}

#[test]
fn swap_evicts_the_longest_idle_member() {
    let swap = include_str!("../../examples/policies/swap.lua");
    let models = vec![
        model("a").in_group("g").loaded(30.0),
        model("b").in_group("g").loaded(90.0),
        model("c").in_group("g"),
    ];
    let hub = hub(swap, models);
    *hub.world.groups.write() = vec![group("g", Some(2), None)];
    let policies = hub.load();
    let verdict = policies.on_load("c", pending(LoadReason::Request, 1));
    assert_eq!(verdict, LoadVerdict::Evict(vec!["b".to_owned()]));

    let settings = json!({"swap_after_seconds": 100});
    *hub.world.settings.write() = Arc::new(settings.as_object().unwrap().clone());
    let verdict = policies.on_load("c", pending(LoadReason::Request, 1));
    assert!(matches!(verdict, LoadVerdict::Reject(_)), "{verdict:?}");
    assert_eq!(policies.warnings(), [""; 0]);
}

#[test]
fn long_prompts_go_to_the_other_model() {
    let long_prompts = include_str!("../../examples/policies/long_prompts.lua");
    let routed = |chars: usize| {
        let settings = json!({"long_prompts_to": "big", "long_prompt_chars": chars});
        let policies = hub(long_prompts, vec![with_settings(model("small"), settings)]).load();
        let (_, verdict) = policies.on_request(request("small"));
        assert_eq!(policies.warnings(), [""; 0]);
        match verdict {
            RequestVerdict::Route(route) => route.model,
            _ => None,
        }
    };
    // The prompt of a test's request has five characters.
    assert_eq!(routed(5).as_deref(), Some("big"));
    assert_eq!(routed(6), None);
}

#[test]
fn pinned_models_stay() {
    let pinned = include_str!("../../examples/policies/pinned.lua");
    let due = |name| {
        let model = model(name).loaded(3600.0);
        model.facts(|facts| facts.auto_unload_minutes = Some(1))
    };
    let models = vec![due("a"), with_settings(due("b"), json!({"pinned": true}))];
    let policies = hub(pinned, models).load();
    assert_eq!(policies.on_idle("a"), IdleVerdict::Unload);
    assert_eq!(policies.on_idle("b"), IdleVerdict::Keep(60.0));
}
