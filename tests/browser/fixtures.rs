//! The hubs that the tests look at.

use mlx_openai_server_hub::api::{
    Activity, GroupFacts, HubFacts, MemoryState, ModelFacts, ProcessState,
};

use crate::scripted_hub::Script;

pub(crate) fn hub() -> HubFacts {
    HubFacts {
        host: "0.0.0.0".to_owned(),
        port: 8000,
        ..HubFacts::default()
    }
}

pub(crate) fn model(
    name: &str,
    process_state: ProcessState,
    memory_state: MemoryState,
) -> ModelFacts {
    ModelFacts {
        name: name.to_owned(),
        model_path: format!("mlx-community/{name}"),
        model_type: "lm".into(),
        process_state,
        memory_state,
        ..ModelFacts::default()
    }
}

pub(crate) fn idle(facts: ModelFacts) -> (ModelFacts, Activity) {
    (facts, Activity::default())
}

/// A stopped, a started and a loaded model.
pub(crate) fn three_models() -> Script {
    Script {
        hub: hub(),
        models: vec![
            idle(model(
                "alpha",
                ProcessState::Inactive,
                MemoryState::Unloaded,
            )),
            idle(model("beta", ProcessState::Running, MemoryState::Unloaded)),
            idle(model("gamma", ProcessState::Running, MemoryState::Loaded)),
        ],
        ..Script::default()
    }
}

/// One of everything, as a busy hub shows it.
pub(crate) fn busy_hub() -> Script {
    let group = |name: &str, max_loaded, idle_unload_trigger_min| GroupFacts {
        name: name.to_owned(),
        max_loaded,
        idle_unload_trigger_min,
    };
    let at = Some(1_763_999_617.0);
    let mut loaded = model("qwen3_30b", ProcessState::Running, MemoryState::Loaded);
    loaded.group = Some("high_load".to_owned());
    loaded.default = true;
    loaded.auto_unload_minutes = Some(120);
    loaded.memory_last_transition_at = at;
    loaded.pid = Some(4321);
    loaded.port = Some(47850);
    let mut unloaded = model("qwen3_4b", ProcessState::Running, MemoryState::Unloaded);
    unloaded.auto_unload_minutes = Some(60);
    unloaded.memory_last_transition_at = at;
    unloaded.port = Some(47851);
    let mut loading = model("gemma3-27b", ProcessState::Running, MemoryState::Loading);
    loading.group = Some("high_load".to_owned());
    loading.model_type = "multimodal".into();
    loading.pid = Some(4323);
    loading.port = Some(47852);
    let mut failed = model("flux-schnell", ProcessState::Failed, MemoryState::Failed);
    failed.group = Some("images".to_owned());
    failed.model_type = "image-generation".into();
    failed.exit_code = Some(-9);
    failed.memory_last_error =
        Some("the process ended by signal 9 before it was ready; its log ends with: Killed".into());
    let mut stopped = model(
        "whisper-large-v3",
        ProcessState::Stopped,
        MemoryState::Unloaded,
    );
    stopped.group = Some("images".to_owned());
    stopped.model_type = "whisper".into();
    let busy = Activity {
        active_requests: 2,
        last_request_at: at,
        memory_bytes: Some(31 << 30),
        ..Activity::default()
    };
    let awaited = Activity {
        waiting_requests: 3,
        parked_requests: 1,
        ..Activity::default()
    };
    Script {
        hub: HubFacts {
            degraded: true,
            warnings: vec![
                "hub.yaml:12:5: `max_loaded` must be at least 1; the last good configuration \
                 stays in force"
                    .to_owned(),
                "model `qwen3_4b`: the installed worker has no `--kv-bits`; the option is ignored"
                    .to_owned(),
            ],
            groups: vec![
                group("high_load", Some(2), Some(30)),
                group("images", Some(1), None),
                group("small", None, None),
            ],
            ..hub()
        },
        models: vec![
            (loaded, busy),
            idle(unloaded),
            (loading, awaited),
            idle(failed),
            idle(stopped),
        ],
        ..Script::default()
    }
}
