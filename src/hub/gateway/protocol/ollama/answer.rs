//! Whole answers in Ollama's form, and its counters.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::super::chat::{ChatAnswer, Part, Reason, Usage};
use super::super::openai;
use crate::api::ApiError;
use crate::hub::gateway::answer::body::Body;

/// The route that is answered, of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hub::gateway) enum Form {
    Chat,
    Generate,
}

/// Time at which a request was translated: the begin of its counters.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub::gateway) struct Origin(Instant);

impl Origin {
    pub(in crate::hub::gateway) fn now() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// The time, as it is written.
pub(super) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

impl Form {
    /// An object with this text, and perhaps more.
    pub(super) fn said(self, model: &str, text: &str, thinking: &str, calls: Vec<Value>) -> Value {
        let mut said = json!({"model": model, "created_at": now()});
        match self {
            Self::Chat => {
                let mut message = json!({"role": "assistant", "content": text});
                if !thinking.is_empty() {
                    message["thinking"] = json!(thinking);
                }
                if !calls.is_empty() {
                    message["tool_calls"] = Value::Array(calls);
                }
                said["message"] = message;
            }
            Self::Generate => {
                said["response"] = json!(text);
                if !thinking.is_empty() {
                    said["thinking"] = json!(thinking);
                }
            }
        }
        said["done"] = json!(false);
        said
    }
}

/// A call. Of arguments that the model has not written well the text is told.
pub(super) fn call(name: &str, arguments: &str) -> Value {
    let arguments = match serde_json::from_str(arguments) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        _ if arguments.trim().is_empty() => Value::Object(Map::new()),
        _ => json!({ "arguments": arguments }),
    };
    json!({"function": {"name": name, "arguments": arguments}})
}

/// Makes it the last object of an answer: why it is over, and what it cost. `first` is how long the first
/// piece took.
pub(super) fn finish(
    said: &mut Value,
    reason: Reason,
    usage: Usage,
    total: Duration,
    first: Duration,
) {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let reason = match reason {
        Reason::Length => "length",
        Reason::Stop | Reason::Calls | Reason::Filtered => "stop",
    };
    for (key, value) in [
        ("done", json!(true)),
        ("done_reason", json!(reason)),
        ("total_duration", json!(nanos(total))),
        ("load_duration", json!(0)),
        ("prompt_eval_count", json!(usage.prompt())),
        ("prompt_eval_duration", json!(nanos(first))),
        ("eval_count", json!(usage.completion())),
        ("eval_duration", json!(nanos(total.saturating_sub(first)))),
    ] {
        said[key] = value;
    }
}

/// The answer to a request that only loads its model, or only wishes it away.
pub(in crate::hub::gateway) fn only_moved(
    form: Form,
    model: &str,
    is_stream: bool,
    done_reason: &str,
) -> Response<Body> {
    let mut said = form.said(model, "", "", Vec::new());
    said["done"] = json!(true);
    said["done_reason"] = json!(done_reason);
    if !is_stream {
        return openai::json(&said);
    }
    let mut answer = Response::new(Body::full(super::line(&said)));
    let kind = HeaderValue::from_static(super::OLLAMA.stream_type);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// The whole answer of a chat or a completion.
pub(in super::super) fn whole(
    answer: &ChatAnswer,
    form: Form,
    model: &str,
    origin: Origin,
) -> Value {
    let (mut text, mut thinking, mut calls) = (String::new(), String::new(), Vec::new());
    for part in &answer.parts {
        match part {
            Part::Text(more) => text += more,
            Part::Thinking(more) => thinking += more,
            Part::Call {
                name, arguments, ..
            } => calls.push(call(name, arguments)),
        }
    }
    let mut said = form.said(model, &text, &thinking, calls);
    let total = origin.elapsed();
    finish(
        &mut said,
        answer.reason,
        answer.usage,
        total,
        Duration::ZERO,
    );
    said
}

/// The answer to `/api/embed`.
///
/// # Errors
/// 502 when the worker's is none.
pub(in super::super) fn embeddings(
    body: &[u8],
    model: &str,
    origin: Origin,
) -> Result<Value, ApiError> {
    let (vectors, tokens) = vectors(body)?;
    let total = u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(json!({
        "model": model,
        "embeddings": vectors,
        "total_duration": total,
        "load_duration": 0,
        "prompt_eval_count": tokens,
    }))
}

/// The answer to `/api/embeddings`.
///
/// # Errors
/// 502 when the worker's is none.
pub(in super::super) fn embedding(body: &[u8]) -> Result<Value, ApiError> {
    let (mut vectors, _) = vectors(body)?;
    match vectors.is_empty() {
        true => Err(no_embeddings()),
        false => Ok(json!({"embedding": vectors.swap_remove(0)})),
    }
}

fn vectors(body: &[u8]) -> Result<(Vec<Value>, u64), ApiError> {
    let mut body: Value = serde_json::from_slice(body).map_err(|_| no_embeddings())?;
    let tokens = body["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
    let data = body.get_mut("data").and_then(Value::as_array_mut);
    let data = data.ok_or_else(no_embeddings)?.iter_mut();
    let vector = |entry: &mut Value| {
        let vector = entry.get_mut("embedding").map(Value::take);
        vector.filter(Value::is_array).ok_or_else(no_embeddings)
    };
    let vectors: Vec<Value> = data.map(vector).collect::<Result<_, _>>()?;
    Ok((vectors, tokens))
}

fn no_embeddings() -> ApiError {
    ApiError::new(
        StatusCode::BAD_GATEWAY,
        "The model's worker gave an answer that has no embeddings.",
    )
}
