//! The lists of models, in every API's form: what can be asked for, and what becomes of a request for it.

use serde_json::{Value, json};

use crate::assert_error;
use crate::support::http::{Answer, Reply};
use crate::support::{Hub, stub};

/// `small` is loaded, `big` has no room in its group while `middle` is, `hear` reads no text, and `off` is not
/// started.
fn yaml(models: &str) -> String {
    format!(
        "worker_command: {}\npolicies: [alias]\n\
         policy: {{alias: {{names: {{best: [big, small], 'gpt-*': small, small: [small]}}}}}}\n\
         groups:\n- {{name: large, max_loaded: 1}}\n\
         models:\n\
         - {{name: small, model_path: org/small, default: true, context_length: 4096}}\n\
         - {{name: middle, model_path: org/middle, default: true, group: large}}\n\
         - {{name: big, model_path: org/big, default: true, jit_enabled: true, group: large, model_type: multimodal}}\n\
         - {{name: hear, model_path: org/hear, default: true, jit_enabled: true, model_type: whisper}}\n\
         - {{name: off, model_path: org/off}}\n{models}",
        stub(&[])
    )
}

/// Names the policy answers for, and a hook that is asked about every load.
const AUTO: &str = r#"
return {
  models = { auto = "the smallest that fits", later = { model = "off" } },
  on_request = function(req, hub)
    if req.model == "auto" then
      return hub.route({ model = "small" })
    end
  end,
  on_load = function(load, hub)
    hub.log.warn("asked about", load.model.name)
  end,
}
"#;

fn hub() -> Hub {
    let hub = Hub::start_with(&yaml(""), &[("auto.lua", AUTO)]);
    for name in ["small", "middle"] {
        hub.wait_for_state(name, "running", "loaded");
    }
    hub
}

fn get_as_anthropic(hub: &Hub, path: &str) -> Answer {
    let headers = [("anthropic-version", "2023-06-01"), ("x-api-key", "none")];
    let reply = hub.http.send("GET", path, &headers, b"");
    reply.and_then(Reply::whole).unwrap()
}

/// The ids of a list, in its order.
fn ids(list: &Value, id: &str) -> Vec<String> {
    let lines = list.as_array().unwrap().iter();
    lines
        .map(|line| line[id].as_str().unwrap().to_owned())
        .collect()
}

fn line<'a>(list: &'a Value, id: &str) -> &'a Value {
    let mut lines = list.as_array().unwrap().iter();
    lines.find(|line| line["id"] == id).unwrap()
}

const ALL: [&str; 8] = [
    "small", "middle", "big", "hear", "auto", "later", "best", "gpt-*",
];

#[test]
fn models_and_names_are_listed_with_what_becomes_of_a_request_for_them() {
    let hub = hub();
    let answer = hub.http.get("/v1/models").json();
    assert_eq!(ids(&answer["data"], "id"), ALL);
    for (id, status) in [
        ("small", json!("loaded")),
        ("middle", json!("loaded")),
        ("big", json!("blocked")),
        ("hear", json!("loadable")),
        ("auto", Value::Null),
        ("later", json!("blocked")),
        ("best", json!("blocked")),
    ] {
        let shown = line(&answer["data"], id);
        assert_eq!(shown["status"], status, "{shown}");
        assert_eq!(shown["owned_by"], "local");
        assert!(
            shown["created"].as_u64().unwrap() > 1_700_000_000,
            "{shown}"
        );
    }
    let big = line(&answer["data"], "big");
    let why = big["blocked_reason"].as_str().unwrap();
    assert!(
        why.contains("Group `large` holds at most 1 loaded model"),
        "{why}"
    );
    assert_eq!(
        (&big["type"], &big["metadata"]["model_type"]),
        (&json!("vlm"), &json!("multimodal"))
    );
    let later = line(&answer["data"], "later")["blocked_reason"]
        .as_str()
        .unwrap();
    assert!(later.contains("`off` is not started"), "{later}");
    let small = line(&answer["data"], "small");
    let lengths = ["context_length", "max_model_len", "max_context_length"];
    assert!(
        lengths.iter().all(|length| small[length] == 4096),
        "{small}"
    );
    assert!(
        line(&answer["data"], "hear")
            .get("context_length")
            .is_none()
    );
    assert_eq!(
        line(&answer["data"], "auto")["description"],
        "the smallest that fits"
    );
    assert_eq!(
        line(&answer["data"], "best")["description"],
        "alias of big, small"
    );
    // As Codex reads it: what chats.
    let codex = ["small", "middle", "big", "auto", "later", "best", "gpt-*"];
    assert_eq!(ids(&answer["models"], "slug"), codex);

    hub.act("middle", "unload");
    let answer = hub.http.get("/v1/models").json();
    assert_eq!(line(&answer["data"], "big")["status"], "loadable");
    assert_eq!(line(&answer["data"], "best")["status"], "loadable");
    assert_eq!(hub.record.count("load", "big"), 0);
}

#[test]
fn to_look_counts_and_logs_nothing_and_a_hook_that_fails_leaves_it_to_the_next() {
    let hub = hub();
    let loads = || hub.output().matches("asked about").count();
    let calls = || {
        let report = hub.run(&["policy", "list", "--json"]);
        let report: Value = serde_json::from_slice(&report.stdout).unwrap();
        report["policies"][0]["calls"].clone()
    };
    let before = (loads(), calls());
    for _ in 0..3 {
        hub.http.get("/v1/models");
    }
    assert_eq!((loads(), calls()), before);
    let explained = hub.run(&["policy", "explain", "big"]);
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(!explained.contains("on_load"), "{explained}");

    let fails = "return { on_load = function() error('no') end }";
    let hub = Hub::start_with(&yaml(""), &[("0_fails.lua", fails), ("auto.lua", AUTO)]);
    hub.wait_for_state("middle", "running", "loaded");
    let answer = hub.http.get("/v1/models").json();
    assert_eq!(line(&answer["data"], "big")["status"], "blocked");
}

#[test]
fn one_that_loads_says_how_many_seconds_that_will_take() {
    let command = stub(&["--load-seconds", "3"]);
    let hub = Hub::start(&format!(
        "models:\n- {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true, worker_command: {command}}}\n",
    ));
    // It ends when the model is loaded.
    let load = || {
        std::thread::scope(|scope| {
            scope.spawn(|| hub.act("alpha", "load"));
            hub.wait_for_state("alpha", "running", "loading");
            hub.http.get("/v1/models/alpha").json()
        })
    };
    let first = load();
    assert_eq!(
        (&first["status"], &first["expected_seconds"]),
        (&json!("loading"), &Value::Null)
    );
    hub.act("alpha", "unload");
    let again = load();
    let left = again["expected_seconds"].as_u64().unwrap();
    assert_eq!(again["status"], "loading");
    assert!((1..=4).contains(&left), "{again}");
}

#[test]
fn one_model_or_name_is_had_by_its_id_and_others_are_refused() {
    let hub = hub();
    for (id, name) in [
        ("small", "small"),
        ("org%2Fsmall", "small"),
        ("best", "best"),
        ("gpt-4", "gpt-4"),
    ] {
        let shown = hub.http.get(&format!("/v1/models/{id}")).json();
        assert_eq!(shown["id"], name);
        assert!(shown["status"].is_string(), "{shown}");
    }
    for (id, words) in [
        ("smal", &["Did you mean `small`?"][..]),
        ("gp", &["does not exist"]),
        ("off", &["`off` is not started"]),
    ] {
        let path = format!("/v1/models/{id}");
        let refused = hub.http.get(&path);
        assert_error(
            &refused,
            404,
            "invalid_request_error",
            "model_not_found",
            words,
        );
        let refused = get_as_anthropic(&hub, &path);
        assert_eq!(refused.status, 404);
        let body = refused.json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!("not_found_error"))
        );
        let message = body["error"]["message"].as_str().unwrap();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    }
}

#[test]
fn who_names_a_version_of_anthropics_gets_its_pages() {
    let hub = hub();
    let page = get_as_anthropic(&hub, "/v1/models?limit=3").json();
    assert_eq!(ids(&page["data"], "id"), ALL[..3]);
    assert_eq!(
        (&page["has_more"], &page["first_id"], &page["last_id"]),
        (&json!(true), &json!("small"), &json!("big"))
    );
    let rest = get_as_anthropic(&hub, "/v1/models?limit=1000&after_id=big").json();
    assert_eq!(ids(&rest["data"], "id"), ALL[3..]);
    assert_eq!(rest["has_more"], false);
    let before = get_as_anthropic(&hub, "/v1/models?limit=2&before_id=hear").json();
    assert_eq!(ids(&before["data"], "id"), ALL[1..3]);
    let one = get_as_anthropic(&hub, "/v1/models/auto").json();
    assert_eq!(
        (&one["type"], &one["id"]),
        (&json!("model"), &json!("auto"))
    );
    assert_eq!(one["display_name"], "the smallest that fits");
    let wrong = get_as_anthropic(&hub, "/v1/models?limit=none");
    assert_eq!(
        (wrong.status, &wrong.json()["type"]),
        (400, &json!("error"))
    );
    let wrong = get_as_anthropic(&hub, "/v1/models?after_id=nosuch").json();
    assert_eq!(wrong["error"]["type"], "invalid_request_error");
}

#[test]
fn ollamas_and_lm_studios_lists_have_the_names_too() {
    let hub = hub();
    let tags = hub.http.get("/api/tags").json();
    assert_eq!(ids(&tags["models"], "name"), ALL);
    let running = hub.http.get("/api/ps").json();
    assert_eq!(ids(&running["models"], "name"), ["small", "middle"]);
    for (name, capabilities, context) in [
        (
            "best:latest",
            json!(["completion", "tools", "vision"]),
            json!(32_768),
        ),
        ("auto", json!(["completion", "tools"]), Value::Null),
        ("gpt-4:latest", json!(["completion", "tools"]), json!(4096)),
        ("hear", json!([]), Value::Null),
    ] {
        let shown = hub.http.post("/api/show", &json!({"model": name})).json();
        assert_eq!(shown["capabilities"], capabilities, "{name}");
        assert_eq!(shown["model_info"]["mlx.context_length"], context, "{name}");
    }
    let unknown = hub.http.post("/api/show", &json!({"model": "nosuch"}));
    assert_eq!(unknown.status, 404);
    let studio = hub.http.get("/api/v0/models").json();
    assert_eq!(ids(&studio["data"], "id"), ALL);
    assert_eq!(line(&studio["data"], "hear")["type"], "whisper");
    let off = hub.http.get("/api/v0/models/off").json();
    assert_eq!(
        (&off["id"], &off["state"]),
        (&json!("off"), &json!("not-loaded"))
    );
    assert_eq!(hub.http.get("/api/v0/models/nosuch").status, 404);
    let pattern = hub.http.get("/api/v0/models/gpt-4").json();
    assert_eq!(
        (&pattern["id"], &pattern["state"]),
        (&json!("gpt-4"), &json!("loaded"))
    );
}

#[test]
fn the_context_that_a_model_was_made_for_is_read_off_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        json!({"model_type": "qwen3_vl", "text_config": {"max_position_embeddings": 2048}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let path = folder.path().display();
    let more = format!("- {{name: short, model_path: {path}, default: true, jit_enabled: true}}\n");
    let hub = Hub::start(&yaml(&more));
    let short = hub.http.get("/v1/models/short").json();
    let lengths = ["context_length", "max_model_len", "max_context_length"];
    assert_eq!(
        json!(lengths.map(|length| &short[length])),
        json!([2048, 2048, 2048])
    );
    assert_eq!(short["metadata"]["context_length"], 32_768);
    let shown = hub
        .http
        .post("/api/show", &json!({"model": "short"}))
        .json();
    assert_eq!(shown["model_info"]["mlx.context_length"], 2048);
    let studio = hub.http.get("/api/v0/models/short").json();
    assert_eq!(studio["max_context_length"], 2048);
    let anthropic = get_as_anthropic(&hub, "/v1/models/short").json();
    assert_eq!(anthropic["max_input_tokens"], 2048);
}

#[test]
fn names_come_and_go_with_the_policies() {
    let hub = hub();
    let names =
        |names: &str| format!("return {{ models = {names}, on_request = function() end }}\n");
    let file = hub.folder().join("auto.lua");
    std::fs::write(&file, names("{ 'night', 'small' }")).unwrap();
    assert_eq!(hub.run(&["reload"]).status.code(), Some(0));
    let now = ids(&hub.http.get("/v1/models").json()["data"], "id");
    // A model keeps its name.
    assert_eq!(
        now,
        ["small", "middle", "big", "hear", "night", "best", "gpt-*"]
    );
    std::fs::write(&file, names("{ night = 1 }")).unwrap();
    hub.run(&["reload"]);
    let status = hub.status()["warnings"].to_string();
    assert!(
        status.contains("auto.lua:1: `models.night` must be a description"),
        "{status}"
    );
    assert!(ids(&hub.http.get("/v1/models").json()["data"], "id").contains(&"night".to_owned()));
}
