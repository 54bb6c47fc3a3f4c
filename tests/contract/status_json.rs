//! Section 4: the status in JSON, key by key.

use serde_json::{Value, json};

use crate::Home;
use crate::home::JIT;

const KEYS: [&str; 21] = [
    "status",
    "process_state",
    "memory_state",
    "memory_last_transition_at",
    "memory_last_error",
    "last_load_at",
    "last_unload_at",
    "last_request_at",
    "active_requests",
    "group",
    "default",
    "model_type",
    "model_path",
    "log_path",
    "pid",
    "port",
    "started_at",
    "stopped_at",
    "exit_code",
    "auto_unload_minutes",
    // Not in the contract's example, and of use to whoever reads the status.
    "jit_enabled",
];

fn two() -> String {
    format!(
        "groups: [{{name: g, max_loaded: 1}}]\n\
         models:\n\
         - {{name: zeta, model_path: org/zeta, default: true, group: g}}\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, auto_unload_minutes: 120, \
            worker_command: {JIT}}}\n"
    )
}

/// A time of the last minute, in Unix seconds.
#[track_caller]
fn assert_now(time: &Value) {
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_secs_f64();
    let time = time.as_f64().unwrap();
    assert!((now - 60.0..=now + 1.0).contains(&time), "{time} at {now}");
}

#[test]
fn the_status_has_every_key_of_the_contract() {
    let home = Home::started(&two());
    home.wait_for_state("zeta", "running", "loaded");
    let status = home.status();
    assert_eq!(status["status"], "ok");
    assert_now(&status["timestamp"]);
    assert!(status["timestamp"].is_u64(), "whole seconds");
    assert_eq!(status["host"], "127.0.0.1");
    assert_eq!(status["port"], home.port);
    assert_eq!(
        status["counts"],
        json!({"registered": 2, "started": 1, "loaded": 1})
    );
    assert_eq!(status["warnings"], json!([]));
    assert_eq!(status["controller_available"], true);
    assert_eq!(
        status["groups"],
        json!([{"name": "g", "max_loaded": 1, "idle_unload_trigger_min": null,
            "members": ["zeta"], "loaded": ["zeta"]}])
    );
    let models = status["models"].as_array().unwrap();
    let ids: Vec<_> = models.iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["zeta", "alpha"], "hub.yaml's order");
    let modified = home.config().metadata().unwrap().modified().unwrap();
    let modified = modified
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    for model in models {
        assert_eq!(model["object"], "model");
        assert_eq!(model["owned_by"], "hub");
        assert_eq!(model["created"], modified);
        let metadata = model["metadata"].as_object().unwrap();
        for key in KEYS {
            assert!(metadata.contains_key(key), "{key}");
        }
    }
}

#[test]
fn a_models_metadata_follows_its_life() {
    let home = Home::started(&two());
    let metadata = home.model("alpha");
    assert_eq!(metadata["status"], "inactive");
    assert_eq!(metadata["process_state"], "inactive");
    assert_eq!(metadata["memory_state"], "unloaded");
    assert_eq!(metadata["default"], false);
    assert_eq!(metadata["group"], Value::Null);
    assert_eq!(metadata["model_type"], "lm");
    assert_eq!(metadata["model_path"], "org/alpha");
    assert_eq!(metadata["auto_unload_minutes"], 120);
    assert_eq!(metadata["active_requests"], 0);
    for key in [
        "pid",
        "started_at",
        "stopped_at",
        "exit_code",
        "last_load_at",
        "last_unload_at",
        "last_request_at",
        "memory_last_error",
    ] {
        assert_eq!(metadata[key], Value::Null, "{key}");
    }

    home.done("alpha", "start");
    let metadata = home.model("alpha");
    assert_eq!(metadata["status"], "running");
    assert_now(&metadata["started_at"]);
    assert!(metadata["pid"].is_u64(), "it stays up unloaded");
    assert_eq!(metadata["last_load_at"], Value::Null);

    home.done("alpha", "load");
    let metadata = home.model("alpha");
    assert_now(&metadata["last_load_at"]);
    assert_eq!(
        metadata["memory_last_transition_at"],
        metadata["last_load_at"]
    );

    assert_eq!(home.http.chat("alpha", "hello").status, 200);
    assert_now(&home.model("alpha")["last_request_at"]);

    home.done("alpha", "unload");
    let metadata = home.model("alpha");
    assert_now(&metadata["last_unload_at"]);
    assert_eq!(metadata["process_state"], "running");

    home.done("alpha", "stop");
    let metadata = home.model("alpha");
    assert_eq!(metadata["status"], "stopped");
    assert_now(&metadata["stopped_at"]);
    assert_eq!(metadata["pid"], Value::Null);
    assert_eq!(metadata["exit_code"], Value::Null, "after a requested stop");
}

#[test]
fn requests_in_flight_are_counted() {
    let home = Home::started(
        "models: [{name: a, model_path: org/a, env: {STUB_TOKENS: '1000', STUB_TOKEN_MS: '50'}}]\n",
    );
    home.done("a", "start");
    let mut streams: Vec<_> = (0..3)
        .map(|_| home.http.stream("a", "hi").events())
        .collect();
    for stream in &mut streams {
        stream.next().unwrap().unwrap();
    }
    assert_eq!(home.model("a")["active_requests"], 3);
    drop(streams);
    crate::support::wait_until("no request in flight", crate::support::SOON, || {
        home.model("a")["active_requests"] == 0
    });
}

#[test]
fn status_is_degraded_while_hub_yaml_on_disk_is_not_valid() {
    let home = Home::started(&two());
    home.wait_for_state("zeta", "running", "loaded");
    let config = std::fs::read_to_string(home.config()).unwrap();
    for broken in [Some("models: []\n"), Some("a: [\n"), None] {
        match broken {
            Some(text) => home.write(text),
            None => std::fs::remove_file(home.config()).unwrap(),
        }
        let status = home.status();
        assert_eq!(status["status"], "degraded", "{broken:?}");
        assert!(home.warnings().contains("hub.yaml"), "{}", home.warnings());
        // The last good configuration is served on.
        assert_eq!(status["host"], "127.0.0.1");
        assert_eq!(status["counts"]["registered"], 2);
        assert_eq!(home.http.chat("zeta", "hello").status, 200);
        assert_eq!(home.http.get("/hub").status, 200);
        home.write(&config);
        assert_eq!(home.status()["status"], "ok", "after {broken:?}");
    }
}

#[test]
fn more_plain_members_than_the_cap_is_a_warning() {
    let home = Home::started(
        "groups: [{name: g, max_loaded: 1}]\n\
         models:\n\
         - {name: one, model_path: org/one, group: g}\n\
         - {name: two, model_path: org/two, group: g}\n",
    );
    assert!(home.warnings().contains("`g`"), "{}", home.warnings());
    assert_eq!(home.status()["status"], "ok");
}
