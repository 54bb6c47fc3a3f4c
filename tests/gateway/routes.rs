//! What each route under `/v1` answers when all is well.

use serde_json::{Value, json};

use crate::support::{Hub, stub};
use crate::{
    CHAT, DIALECTS, ENDLESS, active, alpha, alpha_in, assert_error, begin_stream, wait_for_active,
    wait_for_event,
};

/// Started and loaded, started and unloaded, not started.
fn three() -> Hub {
    let hub = Hub::start(&format!(
        "worker_command: {}\n\
         models:\n\
         - {{name: alpha, model_path: org/alpha, context_length: 4096}}\n\
         - {{name: beta, model_path: org/beta, jit_enabled: true, model_type: embeddings}}\n\
         - {{name: gamma, model_path: org/gamma}}\n",
        stub(&[])
    ));
    for name in ["alpha", "beta"] {
        assert_eq!(hub.act(name, "start").status, 200);
    }
    hub
}

#[test]
fn the_list_has_the_started_models_under_their_names() {
    let hub = three();
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    let list = hub.http.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let models = list["data"].as_array().unwrap();
    let ids: Vec<_> = models.iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["alpha", "beta"]);
    for model in models {
        assert_eq!(
            (&model["object"], &model["owned_by"]),
            (&json!("model"), &json!("local"))
        );
        assert!(model["created"].is_u64(), "{model}");
    }
    let (alpha, beta) = (&models[0]["metadata"], &models[1]["metadata"]);
    let status = hub.model("alpha");
    let seconds = |key: &str| json!(status[key].as_f64().unwrap() as u64);
    assert_eq!(
        *alpha,
        json!({
            "model_type": "lm", "context_length": 4096, "status": "loaded", "vram_loaded": true,
            "vram_last_load_ts": seconds("last_load_at"), "vram_last_unload_ts": null,
            "vram_last_request_ts": seconds("last_request_at"), "vram_load_error": null,
            "active_requests": 0,
        })
    );
    assert_eq!(
        *beta,
        json!({
            "model_type": "embeddings", "context_length": 32768, "status": "unloaded",
            "vram_loaded": false, "vram_last_load_ts": null, "vram_last_unload_ts": null,
            "vram_last_request_ts": null, "vram_load_error": null, "active_requests": 0,
        })
    );
}

#[test]
fn a_model_that_starts_takes_requests_and_is_in_the_list() {
    for dialect in DIALECTS {
        let knobs = ["--dialect", dialect, "--load-seconds", "600"];
        let hub = Hub::start(&format!(
            "worker_command: {}\nmodels:\n- {{name: alpha, model_path: org/alpha, default: true}}\n",
            stub(&knobs)
        ));
        hub.wait_for_state("alpha", "starting", "loading");
        let list = hub.http.get("/v1/models").json();
        assert_eq!(list["data"][0]["id"], "alpha", "{dialect}: {list}");
        let metadata = &list["data"][0]["metadata"];
        assert_eq!(metadata["status"], "loading", "{dialect}");
        assert_eq!(metadata["vram_loaded"], false);
        assert_eq!(hub.http.get("/v1/models/alpha").json()["id"], "alpha");
    }
}

#[test]
fn one_model_is_found_by_name_and_path_if_it_is_started() {
    let hub = three();
    let one = |id: &str| hub.http.get(&format!("/v1/models/{id}"));
    assert_eq!(one("alpha").json()["id"], "alpha");
    assert_eq!(one("org/alpha").json()["id"], "alpha");
    assert_eq!(one("org%2Falpha").json()["id"], "alpha");
    for (id, text) in [
        ("gamma", "`gamma` is not started"),
        ("nosuch", "does not exist"),
    ] {
        let answer = one(id);
        assert_error(
            &answer,
            404,
            "invalid_request_error",
            "model_not_found",
            &[text],
        );
    }
}

#[test]
fn a_model_answers_to_its_name_and_its_path_plain_and_streamed() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &["--tokens", "6"]));
        for model in ["alpha", "org/alpha"] {
            // JIT is called what the client calls it.
            let name = if dialect == "jit" { model } else { "alpha" };
            let said = format!("You said “hello”. I am {name}, ");
            let answer = hub.http.chat(model, "hello").json();
            let content = &answer["choices"][0]["message"]["content"];
            assert_eq!(content, &said, "{dialect}: {answer}");
            assert_eq!(answer["usage"]["completion_tokens"], 6);

            let reply = hub.http.stream(model, "hello");
            let kind = reply.header("content-type").unwrap();
            assert!(kind.starts_with("text/event-stream"), "{kind}");
            assert_eq!(reply.said(), said, "{dialect}");
        }
        assert_eq!(hub.record.requests(CHAT).len(), 4);
    }
}

#[test]
fn a_stream_passes_while_the_worker_is_still_generating() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &ENDLESS));
        let mut events = begin_stream(&hub);
        // All of them would take a quarter of an hour.
        for _ in 0..5 {
            let event: Value = serde_json::from_str(&events.next().unwrap().unwrap()).unwrap();
            assert_eq!(event["choices"][0]["finish_reason"], Value::Null);
        }
        assert_eq!(active(&hub, "alpha"), 1);
        assert!(hub.record.events("streamed").is_empty());
        drop(events);
        wait_for_event(&hub, "cancelled", 1);
        wait_for_active(&hub, "alpha", 0);
    }
}

#[test]
fn every_route_of_the_worker_is_reached() {
    let hub = Hub::start(&alpha(&[]));
    let post = |path: &str, body: Value| hub.http.post(path, &body);
    let embeddings = post(
        "/v1/embeddings",
        json!({"model": "alpha", "input": ["a", "b"]}),
    );
    assert_eq!(embeddings.json()["data"].as_array().unwrap().len(), 2);
    let response = post("/v1/responses", json!({"model": "alpha", "input": "hello"}));
    assert_eq!(response.json()["object"], "response");
    let image = post(
        "/v1/images/generations",
        json!({"model": "alpha", "prompt": "a dot"}),
    );
    assert!(image.json()["data"][0]["b64_json"].is_string());
    for query in ["model=alpha", "x=1&model=org%2Falpha"] {
        let stats = hub.http.get(&format!("/v1/queue/stats?{query}"));
        assert_eq!(stats.json()["status"], "ok", "{}", stats.text());
    }
}

#[test]
fn a_route_that_only_a_worker_may_know_goes_to_the_worker_it_names() {
    // It describes them all, and knows none: the answers are its own.
    let hub = Hub::start(&alpha(&["--describes", "/v1/{rest}"]));
    let body = json!({"model": "org/alpha", "query": "q", "documents": []});
    let rerank = hub.http.post("/v1/rerank", &body);
    let get = hub.http.get("/v1/lora/adapters?model=alpha&verbose=1");
    let headers = [("content-type", "application/json")];
    let delete = hub
        .http
        .send("DELETE", "/v1/files/f-1?model=org/alpha", &headers, b"")
        .and_then(crate::support::http::Reply::whole)
        .unwrap();
    let completions = hub
        .http
        .post("/v1/completions", &json!({"model": "alpha", "prompt": "p"}));
    for answer in [rerank, get, delete, completions] {
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json(), json!({"detail": "Not Found"}));
    }
    let asked: Vec<_> = hub
        .record
        .events("request")
        .into_iter()
        .filter(|request| request["path"] != "/health")
        .map(|request| json!([request["method"], request["path"], request["query"]]))
        .collect();
    assert_eq!(
        asked,
        [
            json!(["POST", "/v1/rerank", null]),
            json!(["GET", "/v1/lora/adapters", "model=alpha&verbose=1"]),
            json!(["DELETE", "/v1/files/f-1", "model=alpha"]),
            json!(["POST", "/v1/completions", null]),
        ]
    );
}

#[test]
fn the_workers_own_errors_pass_as_they_are() {
    for dialect in DIALECTS {
        let hub = Hub::start(&alpha_in(dialect, &[]));
        // The hub does not look behind `model`; the worker does.
        let answer = hub.http.post(CHAT, &json!({"model": "alpha", "x": 1}));
        assert_eq!(answer.status, 422);
        assert_eq!(
            answer.json()["detail"][0]["loc"],
            json!(["body", "messages"])
        );
        assert!(answer.header("x-process-time").is_some());
        let no_json = hub
            .http
            .send("POST", CHAT, &[], br#"{"model": "alpha", "messages": [}"#)
            .and_then(crate::support::http::Reply::whole)
            .unwrap();
        assert_eq!(no_json.status, 422, "{}", no_json.text());
        assert!(no_json.json()["detail"].is_array());
    }
}
