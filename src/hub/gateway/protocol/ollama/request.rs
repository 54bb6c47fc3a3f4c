//! Requests of Ollama's API as those of OpenAI's.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::super::chat::{
    Content, Message, Request, Sampling, Template, Tool, ToolCall, effort, join, schema_format,
};
use super::super::fields::{Field, invalid};
use crate::api::ApiError;

/// The clients' word for no particular one.
const LATEST: &str = ":latest";

/// The purpose of a request.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Purpose {
    /// An answer.
    Answer,
    /// The same to a prompt that is no chat.
    Completion,
    /// That its model is loaded, or leaves memory: it says nothing to it. True for a stream.
    Only { stream: bool },
}

/// Ids of calls, which its messages do not have.
type Ids = Vec<String>;

/// The chat completion for `POST /api/chat`.
///
/// # Errors
/// 400 when a field is not what it has to be.
pub(in super::super) fn chat(body: &Value) -> Result<(Vec<u8>, Purpose), ApiError> {
    let body = Field::root(body);
    let mut request = begin(&body)?;
    let Some(turns) = body.get("messages") else {
        return Ok(only(&request));
    };
    let ids = ids(&turns)?;
    let mut history = History {
        ids: ids.iter(),
        open: VecDeque::new(),
        system: String::new(),
        messages: Vec::new(),
    };
    for turn in turns.items()? {
        history.add(&turn)?;
    }
    if history.messages.is_empty() && history.system.is_empty() {
        return Ok(only(&request));
    }
    request.messages = with_system(history.system, history.messages);
    if let Some(tools) = body.get("tools") {
        for tool in tools.items()? {
            let function = tool.must("function")?;
            let description = function
                .get("description")
                .map(|it| it.string())
                .transpose()?;
            let parameters = function
                .get("parameters")
                .map(|it| it.object())
                .transpose()?;
            let name = function.must("name")?.string()?;
            request.tools.push(Tool::new(name, description, parameters));
        }
    }
    if !request.tools.is_empty() {
        request.tool_choice = Some(Value::from("auto"));
    }
    Ok((request.to_bytes(), Purpose::Answer))
}

/// A request that says nothing to its model.
fn only(request: &Request<'_>) -> (Vec<u8>, Purpose) {
    let stream = request.stream;
    (request.to_bytes(), Purpose::Only { stream })
}

/// The chat completion for `POST /api/generate`, or the completion for a prompt that is `raw`.
///
/// # Errors
/// 400 when a field is not what it has to be, or cannot be had from a chat.
pub(in super::super) fn generate(body: &Value) -> Result<(Vec<u8>, Purpose), ApiError> {
    let body = Field::root(body);
    let mut request = begin(&body)?;
    if let Some(suffix) = body.get("suffix")
        && suffix.as_str() != Some("")
    {
        return Err(invalid(
            &suffix,
            "cannot be had: a chat has no end that is given",
        ));
    }
    has_no_prompt_of_its_own(&body)?;
    let prompt = body
        .get("prompt")
        .map_or(Ok(""), |prompt| prompt.string())?;
    if prompt.is_empty() {
        return Ok(only(&request));
    }
    let system = body
        .get("system")
        .map_or(Ok(""), |system| system.string())?;
    if let Some(raw) = body.get("raw")
        && raw.boolean()?
    {
        let has_images = match body.get("images") {
            Some(images) => images.items()?.next().is_some(),
            None => false,
        };
        if has_images || !system.is_empty() {
            return Err(invalid(
                &raw,
                "cannot be true with `system` or `images`: the prompt is sent as it is. Write them into it, or leave \
                 `raw` out",
            ));
        }
        return Ok((completion(&request, prompt), Purpose::Completion));
    }
    let mut said = Message::new("user", Content::None);
    said.content.push_text(prompt);
    add_images(&mut said, &body)?;
    request.messages = with_system(system.to_owned(), vec![said]);
    Ok((request.to_bytes(), Purpose::Answer))
}

/// The completion of a prompt as it is.
fn completion(request: &Request<'_>, prompt: &str) -> Vec<u8> {
    let mut fields = json!(request);
    if let Some(fields) = fields.as_object_mut() {
        fields.shift_remove("messages");
        fields.shift_remove("chat_template_kwargs");
        fields.insert("prompt".to_owned(), prompt.into());
    }
    fields.to_string().into_bytes()
}

/// Refuses what would change how a prompt is written: a chat is written by its model's template.
fn has_no_prompt_of_its_own(body: &Field<'_, '_>) -> Result<(), ApiError> {
    if let Some(context) = body.get("context")
        && context.items()?.next().is_some()
    {
        return Err(invalid(
            &context,
            "cannot be used: workers keep no conversation by its tokens. Send the whole conversation as `messages` to \
             /api/chat",
        ));
    }
    if let Some(template) = body.get("template")
        && !template.string()?.is_empty()
    {
        return Err(invalid(
            &template,
            "cannot be used: the prompt is written in the model's own template. Leave it out, and say what it adds in \
             `system` or `prompt`",
        ));
    }
    Ok(())
}

/// The request for embeddings for `POST /api/embed`, or `/api/embeddings`, which has its texts as `texts`.
///
/// # Errors
/// 400 when a field is not what it has to be.
pub(in super::super) fn embed(body: &Value, texts: &'static str) -> Result<Vec<u8>, ApiError> {
    let body = Field::root(body);
    body.object()?;
    let input = match body.get("input").or_else(|| body.get("prompt")) {
        Some(input) => input,
        None => body.must(texts)?,
    };
    if input.as_str().is_none() {
        for text in input.items()? {
            text.string()?;
        }
    }
    let request = json!({"model": model(&body)?, "input": input.value()});
    Ok(request.to_string().into_bytes())
}

/// The model: older clients call it `name`. A tag that says nothing is no part of it.
pub(super) fn model<'v>(body: &Field<'_, 'v>) -> Result<&'v str, ApiError> {
    let Some(model) = body.get("model").or_else(|| body.get("name")) else {
        return Ok("");
    };
    let name = model.string()?;
    Ok(name.strip_suffix(LATEST).unwrap_or(name))
}

/// The common part of chats and completions.
fn begin<'v>(body: &Field<'_, 'v>) -> Result<Request<'v>, ApiError> {
    body.object()?;
    let mut request = Request {
        model: model(body)?,
        ..Request::default()
    };
    if let Some(options) = body.get("options") {
        read_options(&mut request, options.object()?)?;
    }
    if let Some(format) = body.get("format") {
        request.response_format = match format.value() {
            Value::String(word) if word == "json" => Some(json!({"type": "json_object"})),
            Value::String(word) if word.is_empty() => None,
            Value::Object(_) => Some(schema_format(None, format.value(), true)),
            _ => return Err(format.is_no("`json` or a JSON schema")),
        };
    }
    if let Some(think) = body.get("think") {
        let template = match think.value() {
            Value::Bool(true) => Template::default(),
            Value::Bool(false) => Template {
                enable_thinking: Some(false),
                ..Template::default()
            },
            Value::String(word) if matches!(&**word, "low" | "medium" | "high") => Template {
                reasoning_effort: effort(word),
                ..Template::default()
            },
            _ => return Err(think.is_no("true, false or `low`, `medium` or `high`")),
        };
        request.chat_template_kwargs = Some(template).filter(|it| *it != Template::default());
    }
    let stream = body
        .get("stream")
        .map_or(Ok(true), |stream| stream.boolean())?;
    request.streams(stream);
    Ok(request)
}

/// Those that are about what is said; others are about how a model is loaded.
fn read_options<'v>(request: &mut Request<'v>, options: &'v Value) -> Result<(), ApiError> {
    let options = Field::root(options);
    let number = |key| options.get(key).map(|it| it.number()).transpose();
    request.sampling = Sampling {
        temperature: number("temperature")?,
        top_p: number("top_p")?,
        top_k: number("top_k")?,
        min_p: number("min_p")?,
        seed: number("seed")?,
        presence_penalty: number("presence_penalty")?,
        frequency_penalty: number("frequency_penalty")?,
        repetition_penalty: number("repeat_penalty")?,
    };
    // -1 and -2 are no bounds.
    if let Some(most) = options.get("num_predict")
        && most.number()?.as_i64().is_none_or(|most| most > 0)
    {
        request.max_tokens = Some(most.whole(1)?);
    }
    if let Some(stop) = options.get("stop") {
        match stop.as_str() {
            Some(one) => request.stop.push(one),
            None => {
                for sequence in stop.items()? {
                    request.stop.push(sequence.string()?);
                }
            }
        }
    }
    Ok(())
}

fn with_system(system: String, mut messages: Vec<Message<'_>>) -> Vec<Message<'_>> {
    if !system.is_empty() {
        messages.insert(0, Message::new("system", Content::Text(system)));
    }
    messages
}

/// An id for each call that the messages tell of, the same from turn to turn.
fn ids(turns: &Field<'_, '_>) -> Result<Ids, ApiError> {
    let mut count = 0;
    for turn in turns.items()? {
        if let Some(calls) = turn.get("tool_calls") {
            count += calls.items()?.count();
        }
    }
    Ok((0..count).map(|number| format!("call_{number}")).collect())
}

/// The messages, as far as they have been read.
struct History<'a, 'v> {
    ids: std::slice::Iter<'a, String>,
    /// Calls that have no answer yet: name and id.
    open: VecDeque<(&'v str, &'a str)>,
    system: String,
    messages: Vec<Message<'a>>,
}

impl<'a, 'v: 'a> History<'a, 'v> {
    fn add(&mut self, turn: &Field<'_, 'v>) -> Result<(), ApiError> {
        let role = turn.must("role")?;
        let content = turn.get("content").map_or(Ok(""), |it| it.string())?;
        match role.string()? {
            "system" => join(&mut self.system, content),
            "user" => {
                let mut said = Message::new("user", Content::None);
                said.content.push_text(content);
                add_images(&mut said, turn)?;
                self.messages.push(said);
            }
            "assistant" => {
                let mut said = Message::new("assistant", Content::None);
                if !content.is_empty() {
                    said.content.push_text(content);
                }
                if let Some(thinking) = turn.get("thinking") {
                    said.reasoning_content = thinking.string()?.to_owned();
                }
                if let Some(calls) = turn.get("tool_calls") {
                    for call in calls.items()? {
                        let function = call.must("function")?;
                        let name = function.must("name")?.string()?;
                        let arguments = match function.get("arguments") {
                            Some(arguments) => arguments.object()?.to_string(),
                            None => "{}".to_owned(),
                        };
                        let id = self.ids.next().map_or("", String::as_str);
                        self.open.push_back((name, id));
                        said.tool_calls.push(ToolCall::new(id, name, arguments));
                    }
                }
                self.messages.push(said);
            }
            "tool" => {
                let name = turn.get("tool_name").or_else(|| turn.get("name"));
                let name = name.map(|name| name.string()).transpose()?;
                let at = name.and_then(|name| self.open.iter().position(|(open, _)| *open == name));
                let call = self.open.remove(at.unwrap_or(0));
                let id = call.map_or("call_0", |(_, id)| id);
                self.messages.push(Message::of_tool(id, content.to_owned()));
            }
            _ => return Err(role.is_no("`system`, `user`, `assistant` or `tool`")),
        }
        Ok(())
    }
}

fn add_images(said: &mut Message<'_>, from: &Field<'_, '_>) -> Result<(), ApiError> {
    if let Some(images) = from.get("images") {
        for image in images.items()? {
            let data = image.string()?;
            let kind = kind_of_image(data);
            said.content
                .push_image(format!("data:image/{kind};base64,{data}"));
        }
    }
    Ok(())
}

/// The type of an image, by the beginning of its base64.
fn kind_of_image(data: &str) -> &'static str {
    let kinds = [("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp")];
    let found = kinds.into_iter().find(|(begin, _)| data.starts_with(begin));
    found.map_or("png", |(_, kind)| kind)
}
