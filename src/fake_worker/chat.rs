//! Chat completions of a simulated worker: plain, and as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode, header};
use serde_json::{Value, json};
use uuid::Uuid;

use super::http::{Answer, ModelCall, json_answer};
use super::options::Dialect;
use super::record::now;
use super::server::{Busy, Worker};
use super::{script, story};

/// The answer.
struct Completion {
    id: String,
    created: u64,
    model: String,
    prompt_tokens: usize,
    tokens: Vec<String>,
    call: Option<script::ToolCall>,
    finish_reason: &'static str,
}

impl Completion {
    fn of(call: &ModelCall) -> Self {
        let body = call.json();
        let prompt = story::prompt(body);
        let most = body["max_tokens"]
            .as_u64()
            .or(body["max_completion_tokens"].as_u64())
            .map_or(usize::MAX, |most| {
                usize::try_from(most).unwrap_or(usize::MAX)
            });
        let model = call.model().to_owned();
        let tool = script::next_call(body);
        let mut tokens = match (&tool, script::of_schema(body)) {
            (Some(_), _) => Vec::new(),
            (None, Some(json)) => vec![json],
            (None, None) => story::tokens(&model, &prompt, call.worker.knobs.tokens),
        };
        let finish_reason = match &tool {
            Some(_) => "tool_calls",
            None if most < tokens.len() => "length",
            None => "stop",
        };
        tokens.truncate(most);
        Self {
            id: format!("chatcmpl_{}", Uuid::new_v4().simple()),
            created: now() as u64,
            prompt_tokens: story::count(&prompt),
            tokens,
            call: tool,
            model,
            finish_reason,
        }
    }

    /// The id of its call.
    fn call_id(&self) -> String {
        self.id.replacen("chatcmpl", "call", 1)
    }

    /// The pieces of the stream, before the one that says why it ends: a token each, or a call in three
    /// pieces.
    fn delta(&self, index: usize) -> Option<Value> {
        let Some(call) = &self.call else {
            let token = self.tokens.get(index)?;
            return Some(json!({ "content": token }));
        };
        let (one, two) = halves(&call.arguments);
        let delta = match index {
            0 => json!({
                "index": 0,
                "id": self.call_id(),
                "type": "function",
                "function": {"name": call.name, "arguments": ""},
            }),
            1 => json!({"index": 0, "function": {"arguments": one}}),
            2 => json!({"index": 0, "function": {"arguments": two}}),
            _ => return None,
        };
        Some(json!({"tool_calls": [delta]}))
    }

    /// Number of these pieces.
    fn pieces(&self) -> usize {
        match self.call {
            Some(_) => 3,
            None => self.tokens.len(),
        }
    }

    fn usage(&self) -> Value {
        let (prompt, completion) = (self.prompt_tokens, self.tokens.len());
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        })
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        })
    }

    /// The text of event `index`; `None` after the last.
    fn event(&self, index: usize, dialect: Dialect) -> Option<String> {
        let value = match index.checked_sub(1) {
            None => self.chunk(&json!({"role": "assistant"}), None),
            Some(piece) if piece < self.pieces() => self.chunk(&self.delta(piece)?, None),
            Some(piece) if piece == self.pieces() => {
                let mut last = self.chunk(&json!({}), Some(self.finish_reason));
                if dialect == Dialect::V181 {
                    last["usage"] = self.usage();
                }
                last
            }
            Some(piece) if piece == self.pieces() + 1 => {
                return Some("data: [DONE]\n\n".to_owned());
            }
            Some(_) => return None,
        };
        Some(format!("data: {value}\n\n"))
    }
}

/// A text in two parts.
fn halves(text: &str) -> (&str, &str) {
    let middle = (text.len() / 2..).find(|at| text.is_char_boundary(*at));
    text.split_at(middle.unwrap_or(text.len()))
}

/// The whole answer at once. A client that leaves does not stop it.
pub(super) async fn plain(call: ModelCall) -> Answer {
    let completion = Completion::of(&call);
    let tokens = u32::try_from(completion.tokens.len()).unwrap_or(u32::MAX);
    let tasks = call.worker.tasks.clone();
    let work = tasks.spawn(async move {
        let knobs = &call.worker.knobs;
        knobs.pass(knobs.per_token().saturating_mul(tokens)).await;
        drop(call.busy);
    });
    let _ = work.await;
    let message = match &completion.call {
        None => json!({"role": "assistant", "content": completion.tokens.concat()}),
        Some(call) => json!({"role": "assistant", "content": null, "tool_calls": [{
            "id": completion.call_id(),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }]}),
    };
    json_answer(
        StatusCode::OK,
        &json!({
            "id": completion.id,
            "object": "chat.completion",
            "created": completion.created,
            "model": completion.model,
            "choices": [{
                "index": 0,
                "message": message,
                "finish_reason": completion.finish_reason,
            }],
            "usage": completion.usage(),
        }),
    )
}

/// A stream on its way; dropped early when the client leaves.
struct Stream {
    completion: Completion,
    sent: usize,
    over: bool,
    worker: Arc<Worker>,
    _busy: Busy,
}

impl Stream {
    async fn next(&mut self) -> Option<Bytes> {
        let knobs = &self.worker.knobs;
        if knobs.crash_after_events == Some(self.sent) {
            self.worker.crash().await;
        }
        let Some(event) = self.completion.event(self.sent, knobs.dialect) else {
            self.over = true;
            return None;
        };
        let is_token = (1..=self.completion.pieces()).contains(&self.sent);
        let pause = knobs.per_token();
        if is_token && pause > Duration::ZERO {
            tokio::time::sleep(pause).await;
        }
        self.sent += 1;
        Some(Bytes::from(event))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let event = if self.over { "streamed" } else { "cancelled" };
        self.worker
            .record
            .event(event, &json!({"events": self.sent}));
    }
}

/// An event per token, then the reason for the end, then `[DONE]`.
pub(super) fn stream(call: ModelCall) -> Answer {
    let stream = Stream {
        completion: Completion::of(&call),
        sent: 0,
        over: false,
        worker: call.worker,
        _busy: call.busy,
    };
    let events = stream::unfold(stream, |mut stream| async {
        let event = stream.next().await?;
        Some((Ok(Frame::data(event)), stream))
    });
    let mut answer = Response::new(StreamBody::new(events).boxed_unsync());
    let kind = header::HeaderValue::from_static("text/event-stream; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
