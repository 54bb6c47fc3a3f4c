//! A whole answer as a response, and what a response repeats of its request.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::chat::{ChatAnswer, Part, Reason, Usage};
use super::kept::{Conversation, Keeping};

/// The part of the request that a response repeats, with the defaults of missing fields.
const REPEATED: [(&str, &str); 16] = [
    ("background", "false"),
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "1.0"),
    ("truncation", r#""disabled""#),
    ("user", "null"),
];

/// The repeated part, and what is kept of the whole.
#[derive(Debug)]
pub(in crate::hub::gateway) struct Echoed {
    fields: Map<String, Value>,
    keeping: Option<Keeping>,
}

impl Echoed {
    /// That of a request of which nothing is known.
    pub(super) fn nothing() -> Self {
        Self {
            fields: repeated(&Value::Null),
            keeping: None,
        }
    }

    pub(in super::super) fn of(request: &Value, conversation: Conversation) -> Self {
        Self {
            fields: repeated(request),
            keeping: conversation.into_keeping(),
        }
    }
}

fn repeated(request: &Value) -> Map<String, Value> {
    let fields = REPEATED.iter().map(|(key, absent)| {
        let value = request.get(*key).filter(|value| !value.is_null()).cloned();
        let absent = || serde_json::from_str(absent).expect("it is JSON");
        ((*key).to_owned(), value.unwrap_or_else(absent))
    });
    fields.collect()
}

/// The common part of all states of a response.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) id: String,
    created: u64,
    model: String,
    echoed: Echoed,
    is_kept: bool,
}

impl Frame {
    pub(super) fn new(model: String, echoed: Echoed, created: u64) -> Self {
        Self {
            id: format!("resp_{}", Uuid::new_v4().simple()),
            created,
            model,
            is_kept: echoed.keeping.is_some(),
            echoed,
        }
    }

    /// The response in one of its states.
    pub(super) fn response(&self, status: &str, output: &[Value]) -> Value {
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": null,
            "incomplete_details": null,
            "model": self.model,
            "output": output,
            "usage": null,
            "store": self.is_kept,
        });
        for (key, value) in &self.echoed.fields {
            response[key] = value.clone();
        }
        response
    }

    /// The response when all is said, which is kept if its client wants that.
    pub(super) fn ended(&mut self, output: &[Value], reason: Reason, usage: Usage) -> Value {
        let cut = match reason {
            Reason::Length => Some("max_output_tokens"),
            Reason::Filtered => Some("content_filter"),
            Reason::Stop | Reason::Calls => None,
        };
        let status = if cut.is_some() {
            "incomplete"
        } else {
            "completed"
        };
        let mut response = self.response(status, output);
        if let Some(reason) = cut {
            response["incomplete_details"] = json!({ "reason": reason });
        }
        response["usage"] = json!({
            "input_tokens": usage.prompt(),
            "input_tokens_details": {"cached_tokens": usage.cached()},
            "output_tokens": usage.completion(),
            "output_tokens_details": {"reasoning_tokens": usage.reasoning()},
            "total_tokens": usage.prompt() + usage.completion(),
        });
        if let Some(keeping) = self.echoed.keeping.take() {
            keeping.keep(&self.id, &response);
        }
        response
    }
}

/// The response for a worker's answer.
pub(in super::super) fn response(
    answer: &ChatAnswer,
    model: &str,
    echoed: Echoed,
    created: u64,
) -> Value {
    let mut frame = Frame::new(model.to_owned(), echoed, created);
    let parts = answer.parts.iter().enumerate();
    let output: Vec<Value> = parts
        .map(|(at, part)| {
            let is_last = at + 1 == answer.parts.len();
            item(&item_id(), part, is_last && answer.reason.cuts())
        })
        .collect();
    frame.ended(&output, answer.reason, answer.usage)
}

pub(super) fn item_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A part that is over; `is_cut` if the model had more to say.
pub(super) fn item(id: &str, part: &Part, is_cut: bool) -> Value {
    let status = if is_cut { "incomplete" } else { "completed" };
    match part {
        Part::Thinking(text) => json!({
            "id": format!("rs_{id}"),
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": text}],
            "status": status,
        }),
        Part::Text(text) => json!({
            "id": format!("msg_{id}"),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [text_part(text)],
        }),
        Part::Refusal(text) => json!({
            "id": format!("msg_{id}"),
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [refusal_part(text)],
        }),
        Part::Call {
            id: call,
            name,
            arguments,
        } => json!({
            "id": format!("fc_{id}"),
            "type": "function_call",
            "status": status,
            "call_id": call,
            "name": name,
            "arguments": arguments,
        }),
    }
}

pub(super) fn refusal_part(text: &str) -> Value {
    json!({"type": "refusal", "refusal": text})
}

pub(super) fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
