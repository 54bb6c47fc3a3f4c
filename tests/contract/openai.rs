//! Section 7: the OpenAI API on the same port, as the contract says it in plain words. The gateway's
//! own tests go deeper.

use serde_json::{Value, json};

use crate::Home;
use crate::home::JIT;
use crate::support::http::{Answer, chat};
use crate::support::record;

fn models() -> String {
    format!(
        "models:\n\
         - {{name: alpha, model_path: org/alpha, default: true}}\n\
         - {{name: twin, model_path: org/alpha, default: true}}\n\
         - {{name: jit, model_path: org/jit, default: true, worker_command: {JIT}}}\n\
         - {{name: off, model_path: org/off}}\n"
    )
}

fn started() -> Home {
    let home = Home::started(&models());
    for name in ["alpha", "twin", "jit"] {
        home.wait_for_state(name, "running", "loaded");
    }
    home
}

#[track_caller]
fn assert_error(answer: &Answer, status: u16, kind: &str, code: &str) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = answer.json()["error"].clone();
    assert_eq!(error["type"], kind, "{error}");
    assert_eq!(error["code"], code, "{error}");
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn model_is_required() {
    let home = started();
    let path = "/v1/chat/completions";
    for body in [
        json!({"messages": []}),
        json!({"messages": [], "model": null}),
        json!({"messages": [], "model": ""}),
        json!({"messages": [], "model": "   "}),
        json!({"messages": [], "model": 12}),
        json!({"messages": [], "model": ["alpha"]}),
    ] {
        let answer = home.http.post(path, &body);
        let message = assert_error(&answer, 400, "invalid_request_error", "400");
        assert!(message.contains("/v1/models"), "{message}");
    }
    let stats = home.http.get("/v1/queue/stats");
    assert_error(&stats, 400, "invalid_request_error", "400");
}

#[test]
fn a_model_goes_by_its_name_or_its_path_in_the_case_they_are_written_in() {
    let home = started();
    for (model, worker) in [
        ("alpha", "alpha"),
        ("twin", "twin"),
        ("jit", "org/jit"),
        ("org/jit", "org/jit"),
        // Two have this path: the first in the file serves it.
        ("org/alpha", "alpha"),
    ] {
        let before = home.record.count("request", worker);
        let answer = home.http.chat(model, "hello");
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(home.record.count("request", worker), before + 1, "{model}");
    }
    for unknown in ["nosuch", "Alpha", "ORG/alpha"] {
        let answer = home.http.chat(unknown, "hello");
        let message = assert_error(&answer, 404, "invalid_request_error", "model_not_found");
        assert!(message.contains(unknown), "{message}");
    }
}

#[test]
fn a_model_that_is_not_started_is_400_that_says_to_start_it() {
    let home = started();
    home.done("twin", "stop");
    for model in ["off", "org/off", "twin"] {
        let answer = home.http.chat(model, "hello");
        let message = assert_error(&answer, 400, "invalid_request_error", "400");
        assert!(message.contains("start-model"), "{message}");
    }
    assert_eq!(home.http.get("/v1/queue/stats?model=off").status, 400);
}

#[test]
fn v1_models_lists_the_started_ones() {
    let home = started();
    let list = home.http.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let data = list["data"].as_array().unwrap();
    let ids: Vec<_> = data.iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["alpha", "twin", "jit"]);
    let model = &data[0];
    assert_eq!(model["object"], "model");
    assert_eq!(model["owned_by"], "local");
    assert!(model["created"].is_u64());
    let metadata = &model["metadata"];
    assert_eq!(metadata["model_type"], "lm");
    assert_eq!(metadata["context_length"], 32768);
    assert_eq!(metadata["status"], "loaded");
    assert_eq!(metadata["vram_loaded"], true);
    assert!(metadata["vram_last_load_ts"].is_u64());
    assert_eq!(metadata["active_requests"], 0);
    for key in [
        "vram_last_unload_ts",
        "vram_last_request_ts",
        "vram_load_error",
    ] {
        assert_eq!(metadata[key], Value::Null, "{key}");
    }
    home.done("alpha", "unload");
    let list = home.http.get("/v1/models").json();
    let metadata = &list["data"][0]["metadata"];
    assert_eq!(metadata["status"], "unloaded");
    assert_eq!(metadata["vram_loaded"], false);
    assert!(metadata["vram_last_unload_ts"].is_u64());
}

#[test]
fn every_route_reaches_the_worker_of_its_model() {
    let home = started();
    let input = json!({"model": "alpha", "input": "hello", "prompt": "hello", "messages":
        [{"role": "user", "content": "hello"}]});
    for path in [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/images/generations",
    ] {
        let answer = home.http.post(path, &input);
        assert_eq!(
            home.record.requests(path).len(),
            1,
            "{path}: {}",
            answer.text()
        );
        assert_eq!(answer.status, 200, "{path}");
    }
    // Neither dialect has these: their answer is the worker's, or the hub's once it knows.
    for (path, statuses) in [("/v1/completions", [404, 400]), ("/v1/rerank", [404, 404])] {
        let status = home.http.post(path, &input).status;
        assert!(statuses.contains(&status), "{path}: {status}");
        assert!(home.record.requests(path).len() <= 1, "{path}");
    }
    let stats = home.http.get("/v1/queue/stats?model=alpha");
    assert_eq!(stats.status, 200, "{}", stats.text());
    assert_eq!(stats.json()["status"], "ok");
    for (path, file) in [
        ("/v1/audio/transcriptions", "file"),
        ("/v1/images/edits", "image"),
    ] {
        let body = format!(
            "--x\r\ncontent-disposition: form-data; name=\"{file}\"; filename=\"f\"\r\n\r\nBYTES\r\n\
             --x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\norg/alpha\r\n--x--\r\n"
        );
        let form = [("content-type", "multipart/form-data; boundary=x")];
        let answer = home
            .http
            .send("POST", path, &form, body.as_bytes())
            .unwrap();
        let answer = answer.whole().unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let sent = &home.record.requests(path)[0];
        assert_eq!(sent["body"], body.replace("org/alpha", "alpha"), "{path}");
    }
}

#[test]
fn a_body_goes_to_the_worker_byte_for_byte_but_for_a_model_it_would_not_accept() {
    let home = started();
    let json = [("content-type", "application/json")];
    let odd = "{ \"messages\" : [ {\"role\":\"user\",\"content\":\"h\\u00e9\"} ],\"n\":1.0,\n \"model\" :\"NAME\" }";
    for (written, arrives) in [
        ("alpha", "alpha"),
        ("org/alpha", "alpha"),
        // The JIT worker takes any.
        ("jit", "jit"),
        ("org/jit", "org/jit"),
    ] {
        let body = odd.replace("NAME", written);
        let path = "/v1/chat/completions";
        let answer = home
            .http
            .send("POST", path, &json, body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 200, "{written}");
        let sent = home.record.requests(path).pop().unwrap();
        let expected = odd.replace("NAME", arrives);
        assert_eq!(sent["body"], expected, "{written}");
        assert_eq!(sent["body_hash"], record::hash(expected.as_bytes()));
    }
}

#[test]
fn a_stream_passes_through_as_it_comes() {
    let home = Home::started(
        "models: [{name: a, model_path: org/a, env: {STUB_TOKENS: '10', STUB_TOKEN_MS: '200'}}]\n",
    );
    home.done("a", "start");
    let begun = tokio::time::Instant::now();
    let reply = home.http.stream("a", "hello");
    let kind = reply.header("content-type").unwrap();
    assert!(kind.starts_with("text/event-stream"), "{kind}");
    let mut events = reply.events();
    events.next().unwrap().unwrap();
    let first = begun.elapsed();
    let rest: Vec<String> = events.collect::<Result<_, _>>().unwrap();
    assert_eq!(rest.last().unwrap(), "[DONE]");
    assert!(
        first.as_secs_f64() * 2.0 < begun.elapsed().as_secs_f64(),
        "{first:?}"
    );
}

#[test]
fn a_workers_own_errors_pass_through() {
    let home = started();
    let path = "/v1/chat/completions";
    let broken = home.http.post(path, &json!({"model": "alpha"}));
    assert_eq!(broken.status, 422, "{}", broken.text());
    assert!(broken.json()["detail"].is_array(), "{}", broken.text());
    let fine = home.http.post(path, &chat("alpha", "hello", false));
    assert_eq!(fine.status, 200);
}
