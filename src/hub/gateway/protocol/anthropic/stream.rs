//! A stream as the events of a message.

use serde::Serialize;
use serde_json::{Value, json};

use super::super::chat::{Head, PartKind, Reason, Usage, Writer};
use super::answer::{message_id, stop_reason, usage};
use super::errors::error_event;
use crate::api::ApiError;

/// Writes the events of one message.
#[derive(Debug)]
pub(in super::super) struct Events {
    /// The client's name for its model.
    model: String,
    /// Number of the block that is open, or comes next.
    index: usize,
    open: OpenBlock,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenBlock {
    Text,
    Thinking,
    Tool,
}

/// An event with a piece, by far the most frequent.
#[derive(Serialize)]
struct Piece<'a> {
    r#type: &'static str,
    index: usize,
    delta: Delta<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
}

impl Events {
    pub(in super::super) fn new(model: String) -> Self {
        Self {
            model,
            index: 0,
            open: OpenBlock::Text,
        }
    }

    fn delta(&self, delta: Delta<'_>, out: &mut Vec<u8>) {
        let piece = Piece {
            r#type: "content_block_delta",
            index: self.index,
            delta,
        };
        event("content_block_delta", &piece, out);
    }
}

/// Writes one event.
fn event(name: &str, data: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, data).expect("JSON is written to memory");
    out.extend_from_slice(b"\n\n");
}

impl Writer for Events {
    fn begin(&mut self, head: Head<'_>, out: &mut Vec<u8>) {
        let start = json!({
            "type": "message_start",
            "message": {
                "id": message_id(head.id),
                "type": "message",
                "role": "assistant",
                "model": self.model,
                "content": [],
                "stop_reason": null,
                "stop_sequence": null,
                "usage": usage(head.usage),
            },
        });
        event("message_start", &start, out);
    }

    fn open(&mut self, kind: PartKind<'_>, out: &mut Vec<u8>) {
        let (open, block) = match kind {
            PartKind::Text | PartKind::Refusal => {
                (OpenBlock::Text, json!({"type": "text", "text": ""}))
            }
            PartKind::Thinking => (
                OpenBlock::Thinking,
                json!({"type": "thinking", "thinking": "", "signature": ""}),
            ),
            PartKind::Tool { id, name } => (
                OpenBlock::Tool,
                json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
            ),
        };
        self.open = open;
        let start = json!({
            "type": "content_block_start",
            "index": self.index,
            "content_block": block,
        });
        event("content_block_start", &start, out);
    }

    fn piece(&mut self, text: &str, out: &mut Vec<u8>) {
        let delta = match self.open {
            OpenBlock::Text => Delta::Text { text },
            OpenBlock::Thinking => Delta::Thinking { thinking: text },
            OpenBlock::Tool => Delta::Input { partial_json: text },
        };
        self.delta(delta, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open == OpenBlock::Thinking {
            self.delta(Delta::Signature { signature: "" }, out);
        }
        let stop = json!({"type": "content_block_stop", "index": self.index});
        event("content_block_stop", &stop, out);
        self.index += 1;
    }

    fn finish(&mut self, reason: Reason, counted: Usage, out: &mut Vec<u8>) {
        let delta: Value = json!({
            "type": "message_delta",
            "delta": {"stop_reason": stop_reason(reason), "stop_sequence": null},
            "usage": usage(counted),
        });
        event("message_delta", &delta, out);
        event("message_stop", &json!({"type": "message_stop"}), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(&error_event(error));
    }
}
