//! Whole answers in Ollama's form, and its counters.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use serde::{Serialize, Serializer};
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

/// The times of a request: the begin of its counters.
#[derive(Debug, Clone, Copy)]
pub(in crate::hub::gateway) struct Origin {
    /// It was translated.
    began: Instant,
    /// Time from then until its model was there for it.
    load: Duration,
}

impl Origin {
    pub(in crate::hub::gateway) fn now() -> Self {
        Self {
            began: Instant::now(),
            load: Duration::ZERO,
        }
    }

    /// Notes that the model is there for it: what has passed was the queue and the load.
    pub(in super::super) fn is_loaded(&mut self) {
        self.load = self.began.elapsed();
    }

    /// What has passed so far.
    pub(super) fn spent(self) -> Spent {
        Spent {
            total: self.began.elapsed(),
            load: self.load,
        }
    }
}

/// A time of a request's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    total: Duration,
    /// The part of it in which the model was not there.
    load: Duration,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time as it is written: `2026-11-29T23:38:28.123456789Z`.
fn written<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

/// An object of an answer: a piece of it, or the end. Pieces are written as they are, without a tree of JSON.
#[derive(Debug, Serialize)]
pub(super) struct AnswerObject<'a> {
    model: &'a str,
    #[serde(serialize_with = "written")]
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<AnswerMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    done: bool,
    #[serde(flatten)]
    end: Option<AnswerEnd>,
}

#[derive(Debug, Serialize)]
struct AnswerMessage<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Value>,
}

/// Why an answer is over, and what it cost.
#[derive(Debug, Serialize)]
struct AnswerEnd {
    done_reason: String,
    #[serde(flatten)]
    counters: Option<Counters>,
}

/// Durations are in nanoseconds.
#[derive(Debug, Serialize)]
struct Counters {
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u64,
    prompt_eval_duration: u64,
    eval_count: u64,
    eval_duration: u64,
}

impl Form {
    /// An object with this text, and perhaps more.
    pub(super) fn said<'a>(
        self,
        model: &'a str,
        text: &'a str,
        thinking: &'a str,
        tool_calls: Vec<Value>,
    ) -> AnswerObject<'a> {
        let is_chat = self == Self::Chat;
        let message = || AnswerMessage {
            role: "assistant",
            content: text,
            thinking,
            tool_calls,
        };
        AnswerObject {
            model,
            created_at: Timestamp::now(),
            message: is_chat.then(message),
            response: (!is_chat).then_some(text),
            thinking: if is_chat { "" } else { thinking },
            done: false,
            end: None,
        }
    }
}

impl AnswerObject<'_> {
    /// Makes it the last object of an answer, for that reason.
    fn end(&mut self, reason: &str, counters: Option<Counters>) {
        self.done = true;
        self.end = Some(AnswerEnd {
            done_reason: reason.to_owned(),
            counters,
        });
    }

    /// Makes it the last object of an answer: why it is over, and what it cost. `first` is what had passed at the
    /// first piece, if there were several.
    pub(super) fn finish(
        &mut self,
        reason: Reason,
        usage: Usage,
        spent: Spent,
        first: Option<Spent>,
    ) {
        let first = first.map_or(spent.load, |first| first.total);
        let reason = match reason {
            Reason::Length => "length",
            Reason::Stop | Reason::Calls | Reason::Filtered => "stop",
        };
        let counters = Counters {
            total_duration: nanos(spent.total),
            load_duration: nanos(spent.load),
            prompt_eval_count: usage.prompt(),
            prompt_eval_duration: nanos(first.saturating_sub(spent.load)),
            eval_count: usage.completion(),
            eval_duration: nanos(spent.total.saturating_sub(first)),
        };
        self.end(reason, Some(counters));
    }

    pub(super) fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
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

/// The answer to a request that only loads its model, or only wishes it away.
pub(in crate::hub::gateway) fn only_moved(
    form: Form,
    model: &str,
    is_stream: bool,
    done_reason: &str,
) -> Response<Body> {
    let mut said = form.said(model, "", "", Vec::new());
    said.end(done_reason, None);
    if !is_stream {
        return openai::json(&said.value());
    }
    let mut answer = Response::new(Body::full(super::line(&said.value())));
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
            Part::Text(more) | Part::Refusal(more) => text += more,
            Part::Thinking(more) => thinking += more,
            Part::Call {
                name, arguments, ..
            } => calls.push(call(name, arguments)),
        }
    }
    let mut said = form.said(model, &text, &thinking, calls);
    said.finish(answer.reason, answer.usage, origin.spent(), None);
    said.value()
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
    let spent = origin.spent();
    Ok(json!({
        "model": model,
        "embeddings": vectors,
        "total_duration": nanos(spent.total),
        "load_duration": nanos(spent.load),
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
