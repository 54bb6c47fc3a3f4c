//! The one form that all protocols are translated into: OpenAI's chat completion.
//!
//! An adapter builds a [`Request`] out of what its client sent. Of the answer it is told by the parts,
//! in order, through [`Writer`], or by a whole [`ChatAnswer`]. Nothing here knows which protocols there are.

use serde::Serialize;
use serde_json::{Value, json};

mod answer;
mod chunk;
mod estimate;
mod parts;
mod sse;
mod stream;
#[cfg(test)]
mod tests;
mod tokens;

pub(in crate::hub::gateway) use answer::workers_error;
pub(super) use answer::{ChatAnswer, Part, Reason, of_translated, of_worker};
pub(super) use chunk::Usage;
pub(super) use parts::PartKind;
pub(super) use stream::{Head, Stream, Translate, Writer};
pub(super) use tokens::Tokens;

/// The name of a schema that its client has not named.
const UNNAMED_SCHEMA: &str = "answer";

/// A chat completion's request. `model` comes first, so that it is found in the first bytes.
#[derive(Debug, Default, Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_format: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<&'a Value>,
    #[serde(flatten)]
    pub(super) sampling: Sampling<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) stop: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) chat_template_kwargs: Option<Template>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    pub(super) stream: bool,
    /// Without it some workers say nothing of usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream_options: Option<StreamOptions>,
}

/// The sampling parameters: numbers, as the client wrote them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Sampling<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_k: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) min_p: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) presence_penalty: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frequency_penalty: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repetition_penalty: Option<&'a Value>,
}

/// The arguments of the model's chat template.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Template {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enable_thinking: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_effort: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(super) struct StreamOptions {
    include_usage: bool,
}

/// One message.
#[derive(Debug, Default, Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    pub(super) content: Content,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reasoning_content: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_call_id: Option<&'a str>,
}

/// The content of a message. A chat template can do more with a plain string, so there is a list only
/// where there is more than text.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    #[default]
    None,
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentPart {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct ImageUrl {
    pub(super) url: String,
}

/// A call that the assistant has made.
#[derive(Debug, Serialize)]
pub(super) struct ToolCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: FunctionCall<'a>,
}

#[derive(Debug, Serialize)]
struct FunctionCall<'a> {
    name: &'a str,
    arguments: String,
}

/// A function that the model may call.
#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<&'a Value>,
}

impl Request<'_> {
    /// The choice of the tool of that name, or of any where that one was left out.
    pub(super) fn choice_of(&self, name: &str) -> Value {
        match self.tools.iter().any(|tool| tool.function.name == name) {
            true => json!({"type": "function", "function": {"name": name}}),
            false => Value::from("auto"),
        }
    }

    /// Sets whether the answer is a stream, with its usage at the end.
    pub(super) fn streams(&mut self, stream: bool) {
        self.stream = stream;
        self.stream_options = stream.then_some(StreamOptions {
            include_usage: true,
        });
    }

    /// Its bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and JSON become JSON")
    }
}

impl<'a> Message<'a> {
    pub(super) fn new(role: &'static str, content: Content) -> Self {
        Self {
            role,
            content,
            ..Self::default()
        }
    }

    /// A tool's answer to the call of that id.
    pub(super) fn of_tool(call: &'a str, text: String) -> Self {
        Self {
            tool_call_id: Some(call),
            ..Self::new("tool", Content::Text(text))
        }
    }
}

impl Content {
    /// Text that belongs to the same message, or an image.
    pub(super) fn push(&mut self, part: ContentPart) {
        *self = match (std::mem::take(self), part) {
            (Self::None, ContentPart::Text { text }) => Self::Text(text),
            (Self::Text(mut before), ContentPart::Text { text }) => {
                join(&mut before, &text);
                Self::Text(before)
            }
            (Self::None, part) => Self::Parts(vec![part]),
            (Self::Text(text), part) => Self::Parts(vec![ContentPart::Text { text }, part]),
            (Self::Parts(mut parts), part) => {
                parts.push(part);
                Self::Parts(parts)
            }
        };
    }

    pub(super) fn push_text(&mut self, text: &str) {
        let text = text.to_owned();
        self.push(ContentPart::Text { text });
    }

    pub(super) fn push_image(&mut self, url: String) {
        let image_url = ImageUrl { url };
        self.push(ContentPart::ImageUrl { image_url });
    }
}

impl<'a> ToolCall<'a> {
    /// `arguments` are JSON.
    pub(super) fn new(id: &'a str, name: &'a str, arguments: String) -> Self {
        Self {
            id,
            r#type: "function",
            function: FunctionCall { name, arguments },
        }
    }
}

impl<'a> Tool<'a> {
    pub(super) fn new(
        name: &'a str,
        description: Option<&'a str>,
        parameters: Option<&'a Value>,
    ) -> Self {
        Self {
            r#type: "function",
            function: Function {
                name,
                description,
                parameters,
            },
        }
    }
}

/// Adds a paragraph.
pub(super) fn join(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

/// `response_format` for an answer of that JSON schema.
pub(super) fn schema_format(name: Option<&str>, schema: &Value, strict: bool) -> Value {
    let name = name.unwrap_or(UNNAMED_SCHEMA);
    json!({
        "type": "json_schema",
        "json_schema": {"name": name, "schema": schema, "strict": strict},
    })
}

/// The effort that chat templates know for what a client calls it.
pub(super) fn effort(word: &str) -> Option<&'static str> {
    match word {
        "minimal" | "low" => Some("low"),
        "medium" => Some("medium"),
        "high" | "xhigh" | "max" => Some("high"),
        _ => None,
    }
}
