//! A request of the Messages API as a chat completion.
//!
//! Features that no worker has are left out: server tools, cache marks, context management. Unknown fields are
//! ignored, known ones must be valid.

use serde_json::Value;

use super::super::chat::{
    Content, Message, Request, Sampling, Template, ToolCall, effort, join, schema_format,
};
use super::super::fields::{Field, TextOrList, invalid};
use super::tools;
use crate::api::ApiError;

/// Claude Code begins its system prompt with a line that is another one in every session. It would make
/// every prompt a new one for a worker's cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// Prefix of the answer of a failed tool.
const FAILED: &str = "Error: ";

/// The chat completion for the JSON of a request.
///
/// # Errors
/// 400 when a field is not what it has to be.
pub(in super::super) fn to_chat(body: &Value) -> Result<Vec<u8>, ApiError> {
    let body = Field::root(body);
    body.object()?;
    let model = body.get("model");
    let mut request = Request {
        model: model.map_or(Ok(""), |model| model.string())?,
        max_tokens: whole(&body, "max_tokens", 1)?,
        sampling: Sampling {
            temperature: number(&body, "temperature")?,
            top_p: number(&body, "top_p")?,
            top_k: whole(&body, "top_k", 0)?,
            ..Sampling::default()
        },
        ..Request::default()
    };
    let mut system = String::new();
    if let Some(field) = body.get("system") {
        add_system(&mut system, &field)?;
    }
    for message in body.must("messages")?.items()? {
        add_message(&mut request.messages, &mut system, &message)?;
    }
    if !system.is_empty() {
        let mut content = Content::None;
        content.push_text(&system);
        request.messages.insert(0, Message::new("system", content));
    }
    if let Some(tools) = body.get("tools") {
        for tool in tools.items()? {
            request.tools.extend(tools::function(&tool)?);
        }
    }
    // Workers refuse a choice among no tools, which is not the client's error.
    if !request.tools.is_empty() {
        choose(&mut request, &body)?;
    }
    if let Some(sequences) = body.get("stop_sequences") {
        for sequence in sequences.items()? {
            request.stop.push(sequence.string()?);
        }
    }
    let mut template = Template::default();
    if let Some(thinking) = body.get("thinking")
        && thinking.must("type")?.string()? == "disabled"
    {
        template.enable_thinking = Some(false);
    }
    if let Some(config) = body.get("output_config") {
        if let Some(word) = config.get("effort") {
            template.reasoning_effort = effort(word.string()?);
        }
        if let Some(format) = config.get("format") {
            request.response_format = response_format(&format)?;
        }
    }
    // The name it had before.
    if let Some(format) = body.get("output_format") {
        request.response_format = response_format(&format)?;
    }
    request.chat_template_kwargs = Some(template).filter(|it| *it != Template::default());
    let stream = body
        .get("stream")
        .map_or(Ok(false), |stream| stream.boolean())?;
    request.streams(stream);
    Ok(request.to_bytes())
}

fn whole<'v>(
    body: &Field<'_, 'v>,
    key: &'v str,
    least: i64,
) -> Result<Option<&'v Value>, ApiError> {
    body.get(key).map(|field| field.whole(least)).transpose()
}

fn number<'v>(body: &Field<'_, 'v>, key: &'v str) -> Result<Option<&'v Value>, ApiError> {
    body.get(key).map(|field| field.number()).transpose()
}

/// Adds text of the system's: a string, or blocks of text.
fn add_system(system: &mut String, field: &Field<'_, '_>) -> Result<(), ApiError> {
    let blocks = match field.text_or_list("blocks of text")? {
        TextOrList::Text(text) => {
            join(system, without_billing(text));
            return Ok(());
        }
        TextOrList::List(blocks) => blocks,
    };
    for block in blocks {
        match block.must("type")?.string()? {
            "text" => join(system, without_billing(block.must("text")?.string()?)),
            _ => return Err(block.must("type")?.is_no("`text`")),
        }
    }
    Ok(())
}

/// A text without the client's billing line, if it begins with it.
fn without_billing(text: &str) -> &str {
    if !text.starts_with(BILLING) {
        return text;
    }
    let line = text.find('\n').unwrap_or(text.len());
    text[line..].trim_start_matches(['\r', '\n'])
}

fn add_message<'a>(
    messages: &mut Vec<Message<'a>>,
    system: &mut String,
    message: &Field<'_, 'a>,
) -> Result<(), ApiError> {
    let role = message.must("role")?;
    match role.string()? {
        "user" => add_user(messages, &message.must("content")?),
        "assistant" => add_assistant(messages, &message.must("content")?),
        // Many chat templates know a system message at the beginning only.
        "system" => add_system(system, &message.must("content")?),
        _ => Err(role.is_no("`user`, `assistant` or `system`")),
    }
}

fn add_user<'a>(messages: &mut Vec<Message<'a>>, content: &Field<'_, 'a>) -> Result<(), ApiError> {
    let mut said = Message::new("user", Content::None);
    let blocks = match content.text_or_list("blocks")? {
        TextOrList::Text(text) => {
            said.content.push_text(text);
            messages.push(said);
            return Ok(());
        }
        TextOrList::List(blocks) => blocks,
    };
    for block in blocks {
        match block.must("type")?.string()? {
            "tool_result" => {
                let call = block.must("tool_use_id")?.string()?;
                let result = tool_result(&block, &mut said)?;
                messages.push(Message::of_tool(call, result));
            }
            _ => add_block(&mut said, &block)?,
        }
    }
    // The results have to follow their calls at once: what else there is comes behind them.
    if said.content != Content::None {
        messages.push(said);
    }
    Ok(())
}

/// Text, an image, or a note of what cannot be passed on.
fn add_block(said: &mut Message<'_>, block: &Field<'_, '_>) -> Result<(), ApiError> {
    match block.must("type")?.string()? {
        "text" => said.content.push_text(block.must("text")?.string()?),
        "image" => said.content.push_image(image(&block.must("source")?)?),
        "document" => said.content.push_text(&document(block)?),
        "search_result" => {
            let content = block.must("content")?;
            for part in content.items()? {
                add_block(said, &part)?;
            }
        }
        // Of a tool that the client's usual server runs: nothing that this model could read.
        other => tracing::debug!(block = other, "a block of a message is left out"),
    }
    Ok(())
}

/// The text of a tool's result; its images go into the message that follows, as chat completions have
/// room for them only there.
fn tool_result(block: &Field<'_, '_>, said: &mut Message<'_>) -> Result<String, ApiError> {
    let mut text = String::new();
    if let Some(content) = block.get("content") {
        match content.text_or_list("blocks")? {
            TextOrList::Text(whole) => text.push_str(whole),
            TextOrList::List(parts) => {
                for part in parts {
                    match part.must("type")?.string()? {
                        "text" => join(&mut text, part.must("text")?.string()?),
                        _ => add_block(said, &part)?,
                    }
                }
            }
        }
    }
    let is_error = block.get("is_error").map_or(Ok(false), |it| it.boolean())?;
    if is_error && !text.starts_with(FAILED) {
        text.insert_str(0, FAILED);
    }
    Ok(text)
}

/// An image's URL, or its bytes as one.
fn image(source: &Field<'_, '_>) -> Result<String, ApiError> {
    let kind = source.must("type")?;
    match kind.string()? {
        "base64" => {
            let media = source.must("media_type")?.string()?;
            let data = source.must("data")?.string()?;
            Ok(format!("data:{media};base64,{data}"))
        }
        "url" => Ok(source.must("url")?.string()?.to_owned()),
        _ => Err(kind.is_no("`base64` or `url`: this hub keeps no files")),
    }
}

/// A document's text, or a note that there is one. An error would end a conversation for good: the
/// document stays in its history.
fn document(block: &Field<'_, '_>) -> Result<String, ApiError> {
    let source = block.must("source")?;
    let title = block.get("title").and_then(|title| title.as_str());
    let title = title.unwrap_or("a document");
    match source.must("type")?.string()? {
        "text" => Ok(source.must("data")?.string()?.to_owned()),
        "content" => {
            let content = source.must("content")?;
            if let Some(text) = content.as_str() {
                return Ok(text.to_owned());
            }
            let mut text = String::new();
            for part in content.items()? {
                if let Some(more) = part.get("text") {
                    join(&mut text, more.string()?);
                }
            }
            Ok(text)
        }
        _ => {
            let media = source.get("media_type").and_then(|media| media.as_str());
            let media = media.unwrap_or("of another form");
            Ok(format!(
                "[{title} ({media}) is attached here, which this model cannot read: it reads text and images]"
            ))
        }
    }
}

fn add_assistant<'a>(
    messages: &mut Vec<Message<'a>>,
    content: &Field<'_, 'a>,
) -> Result<(), ApiError> {
    let mut said = Message::new("assistant", Content::None);
    let blocks = match content.text_or_list("blocks")? {
        TextOrList::Text(text) => {
            said.content.push_text(text);
            messages.push(said);
            return Ok(());
        }
        TextOrList::List(blocks) => blocks,
    };
    for block in blocks {
        match block.must("type")?.string()? {
            "text" => said.content.push_text(block.must("text")?.string()?),
            "thinking" => {
                let thinking = block.must("thinking")?.string()?;
                join(&mut said.reasoning_content, thinking);
            }
            "tool_use" => {
                let input = block.must("input")?.object()?;
                said.tool_calls.push(ToolCall::new(
                    block.must("id")?.string()?,
                    block.must("name")?.string()?,
                    input.to_string(),
                ));
            }
            other => tracing::debug!(block = other, "a block of a message is left out"),
        }
    }
    messages.push(said);
    Ok(())
}

/// The tool that the model has to call, if it has to. A worker may take silence for `none`.
fn choose(request: &mut Request<'_>, body: &Field<'_, '_>) -> Result<(), ApiError> {
    let Some(choice) = body.get("tool_choice") else {
        request.tool_choice = Some(Value::from("auto"));
        return Ok(());
    };
    let kind = choice.must("type")?;
    request.tool_choice = Some(match kind.string()? {
        "auto" => Value::from("auto"),
        "any" => Value::from("required"),
        "none" => Value::from("none"),
        "tool" => request.choice_of(choice.must("name")?.string()?),
        _ => return Err(kind.is_no("`auto`, `any`, `tool` or `none`")),
    });
    if let Some(one) = choice.get("disable_parallel_tool_use")
        && one.boolean()?
    {
        request.parallel_tool_calls = Some(false);
    }
    Ok(())
}

fn response_format(format: &Field<'_, '_>) -> Result<Option<Value>, ApiError> {
    let kind = format.must("type")?;
    match kind.string()? {
        "json_schema" => {
            let name = format.get("name").and_then(|name| name.as_str());
            let schema = format.must("schema")?.object()?;
            Ok(Some(schema_format(name, schema, true)))
        }
        "text" => Ok(None),
        _ => Err(invalid(&kind, "has to be `json_schema` or `text`")),
    }
}
