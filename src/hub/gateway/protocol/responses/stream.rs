//! A stream as the events of a response.

use serde::Serialize;
use serde_json::{Value, json};

use super::super::chat::{Head, Part, PartKind, Reason, Usage, Writer};
use super::answer::{Echoed, Frame, item, item_id, text_part};
use crate::api::ApiError;

/// Writes the events of one response.
#[derive(Debug)]
pub(in super::super) struct Events {
    frame: Frame,
    /// Items that are complete.
    output: Vec<Value>,
    open: Option<OpenItem>,
    /// Every event has a number.
    sequence: u64,
}

/// The item that is open.
#[derive(Debug)]
struct OpenItem {
    id: String,
    part: Part,
}

impl OpenItem {
    /// With the prefix that tells what it is.
    fn item_id(&self) -> String {
        let prefix = match self.part {
            Part::Thinking(_) => "rs",
            Part::Text(_) => "msg",
            Part::Call { .. } => "fc",
        };
        format!("{prefix}_{}", self.id)
    }

    fn text(&mut self) -> &mut String {
        match &mut self.part {
            Part::Thinking(text) | Part::Text(text) => text,
            Part::Call { arguments, .. } => arguments,
        }
    }
}

/// An event with a piece, by far the most frequent.
#[derive(Serialize)]
struct Piece<'a> {
    r#type: &'static str,
    sequence_number: u64,
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    delta: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
}

impl Events {
    pub(in super::super) fn new(model: String, echoed: Echoed, created: u64) -> Self {
        Self {
            frame: Frame::new(model, echoed, created),
            output: Vec::new(),
            open: None,
            sequence: 0,
        }
    }

    /// Writes an event; its number and its type are added.
    fn event(&mut self, kind: &str, fields: &Value, out: &mut Vec<u8>) {
        let mut event = json!({"type": kind, "sequence_number": self.sequence});
        for (key, value) in fields.as_object().into_iter().flatten() {
            event[key] = value.clone();
        }
        self.sequence += 1;
        write(kind, &event, out);
    }
}

fn write(kind: &str, event: &impl Serialize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, event).expect("JSON is written to memory");
    out.extend_from_slice(b"\n\n");
}

/// The only event of a response that failed before its worker said anything.
pub(super) fn failed(error: &ApiError, created: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Events::new(String::new(), Echoed::nothing(), created).fail(error, &mut out);
    out
}

impl Writer for Events {
    fn begin(&mut self, _: Head<'_>, out: &mut Vec<u8>) {
        let begun = json!({"response": self.frame.response("in_progress", &[])});
        self.event("response.created", &begun, out);
        self.event("response.in_progress", &begun, out);
    }

    fn open(&mut self, kind: PartKind<'_>, out: &mut Vec<u8>) {
        let part = match kind {
            PartKind::Text => Part::Text(String::new()),
            PartKind::Thinking => Part::Thinking(String::new()),
            PartKind::Tool { id, name } => Part::Call {
                id: id.to_owned(),
                name: name.to_owned(),
                arguments: String::new(),
            },
        };
        let open = OpenItem {
            id: item_id(),
            part,
        };
        let index = self.output.len();
        let mut begun = item(&open.id, &open.part);
        begun["status"] = json!("in_progress");
        if let Some(content) = begun.get_mut("content") {
            *content = json!([]);
        }
        let added = json!({"output_index": index, "item": begun});
        self.event("response.output_item.added", &added, out);
        let part = match open.part {
            Part::Text(_) => Some(text_part("")),
            Part::Thinking(_) => Some(json!({"type": "reasoning_text", "text": ""})),
            Part::Call { .. } => None,
        };
        if let Some(part) = part {
            let added = json!({
                "item_id": open.item_id(), "output_index": index, "content_index": 0, "part": part,
            });
            self.event("response.content_part.added", &added, out);
        }
        self.open = Some(open);
    }

    fn piece(&mut self, text: &str, out: &mut Vec<u8>) {
        let Some(open) = &mut self.open else { return };
        open.text().push_str(text);
        let (kind, content_index) = match open.part {
            Part::Text(_) => ("response.output_text.delta", Some(0)),
            Part::Thinking(_) => ("response.reasoning_text.delta", Some(0)),
            Part::Call { .. } => ("response.function_call_arguments.delta", None),
        };
        let piece = Piece {
            r#type: kind,
            sequence_number: self.sequence,
            item_id: &open.item_id(),
            output_index: self.output.len(),
            content_index,
            delta: text,
            logprobs: matches!(open.part, Part::Text(_)).then_some([]),
        };
        self.sequence += 1;
        write(kind, &piece, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        let (id, index) = (open.item_id(), self.output.len());
        let item = item(&open.id, &open.part);
        let here = |mut fields: Value| {
            fields["item_id"] = json!(id);
            fields["output_index"] = json!(index);
            fields
        };
        match &open.part {
            Part::Text(text) => {
                let done = here(json!({"content_index": 0, "text": text, "logprobs": []}));
                self.event("response.output_text.done", &done, out);
            }
            Part::Thinking(text) => {
                let done = here(json!({"content_index": 0, "text": text}));
                self.event("response.reasoning_text.done", &done, out);
            }
            Part::Call {
                name, arguments, ..
            } => {
                let done = here(json!({"name": name, "arguments": arguments}));
                self.event("response.function_call_arguments.done", &done, out);
            }
        }
        if let Some(part) = item["content"].get(0) {
            let done = here(json!({"content_index": 0, "part": part}));
            self.event("response.content_part.done", &done, out);
        }
        let done = json!({"output_index": index, "item": item});
        self.event("response.output_item.done", &done, out);
        self.output.push(item);
    }

    fn finish(&mut self, reason: Reason, usage: Usage, out: &mut Vec<u8>) {
        let response = self.frame.ended(&self.output, reason, usage);
        let kind = match response["status"] == "completed" {
            true => "response.completed",
            false => "response.incomplete",
        };
        self.event(kind, &json!({ "response": response }), out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        let mut response = self.frame.response("failed", &self.output);
        let code = match error.status {
            429 => "rate_limit_exceeded",
            400..=499 => "invalid_prompt",
            _ => "server_error",
        };
        response["error"] = json!({"code": code, "message": error.message});
        self.event("response.failed", &json!({ "response": response }), out);
    }
}
