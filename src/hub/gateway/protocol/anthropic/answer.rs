//! A whole answer as a message.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::chat::{ChatAnswer, Part, Reason, Usage};

/// The message for a worker's answer; `model` is what the client calls its model.
pub(in super::super) fn message(answer: &ChatAnswer, model: &str) -> Value {
    let content: Vec<Value> = answer.parts.iter().map(block).collect();
    json!({
        "id": message_id(&answer.id),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason(answer.reason),
        "stop_sequence": null,
        "usage": usage(answer.usage),
    })
}

/// Anthropic's clients know a message by how its id begins.
pub(super) fn message_id(completion: &str) -> String {
    let id = completion.trim_start_matches("chatcmpl");
    match id.trim_start_matches(['-', '_']) {
        "" => format!("msg_{}", Uuid::new_v4().simple()),
        id => format!("msg_{id}"),
    }
}

fn block(part: &Part) -> Value {
    match part {
        Part::Thinking(thinking) => {
            json!({"type": "thinking", "thinking": thinking, "signature": ""})
        }
        Part::Text(text) | Part::Refusal(text) => json!({"type": "text", "text": text}),
        Part::Call {
            id,
            name,
            arguments,
        } => json!({"type": "tool_use", "id": id, "name": name, "input": input(arguments)}),
    }
}

/// The arguments of a call. Clients take no less than an object: of one that the model has not written
/// well the text is told.
fn input(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(Value::Object(fields)) => Value::Object(fields),
        _ if arguments.trim().is_empty() => Value::Object(Map::new()),
        _ => json!({ "arguments": arguments }),
    }
}

pub(super) fn stop_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop => "end_turn",
        Reason::Length => "max_tokens",
        Reason::Calls => "tool_use",
        Reason::Filtered => "refusal",
    }
}

/// Tokens that came from the worker's cache are not counted as input again.
pub(super) fn usage(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.prompt() - usage.cached(),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached(),
        "output_tokens": usage.completion(),
    })
}
