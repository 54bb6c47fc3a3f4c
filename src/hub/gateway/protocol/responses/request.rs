//! A request of the Responses API as a chat completion.
//!
//! Tools that no worker has (web search, namespaces, file search) are left out, and so are items that only
//! OpenAI's servers understand; the log says which.

use serde_json::Value;

use super::super::chat::{
    Content, Message, Request, Sampling, Template, Tool, ToolCall, effort, join, schema_format,
};
use super::super::fields::{Field, TextOrList, invalid};
use crate::api::ApiError;

/// The chat completion for the JSON of a request, which continues a conversation of the items `before`.
///
/// # Errors
/// 400 when a field is not what it has to be.
pub(in super::super) fn to_chat(body: &Value, before: &[Value]) -> Result<Vec<u8>, ApiError> {
    let body = Field::root(body);
    body.object()?;
    if let Some(conversation) = body.get("conversation") {
        return Err(invalid(
            &conversation,
            "cannot be used: this hub has no conversations. Continue from a response by \
             `previous_response_id`, or send the whole conversation as `input`",
        ));
    }
    let model = body.get("model");
    let mut request = Request {
        model: model.map_or(Ok(""), |model| model.string())?,
        ..Request::default()
    };
    if let Some(most) = body.get("max_output_tokens") {
        request.max_tokens = Some(most.whole(1)?);
    }
    let number = |key| body.get(key).map(|field| field.number()).transpose();
    request.sampling = Sampling {
        temperature: number("temperature")?,
        top_p: number("top_p")?,
        ..Sampling::default()
    };
    let mut input = Input::default();
    if let Some(instructions) = body.get("instructions") {
        join(&mut input.system, instructions.string()?);
    }
    for item in before {
        input.add(&Field::root(item))?;
    }
    let said = body.must("input")?;
    match said.text_or_list("items")? {
        TextOrList::Text(text) => input.say("user", text),
        TextOrList::List(items) => {
            for item in items {
                input.add(&item)?;
            }
        }
    }
    request.messages = input.into_messages();
    if let Some(tools) = body.get("tools") {
        for tool in tools.items()? {
            request.tools.extend(function(&tool)?);
        }
    }
    if !request.tools.is_empty() {
        request.tool_choice = Some(choice(&body, &request)?);
        if let Some(parallel) = body.get("parallel_tool_calls") {
            request.parallel_tool_calls = Some(parallel.boolean()?);
        }
    }
    if let Some(text) = body.get("text")
        && let Some(format) = text.get("format")
    {
        request.response_format = response_format(&format)?;
    }
    if let Some(reasoning) = body.get("reasoning")
        && let Some(word) = reasoning.get("effort")
    {
        let word = word.string()?;
        let template = Template {
            enable_thinking: (word == "none").then_some(false),
            reasoning_effort: effort(word),
        };
        request.chat_template_kwargs = Some(template).filter(|it| *it != Template::default());
    }
    if let Some(user) = body.get("user") {
        request.user = Some(user.string()?);
    }
    let stream = body
        .get("stream")
        .map_or(Ok(false), |stream| stream.boolean())?;
    request.streams(stream);
    Ok(request.to_bytes())
}

/// The messages, as far as they have been read.
#[derive(Default)]
struct Input<'a> {
    system: String,
    messages: Vec<Message<'a>>,
    /// Reasoning that belongs to the message or the call that follows.
    reasoning: String,
    /// Images of tool results. The results have to follow their calls at once: the images come behind the last.
    images: Content,
}

impl<'a> Input<'a> {
    fn say(&mut self, role: &'static str, text: &str) {
        self.show_images();
        let mut message = Message::new(role, Content::None);
        message.content.push_text(text);
        self.messages.push(message);
    }

    /// Says the images that were held back, before anything but a tool's result is said.
    fn show_images(&mut self) {
        let images = std::mem::take(&mut self.images);
        if images != Content::None {
            self.messages.push(Message::new("user", images));
        }
    }

    fn into_messages(mut self) -> Vec<Message<'a>> {
        self.show_images();
        if !self.system.is_empty() {
            let mut first = Message::new("system", Content::None);
            first.content.push_text(&self.system);
            self.messages.insert(0, first);
        }
        self.messages
    }

    fn add(&mut self, item: &Field<'_, 'a>) -> Result<(), ApiError> {
        // A message may leave out what it is.
        let kind = match item.get("type") {
            Some(kind) => kind.string()?,
            None => "message",
        };
        match kind {
            "message" => self.add_message(item),
            "function_call" => {
                let call = ToolCall::new(
                    item.must("call_id")?.string()?,
                    item.must("name")?.string()?,
                    item.must("arguments")?.string()?.to_owned(),
                );
                self.assistant().tool_calls.push(call);
                Ok(())
            }
            "function_call_output" => {
                let call = item.must("call_id")?.string()?;
                let output = item.must("output")?;
                let text = match output.as_str() {
                    Some(text) => text.to_owned(),
                    None => {
                        let mut text = String::new();
                        for part in output.items()? {
                            match text_of(&part)? {
                                Some(more) => join(&mut text, more),
                                None => add_part(&mut self.images, &part)?,
                            }
                        }
                        text
                    }
                };
                self.messages.push(Message::of_tool(call, text));
                Ok(())
            }
            "reasoning" => {
                for key in ["content", "summary"] {
                    if let Some(parts) = item.get(key) {
                        for part in parts.items()? {
                            join(&mut self.reasoning, part.must("text")?.string()?);
                        }
                        // Both say the same, the summary in fewer words.
                        if !self.reasoning.is_empty() {
                            break;
                        }
                    }
                }
                Ok(())
            }
            other => {
                tracing::info!(
                    item = other,
                    "an item that no worker understands is left out of a request"
                );
                Ok(())
            }
        }
    }

    fn add_message(&mut self, item: &Field<'_, 'a>) -> Result<(), ApiError> {
        let role = item.must("role")?;
        let content = item.must("content")?;
        match role.string()? {
            // Many chat templates know a system message at the beginning only.
            "system" | "developer" => match content.as_str() {
                Some(text) => join(&mut self.system, text),
                None => {
                    for part in content.items()? {
                        let text = text_of(&part)?;
                        let kind = || part.get("type").unwrap_or(part).is_no("`input_text`");
                        join(&mut self.system, text.ok_or_else(kind)?);
                    }
                }
            },
            "user" => {
                self.show_images();
                let mut message = Message::new("user", Content::None);
                add_content(&mut message.content, &content)?;
                self.messages.push(message);
            }
            "assistant" => {
                let message = self.assistant();
                add_content(&mut message.content, &content)?;
            }
            _ => return Err(role.is_no("`user`, `assistant`, `system` or `developer`")),
        }
        Ok(())
    }

    /// The assistant's turn that is going on: what it thinks, says and calls is one message.
    fn assistant(&mut self) -> &mut Message<'a> {
        self.show_images();
        let goes_on = self
            .messages
            .last()
            .is_some_and(|last| last.role == "assistant");
        if !goes_on {
            self.messages.push(Message::new("assistant", Content::None));
        }
        let reasoning = std::mem::take(&mut self.reasoning);
        let last = self.messages.last_mut().expect("one was pushed");
        join(&mut last.reasoning_content, &reasoning);
        last
    }
}

fn add_content(said: &mut Content, content: &Field<'_, '_>) -> Result<(), ApiError> {
    match content.text_or_list("parts")? {
        TextOrList::Text(text) => said.push_text(text),
        TextOrList::List(parts) => {
            for part in parts {
                add_part(said, &part)?;
            }
        }
    }
    Ok(())
}

/// The text of a part, if it is one of text.
fn text_of<'a>(part: &Field<'_, 'a>) -> Result<Option<&'a str>, ApiError> {
    match part.must("type")?.string()? {
        "input_text" | "output_text" | "text" => Ok(Some(part.must("text")?.string()?)),
        "refusal" => Ok(Some(part.must("refusal")?.string()?)),
        _ => Ok(None),
    }
}

fn add_part(said: &mut Content, part: &Field<'_, '_>) -> Result<(), ApiError> {
    if let Some(text) = text_of(part)? {
        said.push_text(text);
        return Ok(());
    }
    match part.must("type")?.string()? {
        "input_image" => match part.get("image_url") {
            Some(url) => said.push_image(url.string()?.to_owned()),
            None => {
                return Err(invalid(
                    part,
                    "needs an `image_url`: this hub keeps no files",
                ));
            }
        },
        "input_file" => {
            let name = part.get("filename").and_then(|name| name.as_str());
            let name = name.unwrap_or("a file");
            said.push_text(&format!(
                "[{name} is attached here, which this model cannot read: it reads text and images]"
            ));
        }
        other => tracing::info!(
            part = other,
            "a part that no worker understands is left out of a request"
        ),
    }
    Ok(())
}

/// A function; `None` for a tool that a worker does not have.
fn function<'a>(tool: &Field<'_, 'a>) -> Result<Option<Tool<'a>>, ApiError> {
    let kind = tool.must("type")?.string()?;
    if kind != "function" {
        let name = tool.get("name").and_then(|name| name.as_str());
        tracing::info!(
            kind,
            name,
            "a tool that no worker has is left out of a request"
        );
        return Ok(None);
    }
    let description = tool
        .get("description")
        .map(|text| text.string())
        .transpose()?;
    let parameters = tool.get("parameters").map(|it| it.object()).transpose()?;
    Ok(Some(Tool::new(
        tool.must("name")?.string()?,
        description,
        parameters,
    )))
}

/// The tool that the model has to call, if it has to. A worker may take silence for `none`.
fn choice(body: &Field<'_, '_>, request: &Request<'_>) -> Result<Value, ApiError> {
    let Some(choice) = body.get("tool_choice") else {
        return Ok(Value::from("auto"));
    };
    if let Some(word) = choice.as_str() {
        return match word {
            "auto" | "none" | "required" => Ok(Value::from(word)),
            _ => Err(choice.is_no("`auto`, `none`, `required` or a tool")),
        };
    }
    match choice.must("type")?.string()? {
        "function" => Ok(request.choice_of(choice.must("name")?.string()?)),
        _ => Ok(Value::from("auto")),
    }
}

fn response_format(format: &Field<'_, '_>) -> Result<Option<Value>, ApiError> {
    let kind = format.must("type")?;
    match kind.string()? {
        "json_schema" => {
            let name = format.get("name").and_then(|name| name.as_str());
            let strict = format
                .get("strict")
                .map_or(Ok(true), |strict| strict.boolean())?;
            Ok(Some(schema_format(
                name,
                format.must("schema")?.object()?,
                strict,
            )))
        }
        "json_object" => Ok(Some(serde_json::json!({"type": "json_object"}))),
        "text" => Ok(None),
        _ => Err(kind.is_no("`json_schema`, `json_object` or `text`")),
    }
}
