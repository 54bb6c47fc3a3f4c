//! The hubs that the tests look at.

use mlx_openai_server_hub::api::{
    Activity, CapturedBody, CapturedRequest, Decision, EndedRequest, GroupFacts, HistoryReport,
    HubFacts, LoadTime, MemoryState, ModelFacts, ModelHistory, Origin, PolicyFacts, ProcessState,
    RequestInFlight, Stage,
};

use crate::scripted_hub::Script;

pub(crate) fn hub() -> HubFacts {
    HubFacts {
        host: "0.0.0.0".to_owned(),
        port: 8000,
        edits_config: true,
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

/// The time of the scripted hub, which stands still.
const NOW: f64 = 1_764_000_000.0;

/// `busy_hub` with something in every view.
pub(crate) fn full_hub() -> Script {
    let mut script = busy_hub();
    let name = script.models[0].0.name.clone();
    script.hub.capture = true;
    script.ended = vec![EndedRequest {
        number: 1,
        id: "one".to_owned(),
        time: NOW,
        client: "127.0.0.1".to_owned(),
        protocol: "openai".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: Some(name.clone()),
        status: 404,
        ..EndedRequest::default()
    }];
    script.in_flight = vec![RequestInFlight {
        number: 1,
        id: "one".to_owned(),
        time: NOW,
        client: "127.0.0.1".to_owned(),
        protocol: "openai".to_owned(),
        method: "POST".to_owned(),
        path: "/v1/chat/completions".to_owned(),
        model: Some(name.clone()),
        stage: Stage::Answering,
    }];
    let body = |text: &str| CapturedBody {
        content_type: Some("application/json".to_owned()),
        bytes: 999_999,
        text: text.to_owned(),
        cut: Some("Only the beginning of 999999 bytes is kept.".to_owned()),
    };
    script.captured = Some(CapturedRequest {
        id: "one".to_owned(),
        time: NOW,
        request: body("{\"model\":\"qwen3_30b\"}"),
        status: Some(404),
        answer: body("{\"error\":{}}"),
    });
    script.history = history(&[&name, "qwen3_4b"]);
    script.policies.policies = vec![
        policy(
            "alpha.lua",
            Some("alpha.lua:7: attempt to index a nil value"),
        ),
        policy("bundled/create_hub.lua", None),
    ];
    script.decisions.decisions = vec![
        decision(1, &name, "admit", "there is room for it"),
        decision(2, "qwen3_4b", "deny", "the group is full"),
    ];
    script
}

/// A policy that has failed as often as that says.
pub(crate) fn policy(name: &str, last_error: Option<&str>) -> PolicyFacts {
    PolicyFacts {
        name: name.to_owned(),
        origin: Origin::File,
        hooks: vec!["on_load".to_owned(), "on_request".to_owned()],
        observes: vec!["model.loaded".to_owned()],
        models: Vec::new(),
        denies: false,
        calls: 1200,
        verdicts: 40,
        failures: u64::from(last_error.is_some()),
        average_seconds: Some(0.000_012_3),
        last_error: last_error.map(str::to_owned),
        switched_off: false,
    }
}

/// What a policy has decided about that model.
pub(crate) fn decision(number: u64, model: &str, verdict: &str, reason: &str) -> Decision {
    Decision {
        number,
        time: NOW,
        last_time: NOW,
        times: 1,
        hook: Some("on_load".to_owned()),
        model: Some(model.to_owned()),
        policy: Some("alpha.lua".to_owned()),
        place: Some("alpha.lua:12".to_owned()),
        verdict: verdict.to_owned(),
        reason: Some(reason.to_owned()),
        outcome: Some("loaded".to_owned()),
        ..Decision::default()
    }
}

pub(crate) fn history(names: &[&str]) -> HistoryReport {
    let of = |name: &&str| {
        let history = ModelHistory {
            tokens_per_second: vec![Some(0.0), Some(40.0), None, Some(20.0)],
            requests: vec![Some(0), Some(2), None, Some(1)],
            memory_bytes: vec![Some(0), Some(4 << 30), None, Some(4 << 30)],
            loads: vec![LoadTime {
                time: 1_763_999_000.0,
                seconds: 12.5,
            }],
        };
        ((*name).to_owned(), history)
    };
    HistoryReport {
        step: 10,
        end: 1_764_000_000,
        memory_bytes: vec![Some(8 << 30); 4],
        models: names.iter().map(of).collect(),
    }
}

/// `full_hub` with names, texts and figures as long as they get.
pub(crate) fn wordy_hub() -> Script {
    const LONG: &str = "mlx-community-Qwen3-Coder-480B-A35B-Instruct-4bit-DWQ-of-a-very-long-name";
    let mut script = full_hub();
    let facts = &mut script.models[0].0;
    facts.name = LONG.to_owned();
    facts.model_path = format!("/Volumes/models/{LONG}/snapshots/{LONG}");
    facts.log_path = Some(format!("/Users/ada/mlx-openai-server-hub/logs/{LONG}.log"));
    facts.group = Some(LONG.to_owned());
    facts.memory_last_error = Some(format!("{LONG}\n{}", LONG.repeat(4)));
    script.hub.warnings.push(LONG.repeat(3));
    script.hub.groups.push(GroupFacts {
        name: LONG.to_owned(),
        max_loaded: Some(1),
        idle_unload_trigger_min: Some(30),
    });
    script.hub.memory.total = Some(512 << 30);
    script.hub.memory.available = Some(123 << 30);
    for request in &mut script.ended {
        request.id = LONG.to_owned();
        request.model = Some(LONG.to_owned());
        request.client = "fe80:1234:5678:9abc:def0:1234:5678:9abc".to_owned();
        request.cancelled = true;
        request.seconds = 1234.5;
        request.wait_seconds = 12.5;
        request.first_token_seconds = Some(12.5);
        request.prompt_tokens = Some(123_456);
        request.completion_tokens = Some(123_456);
        request.tokens_per_second = Some(1234.5);
    }
    for request in &mut script.in_flight {
        request.id = LONG.to_owned();
        request.model = Some(LONG.to_owned());
        request.client = "fe80:1234:5678:9abc:def0:1234:5678:9abc".to_owned();
    }
    script.policies.policies.push(policy(LONG, Some(LONG)));
    let said = LONG.repeat(2);
    (script.decisions.decisions).push(decision(3, LONG, "evict", &said));
    script
}
