//! A stream as the events of a response.

use serde::Serialize;
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

    /// The fields of an event about it, which is the item of that index.
    fn said(&self, output_index: usize) -> Said<'_> {
        Said {
            item_id: &self.item_id,
            output_index,
            ..Said::default()
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
        let failed = OfResponse {
            response: &response,
        };
        self.event("response.failed", &failed, out);
    }

    /// Writes an event with these fields, which are a JSON object; its type and its number come before them. The last
    /// ones have the whole text, which is not copied.
    fn event(&mut self, kind: &str, fields: &impl Serialize, out: &mut Vec<u8>) {
        for part in [
            "event: ",
            kind,
            "\ndata: {\"type\":\"",
            kind,
            "\",\"sequence_number\":",
        ] {
            out.extend_from_slice(part.as_bytes());
        }
        self.number(out);
        let at = out.len();
        serde_json::to_writer(&mut *out, fields).expect(IN_MEMORY);
        // They go on with the object that has begun.
        out[at] = b',';
        out.extend_from_slice(b"\n\n");
    }

    /// Writes the number of the next event.
    fn number(&mut self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, &self.sequence).expect(IN_MEMORY);
        self.sequence += 1;
    }
}

/// The fields of an event about a response.
#[derive(Serialize)]
struct OfResponse<'a> {
    response: &'a Value,
}

/// The fields of an event about an item.
#[derive(Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: &'a Value,
}

/// The fields of an event about what an item has said: all of it, or the part that has it.
#[derive(Default, Serialize)]
struct Said<'a> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<[(); 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'a Value>,
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
        let response = &self.frame.response("in_progress", &[]);
        self.event("response.created", &OfResponse { response }, out);
        self.event("response.in_progress", &OfResponse { response }, out);
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
        let added = OfItem {
            output_index: index,
            item: &begun,
        };
        self.event("response.output_item.added", &added, out);
        let part = match open.part {
            Part::Text(_) => Some(text_part("")),
            Part::Refusal(_) => Some(refusal_part("")),
            Part::Thinking(_) => Some(json!({"type": "reasoning_text", "text": ""})),
            Part::Call { .. } => None,
        };
        if let Some(part) = &part {
            let added = Said {
                content_index: Some(0),
                part: Some(part),
                ..open.said(index)
            };
            self.event("response.content_part.added", &added, out);
        }
        self.open = Some(open);
    }

    fn piece(&mut self, text: &str, out: &mut Vec<u8>) {
        let Some(open) = &mut self.open else { return };
        open.text().push_str(text);
        out.extend_from_slice(open.head.as_bytes());
        self.number(out);
        out.extend_from_slice(b",\"delta\":");
        serde_json::to_writer(&mut *out, text).expect(IN_MEMORY);
        out.extend_from_slice(b"}\n\n");
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else { return };
        let index = self.output.len();
        let item = item(&open.id, &open.part, self.is_cut);
        let here = open.said(index);
        let (kind, done) = match &open.part {
            Part::Text(text) => (
                "response.output_text.done",
                Said {
                    content_index: Some(0),
                    text: Some(text),
                    logprobs: Some([]),
                    ..here
                },
            ),
            Part::Refusal(text) => (
                "response.refusal.done",
                Said {
                    content_index: Some(0),
                    refusal: Some(text),
                    ..here
                },
            ),
            Part::Thinking(text) => (
                "response.reasoning_text.done",
                Said {
                    content_index: Some(0),
                    text: Some(text),
                    ..here
                },
            ),
            Part::Call {
                name, arguments, ..
            } => (
                "response.function_call_arguments.done",
                Said {
                    name: Some(name),
                    arguments: Some(arguments),
                    ..here
                },
            ),
        };
        self.event(kind, &done, out);
        if let Some(part) = item["content"].get(0) {
            let done = Said {
                content_index: Some(0),
                part: Some(part),
                ..open.said(index)
            };
            self.event("response.content_part.done", &done, out);
        }
        let done = OfItem {
            output_index: index,
            item: &item,
        };
        self.event("response.output_item.done", &done, out);
        self.output.push(item);
    }

    fn finish(&mut self, reason: Reason, usage: Usage, out: &mut Vec<u8>) {
        let response = self.frame.ended(&self.output, reason, usage);
        let kind = match response["status"] == "completed" {
            true => "response.completed",
            false => "response.incomplete",
        };
        let ended = OfResponse {
            response: &response,
        };
        self.event(kind, &ended, out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        // OpenAI's own client takes nothing before it.
        if self.sequence == 0 {
            let response = &self.frame.response("in_progress", &[]);
            self.event("response.created", &OfResponse { response }, out);
        }
        self.failed(error, out);
    }

    fn is_cut(&mut self) {
        self.is_cut = true;
    }
}
