//! Ollama's API, over workers that speak OpenAI's.
//!
//! Its form is the same as that of the other adapters: `request` reads what a client sends, `answer` and
//! `stream` write what it gets, `lists` tell of the models.

use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::Protocol;
use crate::api::ApiError;
use crate::hub::gateway::answer::body::Body;
use crate::hub::gateway::request::stream_flag::asks_for_stream;

mod answer;
mod keep_alive;
pub(in crate::hub::gateway) mod lists;
mod one_line;
mod request;
pub(in crate::hub::gateway) mod routes;
mod stream;
#[cfg(test)]
mod tests;

pub(in crate::hub::gateway) use answer::{Form, Origin, only_moved};
pub(super) use answer::{embedding, embeddings, whole};
pub(super) use keep_alive::keep_alive;
pub(super) use request::{Purpose, chat, embed, generate};
pub(super) use stream::Lines;

pub(super) const OLLAMA: Protocol = Protocol {
    name: "ollama",
    asks_for_stream,
    error,
    error_event,
    only_event: error_event,
    notice,
    stream_type: "application/x-ndjson",
};

fn error(error: &ApiError) -> Response<Body> {
    let body = json!({"error": error.message}).to_string();
    let mut answer = error.to_response().map(|_| Body::full(body));
    // Ollama's own server says so when it has too much to do.
    if answer.status() == StatusCode::TOO_MANY_REQUESTS {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer
}

fn error_event(error: &ApiError) -> Bytes {
    line(&json!({"error": error.message}))
}

/// Its streams know no comments: a piece of nothing, for chats and for completions alike.
fn notice(_: &str) -> Bytes {
    line(&json!({
        "model": "",
        "created_at": jiff::Timestamp::now().to_string(),
        "message": {"role": "assistant", "content": ""},
        "response": "",
        "done": false,
    }))
}

fn line(json: &Value) -> Bytes {
    let mut line = Vec::new();
    one_line::write_line(json, &mut line);
    line.into()
}
