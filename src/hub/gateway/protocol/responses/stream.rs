//! A stream as the events of a response.

use std::io::Write as _;

use serde_json::{Value, json};

use super::super::chat::{Head, Part, PartKind, Reason, Usage, Writer};
use super::answer::{Echoed, Frame, item, item_id, refusal_part, text_part};
use crate::api::ApiError;

/// Writes the events of one response.
#[derive(Debug)]
pub(in super::super) struct Events {
    frame: Frame,
    /// Items that are complete.
    output: Vec<Value>,
    open: Option<OpenItem>,
    is_cut: bool,
    /// Every event has a number.
    sequence: u64,
}

/// The item that is open.
#[derive(Debug)]
struct OpenItem {
    id: String,
    /// The same with the prefix that tells what it is.
    item_id: String,
    part: Part,
    /// An event with a piece as far as all of the item's are the same: up to its number.
    head: String,
}

impl OpenItem {
    fn new(part: Part, output_index: usize) -> Self {
        let (prefix, kind) = match part {
            Part::Thinking(_) => ("rs", "response.reasoning_text.delta"),
            Part::Text(_) => ("msg", "response.output_text.delta"),
            Part::Refusal(_) => ("msg", "response.refusal.delta"),
            Part::Call { .. } => ("fc", "response.function_call_arguments.delta"),
        };
        let id = item_id();
        let item_id = format!("{prefix}_{id}");
        let place = match part {
            Part::Thinking(_) | Part::Refusal(_) => r#","content_index":0"#,
            Part::Text(_) => r#","content_index":0,"logprobs":[]"#,
            Part::Call { .. } => "",
        };
        let head = format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"item_id\":\"{item_id}\",\"output_index\":{output_index}{place},\
             \"sequence_number\":"
        );
        Self {
            id,
            item_id,
            part,
            head,
        }
    }

    fn text(&mut self) -> &mut String {
        match &mut self.part {
            Part::Thinking(text) | Part::Text(text) | Part::Refusal(text) => text,
            Part::Call { arguments, .. } => arguments,
        }
    }
}

impl Events {
    pub(in super::super) fn new(model: String, echoed: Echoed, created: u64) -> Self {
        Self {
            frame: Frame::new(model, echoed, created),
            output: Vec::new(),
            open: None,
            is_cut: false,
            sequence: 0,
        }
    }

    /// Writes the event of a failure.
    fn failed(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        let mut response = self.frame.response("failed", &self.output);
        let code = match error.status {
            429 => "rate_limit_exceeded",
            400..=499 => "invalid_prompt",
            _ => "server_error",
        };
        response["error"] = json!({"code": code, "message": error.message});
        self.event("response.failed", json!({ "response": response }), out);
    }

    /// Writes an event; its number and its type are added. The last ones have the whole text, which is not copied.
    fn event(&mut self, kind: &str, fields: Value, out: &mut Vec<u8>) {
        let mut event = json!({"type": kind, "sequence_number": self.sequence});
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        self.sequence += 1;
        write!(out, "event: {kind}\ndata: {event}\n\n").expect(IN_MEMORY);
    }
}

const IN_MEMORY: &str = "it is written to memory";

/// The end of a response that its worker has begun to write itself.
pub(super) fn failed(error: &ApiError, created: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Events::new(String::new(), Echoed::nothing(), created).failed(error, &mut out);
    out
}

/// All of a response that failed before its worker said anything.
pub(super) fn failed_at_once(error: &ApiError, created: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Events::new(String::new(), Echoed::nothing(), created).fail(error, &mut out);
    out
}

impl Writer for Events {
    fn begin(&mut self, _: Head<'_>, out: &mut Vec<u8>) {
        let begun = json!({"response": self.frame.response("in_progress", &[])});
        self.event("response.created", begun.clone(), out);
        self.event("response.in_progress", begun, out);
    }

    fn open(&mut self, kind: PartKind<'_>, out: &mut Vec<u8>) {
        let part = match kind {
            PartKind::Text => Part::Text(String::new()),
            PartKind::Thinking => Part::Thinking(String::new()),
            PartKind::Refusal => Part::Refusal(String::new()),
            PartKind::Tool { id, name } => Part::Call {
                id: id.to_owned(),
                name: name.to_owned(),
                arguments: String::new(),
            },
        };
        let index = self.output.len();
        let open = OpenItem::new(part, index);
        let mut begun = item(&open.id, &open.part, false);
        begun["status"] = json!("in_progress");
        if let Some(content) = begun.get_mut("content") {
            *content = json!([]);
        }
        let added = json!({"output_index": index, "item": begun});
        self.event("response.output_item.added", added, out);
        let part = match open.part {
            Part::Text(_) => Some(text_part("")),
            Part::Refusal(_) => Some(refusal_part("")),
            Part::Thinking(_) => Some(json!({"type": "reasoning_text", "text": ""})),
            Part::Call { .. } => None,
        };
        if let Some(part) = part {
            let added = json!({
                "item_id": open.item_id, "output_index": index, "content_index": 0, "part": part,
            });
            self.event("response.content_part.added", added, out);
        }
        self.open = Some(open);
    }

    fn piece(&mut self, text: &str, out: &mut Vec<u8>) {
        let Some(open) = &mut self.open else { return };
        open.text().push_str(text);
        out.extend_from_slice(open.head.as_bytes());
        write!(out, "{}", self.sequence).expect(IN_MEMORY);
        out.extend_from_slice(b",\"delta\":");
        serde_json::to_writer(&mut *out, text).expect(IN_MEMORY);
        out.extend_from_slice(b"}\n\n");
        self.sequence += 1;
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        let (id, index) = (&open.item_id, self.output.len());
        let item = item(&open.id, &open.part, self.is_cut);
        let here = |mut fields: Value| {
            fields["item_id"] = json!(id);
            fields["output_index"] = json!(index);
            fields
        };
        match &open.part {
            Part::Text(text) => {
                let done = here(json!({"content_index": 0, "text": text, "logprobs": []}));
                self.event("response.output_text.done", done, out);
            }
            Part::Refusal(text) => {
                let done = here(json!({"content_index": 0, "refusal": text}));
                self.event("response.refusal.done", done, out);
            }
            Part::Thinking(text) => {
                let done = here(json!({"content_index": 0, "text": text}));
                self.event("response.reasoning_text.done", done, out);
            }
            Part::Call {
                name, arguments, ..
            } => {
                let done = here(json!({"name": name, "arguments": arguments}));
                self.event("response.function_call_arguments.done", done, out);
            }
        }
        if let Some(part) = item["content"].get(0) {
            let done = here(json!({"content_index": 0, "part": part}));
            self.event("response.content_part.done", done, out);
        }
        let done = json!({"output_index": index, "item": item});
        self.event("response.output_item.done", done, out);
        self.output.push(item);
    }

    fn finish(&mut self, reason: Reason, usage: Usage, out: &mut Vec<u8>) {
        let response = self.frame.ended(&self.output, reason, usage);
        let kind = match response["status"] == "completed" {
            true => "response.completed",
            false => "response.incomplete",
        };
        self.event(kind, json!({ "response": response }), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        // OpenAI's own client takes nothing before it.
        if self.sequence == 0 {
            let begun = json!({"response": self.frame.response("in_progress", &[])});
            self.event("response.created", begun, out);
        }
        self.failed(error, out);
    }

    fn is_cut(&mut self) {
        self.is_cut = true;
    }
}
