//! The answers of a simulated worker besides chat completions.

use std::hash::{DefaultHasher, Hasher as _};

use http_body_util::{BodyExt as _, Full};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde_json::{Map, Value, json};

use super::http::{Answer, Form, ModelCall, json_answer, post_routes};
use super::options::Dialect;
use super::record::now;
use super::server::Worker;
use super::story;

/// A picture of one transparent pixel, as base64.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Numbers per embedding.
const DIMENSIONS: usize = 8;

fn ok(value: &Value) -> Answer {
    json_answer(StatusCode::OK, value)
}

/// `GET /health`.
pub(super) fn health(worker: &Worker) -> Answer {
    let (id, status) = match worker.knobs.dialect {
        Dialect::Jit if worker.model.is_initialized() => (&worker.launch.model_path, "initialized"),
        Dialect::Jit => (&worker.launch.model_path, "unloaded"),
        Dialect::V181 => {
            let name = worker.launch.served_model_name.as_ref();
            (
                name.unwrap_or(&worker.launch.model_path),
                "initialized (1 model(s))",
            )
        }
    };
    ok(&json!({"status": "ok", "model_id": id, "model_status": status}))
}

/// `GET /openapi.json`.
pub(super) fn openapi(worker: &Worker) -> Answer {
    let get = ["/health", "/v1/models", "/v1/queue/stats"].map(|path| (path, "get"));
    let post = post_routes(worker).map(|path| (path, "post"));
    let paths: Map<String, Value> = get
        .into_iter()
        .chain(post)
        .chain(worker.knobs.describes.as_deref().map(|path| (path, "get")))
        .map(|(path, method)| (path.to_owned(), json!({ method: {} })))
        .collect();
    ok(&json!({"openapi": "3.1.0", "info": {"title": "stub", "version": "1"}, "paths": paths}))
}

/// `GET /v1/models`.
pub(super) fn models(worker: &Worker) -> Answer {
    ok(&json!({"object": "list", "data": [{
        "id": worker.launch.name(),
        "object": "model",
        "created": now() as u64,
        "owned_by": "local",
        "metadata": null,
    }]}))
}

/// `GET /v1/queue/stats` of a loaded model.
pub(super) fn queue_stats(worker: &Worker) -> Answer {
    ok(&json!({"status": "ok", "queue_stats": {
        "running": true,
        "queue_size": 0,
        "max_queue_size": 100,
        "active_requests": worker.active().saturating_sub(1),
    }}))
}

/// Such as `POST /v1/completions`: the prompt goes on with itself, whole or in two events.
pub(super) fn completion(call: &ModelCall) -> Answer {
    let prompt = &*story::prompt(call.json());
    let tokens = story::count(prompt);
    let said = |text: &str, reason: Option<&str>| {
        json!({
            "id": "cmpl_1",
            "object": "text_completion",
            "created": now() as u64,
            "model": call.model(),
            "choices": [{"index": 0, "text": text, "finish_reason": reason}],
            "usage": {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens},
        })
    };
    if call.json()["stream"] != true {
        return ok(&said(prompt, Some("stop")));
    }
    let events = [said(prompt, None), said("", Some("stop"))];
    let mut text: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    text += "data: [DONE]\n\n";
    let mut answer = ok(&Value::Null);
    *answer.body_mut() = Full::from(text).boxed_unsync();
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

/// `POST /v1/embeddings`: a vector per input, the same for the same text.
pub(super) fn embeddings(call: &ModelCall) -> Answer {
    let inputs = match &call.json()["input"] {
        Value::Array(inputs) => inputs.clone(),
        input => vec![input.clone()],
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            json!({"object": "embedding", "index": index, "embedding": vector(&input.to_string())})
        })
        .collect();
    let tokens: usize = inputs
        .iter()
        .map(|input| story::count(&input.to_string()))
        .sum();
    ok(&json!({
        "object": "list",
        "data": data,
        "model": call.model(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

fn vector(text: &str) -> Vec<f64> {
    (0..DIMENSIONS)
        .map(|dimension| {
            let mut hasher = DefaultHasher::new();
            hasher.write(text.as_bytes());
            hasher.write_usize(dimension);
            // Sixteen bits are enough of a number between −1 and 1.
            let bits = u16::try_from(hasher.finish() & 0xffff).unwrap_or(0);
            f64::from(bits) / f64::from(u16::MAX) * 2.0 - 1.0
        })
        .collect()
}

/// `POST /v1/images/generations` and `/v1/images/edits`.
pub(super) fn image(call: &ModelCall) -> Answer {
    let mut answer = json!({
        "created": now() as u64,
        "model": call.model(),
        "data": [{"b64_json": PIXEL, "url": null}],
    });
    if let Form::Parts(_) = call.form {
        answer["parts"] = parts(call);
    }
    ok(&answer)
}

/// `POST /v1/audio/transcriptions`: tells the parts it was sent.
pub(super) fn transcription(call: &ModelCall) -> Answer {
    let text = story::tokens(call.model(), "", Some(12)).concat();
    ok(&json!({"text": text, "model": call.model(), "parts": parts(call)}))
}

fn parts(call: &ModelCall) -> Value {
    let Form::Parts(parts) = &call.form else {
        return Value::Null;
    };
    let described = parts.iter().map(
        |part| json!({"name": part.name, "filename": part.filename, "bytes": part.content.len()}),
    );
    Value::Array(described.collect())
}
