//! Routes that a worker's program lacks: refused in the hub's own words, and no model is loaded for them.

use serde_json::json;

use crate::support::http::{Answer, Reply};
use crate::support::{Hub, SOON, stub, wait_until};
use crate::{DIALECTS, alpha_in, assert_error};

fn two(dialect: &str, knobs: &[&str]) -> Hub {
    let knobs = [&["--dialect", dialect], knobs].concat();
    Hub::start(&format!(
        "worker_command: {}\nmodels:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, jit_enabled: true, default: true}}\n",
        stub(&knobs)
    ))
}

fn complete(hub: &Hub, model: &str) -> Answer {
    let body = json!({"model": model, "prompt": "x"});
    hub.http.post("/v1/completions", &body)
}

fn send(hub: &Hub, method: &str, path: &str, kind: &str, body: &str) -> Answer {
    let reply = hub
        .http
        .send(method, path, &[("content-type", kind)], body.as_bytes());
    reply.and_then(Reply::whole).unwrap()
}

/// Waits until the hub knows what the program serves.
fn wait_until_learned(hub: &Hub) {
    let file = hub.logs().join("routes.json");
    wait_until("the routes to be learned", SOON, || file.exists());
}

#[track_caller]
fn assert_lacks(answer: &Answer, route: &str) {
    let words = ["`beta`", route, "/v1/chat/completions"];
    assert_error(answer, 404, "invalid_request_error", "404", &words);
}

/// That plain completions are refused for `model`, with what to do instead.
#[track_caller]
fn assert_no_completions(answer: &Answer, model: &str) {
    let model = format!("`{model}`");
    let words = [&*model, "chat template", "to /v1/chat/completions."];
    assert_error(answer, 400, "invalid_request_error", "400", &words);
}

#[test]
fn a_route_that_the_program_lacks_is_refused_and_loads_nothing() {
    for dialect in DIALECTS {
        let hub = two(dialect, &[]);
        assert_eq!(hub.http.chat("alpha", "hello").status, 200);
        wait_until_learned(&hub);
        let before = hub.record.events("request").len();
        let form = "--B\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nbeta\r\n--B--\r\n";
        let kind = "multipart/form-data; boundary=B";
        assert_no_completions(&complete(&hub, "beta"), "beta");
        assert_no_completions(&complete(&hub, "org/beta"), "beta");
        let body = json!({"model": "beta", "prompt": "x"});
        let lm_studio = hub.http.post("/api/v0/completions", &body);
        assert_no_completions(&lm_studio, "beta");
        let rerank = hub.http.post("/v1/rerank", &body);
        assert_lacks(&rerank, "no POST /v1/rerank.");
        let answer = send(&hub, "POST", "/v1/audio/translations", kind, form);
        assert_lacks(&answer, "no POST /v1/audio/translations.");
        let answer = send(&hub, "GET", "/v1/files/f-1?model=beta", "", "");
        assert_lacks(&answer, "no GET /v1/files/f-1.");
        assert_eq!(hub.model("beta")["memory_state"], "unloaded", "{dialect}");
        assert_eq!(hub.record.events("request").len(), before);
        // Its own routes are the worker's business.
        let own = send(&hub, "GET", "/upstream/beta/v1/completions", "", "");
        assert_eq!(own.json(), json!({"detail": "Not Found"}), "{dialect}");
        // What it serves goes on.
        assert_eq!(hub.http.chat("beta", "hello").status, 200);
        assert_eq!(hub.record.events("described").len(), 1, "asked once");
    }
}

#[test]
fn the_text_names_program_and_route_and_what_there_is() {
    let hub = two("jit", &[]);
    wait_until_learned(&hub);
    let text = |path: &str| {
        let answer = hub
            .http
            .post(path, &json!({"model": "beta", "prompt": "x"}));
        let answer = answer.json();
        let text = answer["error"]["message"].as_str().unwrap();
        text.replace(crate::support::BINARY, "PROGRAM")
    };
    insta::assert_snapshot!(text("/v1/rerank"), @"The worker of model `beta` (`PROGRAM`) has no POST /v1/rerank. It serves /v1/audio/transcriptions, /v1/chat/completions, /v1/embeddings, /v1/images/edits, /v1/images/generations, /v1/models, /v1/queue/stats.");
    insta::assert_snapshot!(text("/v1/completions"), @"The worker of model `beta` (`PROGRAM`) has no /v1/completions. A chat template would change what the prompt means, so the hub does not make a chat of it: send the prompt as a message to /v1/chat/completions.");
}

#[test]
fn what_is_known_is_kept_for_the_next_hub() {
    let mut hub = two("1.8.1", &[]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    wait_until_learned(&hub);
    hub.kill();
    hub.serve_again();
    assert_no_completions(&complete(&hub, "beta"), "beta");
    assert_eq!(hub.record.events("described").len(), 1);
}

#[test]
fn no_model_is_loaded_to_find_out_whether_its_worker_has_plain_completions() {
    let yaml = crate::alpha(&["--undescribed", "--describes", "/v1/completions"]);
    let hub = Hub::start(&yaml);
    let answer = complete(&hub, "alpha");
    assert_no_completions(&answer, "alpha");
    let words = ["not known", "`worker_command`", "load the model first"];
    assert_error(&answer, 400, "invalid_request_error", "400", &words);
    assert_eq!(hub.model("alpha")["memory_state"], "unloaded");
    assert!(hub.record.events("load").is_empty());
    // In memory it costs nothing to ask.
    hub.act("alpha", "load");
    let asked = complete(&hub, "alpha");
    assert_eq!(asked.json(), json!({"detail": "Not Found"}));
    assert_no_completions(&complete(&hub, "alpha"), "alpha");
}

#[test]
fn a_worker_that_has_plain_completions_is_loaded_for_them() {
    let hub = two("1.8.1", &["--describes", "/v1/completions"]);
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    wait_until_learned(&hub);
    // The stand-in only says that it has it.
    wait_until("the request to go there", SOON, || {
        complete(&hub, "beta").json() == json!({"detail": "Not Found"})
    });
    assert_eq!(hub.model("beta")["memory_state"], "loaded");
}

#[test]
fn a_program_that_does_not_say_what_it_serves_is_found_out_by_its_first_404() {
    let hub = two("1.8.1", &["--undescribed"]);
    let rerank = |model: &str| {
        let body = json!({"model": model, "query": "x", "documents": []});
        hub.http.post("/v1/rerank", &body)
    };
    let first = rerank("alpha");
    assert_eq!(
        (first.status, first.json()),
        (404, json!({"detail": "Not Found"}))
    );
    wait_until_learned(&hub);
    let answer = rerank("beta");
    let words = ["`beta`", "no POST /v1/rerank."];
    assert_error(&answer, 404, "invalid_request_error", "404", &words);
    assert_eq!(hub.model("beta")["memory_state"], "unloaded");
    assert_eq!(hub.http.chat("beta", "hello").status, 200);
}

#[test]
fn another_program_in_its_place_is_not_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker");
    let write = |knobs: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        let script = format!(
            "#!/bin/sh\nexec '{}' stub-worker {knobs} \"$@\"\n",
            crate::support::BINARY
        );
        std::fs::write(&program, script).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
    };
    write("");
    let hub = Hub::start(&format!(
        "worker_command: [{}]\nmodels:\n\
         - {{name: alpha, model_path: org/alpha, jit_enabled: true, default: true}}\n\
         - {{name: beta, model_path: org/beta, jit_enabled: true, default: true}}\n",
        program.display()
    ));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    wait_until_learned(&hub);
    let ask = || {
        let body = json!({"model": "beta", "query": "x", "documents": []});
        hub.http.post("/v1/rerank", &body).json()
    };
    assert_eq!(ask()["error"]["code"], "404");
    write("--describes '/v1/{rest}'");
    // It is loaded, and answers for itself.
    assert_eq!(ask(), json!({"detail": "Not Found"}));
}

#[test]
fn a_websocket_is_in_no_description() {
    let hub = Hub::start(&alpha_in("1.8.1", &[]));
    assert_eq!(hub.http.chat("alpha", "hello").status, 200);
    wait_until_learned(&hub);
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    let reply = hub.http.send("GET", "/v1/voice?model=alpha", &headers, b"");
    let answer = reply.and_then(Reply::whole).unwrap();
    assert_eq!(answer.json(), json!({"detail": "Not Found"}));
}
