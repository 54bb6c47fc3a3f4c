//! A worker's answer that is not a stream, and its errors.

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::chunk::Usage;
use super::parts::unnamed;
use crate::api::ApiError;

/// Longest part of an answer that is not JSON to repeat in an error.
const REPEATED: usize = 500;

/// The reason of an answer's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Reason {
    /// The model has finished, or came to a stop sequence.
    Stop,
    /// A limit on tokens was reached.
    Length,
    /// It waits for the results of its calls.
    Calls,
    /// A filter stopped it.
    Filtered,
}

impl Reason {
    /// For a chat completion's `finish_reason`.
    pub(super) fn of(finish_reason: &str) -> Self {
        match finish_reason {
            "length" => Self::Length,
            "tool_calls" | "function_call" => Self::Calls,
            "content_filter" => Self::Filtered,
            _ => Self::Stop,
        }
    }

    /// True if the model had more to say.
    pub(in super::super) fn cuts(self) -> bool {
        match self {
            Self::Length | Self::Filtered => true,
            Self::Stop | Self::Calls => false,
        }
    }

    /// The same for an answer that has calls or not: not every worker says so in its reason.
    pub(super) fn with_calls(self, has_calls: bool) -> Self {
        match self {
            Self::Stop | Self::Calls if has_calls => Self::Calls,
            Self::Calls => Self::Stop,
            other => other,
        }
    }
}

/// A part of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    Thinking(String),
    Text(String),
    /// Text with which the model declines.
    Refusal(String),
    Call {
        id: String,
        name: String,
        /// JSON, as far as the model has written it well.
        arguments: String,
    },
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct ChatAnswer {
    /// The worker's name for it; may be empty.
    pub(in super::super) id: String,
    pub(in super::super) parts: Vec<Part>,
    pub(in super::super) reason: Reason,
    pub(in super::super) usage: Usage,
}

#[derive(Deserialize)]
struct Completion {
    id: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<AssistantMessage>,
    /// Of a completion that is no chat.
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct AssistantMessage {
    content: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    id: Option<String>,
    function: Function,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    arguments: Option<String>,
}

/// Reads a worker's chat completion, or its completion of a prompt.
///
/// # Errors
/// 502 when it is none.
pub(in super::super) fn of_worker(body: &[u8]) -> Result<ChatAnswer, ApiError> {
    let no_completion = |why: &str| {
        tracing::warn!(why, "a worker's answer is no chat completion");
        ApiError::new(
            StatusCode::BAD_GATEWAY,
            "The model's worker gave an answer that is no chat completion.",
        )
    };
    let completion: Completion =
        serde_json::from_slice(body).map_err(|error| no_completion(&error.to_string()))?;
    let mut choices = completion.choices.into_iter();
    let choice = choices.next().ok_or_else(|| no_completion("no choices"))?;
    let message = match (choice.message, choice.text) {
        (Some(message), _) => message,
        (None, content @ Some(_)) => AssistantMessage {
            content,
            ..AssistantMessage::default()
        },
        (None, None) => return Err(no_completion("no message")),
    };
    let texts = [
        message
            .reasoning_content
            .or(message.reasoning)
            .map(Part::Thinking),
        message.content.map(Part::Text),
        message.refusal.map(Part::Refusal),
    ];
    let mut parts: Vec<Part> = texts.into_iter().flatten().collect();
    parts.retain(|part| match part {
        Part::Thinking(text) | Part::Text(text) | Part::Refusal(text) => !text.is_empty(),
        Part::Call { .. } => true,
    });
    let calls = message.tool_calls.unwrap_or_default();
    let has_calls = !calls.is_empty();
    parts.extend(calls.into_iter().enumerate().map(|(at, call)| {
        Part::Call {
            id: call
                .id
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| unnamed(at)),
            name: call.function.name,
            arguments: call.function.arguments.unwrap_or_default(),
        }
    }));
    let reason = Reason::of(choice.finish_reason.as_deref().unwrap_or_default());
    Ok(ChatAnswer {
        id: completion.id.unwrap_or_default(),
        parts,
        reason: reason.with_calls(has_calls),
        usage: completion.usage.unwrap_or_default(),
    })
}

/// The message of a worker's error, if it has one of the usual forms.
pub(in crate::hub::gateway) fn workers_error(
    status: StatusCode,
    body: &Value,
    model: &str,
) -> ApiError {
    let forms = [&body["error"], &body["detail"]["error"], body];
    for error in forms {
        let text = |key: &str| error[key].as_str().map(str::to_owned);
        if let Some(message) = text("message") {
            let mut told = ApiError::new(status, message);
            told.kind = text("type").unwrap_or(told.kind);
            told.code = text("code").unwrap_or(told.code);
            told.param = text("param");
            return told;
        }
    }
    let said = match body {
        Value::String(said) => said.clone(),
        Value::Null => String::new(),
        body if body["error"].is_string() => body["error"].as_str().unwrap_or_default().to_owned(),
        body if body["detail"].is_string() => {
            body["detail"].as_str().unwrap_or_default().to_owned()
        }
        body => body.to_string(),
    };
    let end = said
        .char_indices()
        .nth(REPEATED)
        .map_or(said.len(), |(at, _)| at);
    ApiError::new(
        status,
        format!(
            "The worker of model `{model}` answered {status}: {}",
            &said[..end]
        ),
    )
}

/// The status for a worker's error on a route that its client has not asked for. 404 means to clients that there is
/// no such model, and there is.
pub(in super::super) fn of_translated(status: StatusCode) -> StatusCode {
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => StatusCode::BAD_GATEWAY,
        status => status,
    }
}

/// The status that an error names as its code.
pub(super) fn status_of(error: &Value) -> Option<StatusCode> {
    let code = &error["code"];
    let code = code.as_u64().or_else(|| code.as_str()?.parse().ok())?;
    let status = StatusCode::from_u16(u16::try_from(code).ok()?).ok()?;
    (status.is_client_error() || status.is_server_error()).then_some(status)
}
