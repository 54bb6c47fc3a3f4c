//! The chunks of a worker's stream, as it writes them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

/// One event of a stream. Unknown fields are ignored, and null is as good as absent.
#[derive(Debug, Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) choices: Option<Vec<Choice<'a>>>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default)]
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) delta: Option<Delta<'a>>,
    /// Of a completion that is no chat.
    #[serde(borrow)]
    pub(super) text: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) finish_reason: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub(super) content: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) reasoning_content: Option<Text<'a>>,
    /// The same under its other name.
    #[serde(borrow)]
    pub(super) reasoning: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) refusal: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) tool_calls: Option<Vec<ToolDelta<'a>>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ToolDelta<'a> {
    #[serde(default)]
    pub(super) index: u64,
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) function: Option<FunctionDelta<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionDelta<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) arguments: Option<Text<'a>>,
}

/// A string that is copied only where it has escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that there may be.
pub(super) fn text<'a>(text: &'a Option<Text<'_>>) -> &'a str {
    text.as_ref().map_or("", Text::as_str)
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(in super::super) struct Usage {
    #[serde(default, rename = "prompt_tokens")]
    prompt: Option<u64>,
    #[serde(default, rename = "completion_tokens")]
    completion: Option<u64>,
    #[serde(default, rename = "prompt_tokens_details")]
    prompt_details: Option<PromptDetails>,
    #[serde(default, rename = "completion_tokens_details")]
    completion_details: Option<CompletionDetails>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Tokens of the request, those from the cache among them.
    pub(in super::super) fn prompt(&self) -> u64 {
        self.prompt.unwrap_or(0)
    }

    /// Those of the request that were in the worker's cache.
    pub(in super::super) fn cached(&self) -> u64 {
        let cached = self
            .prompt_details
            .and_then(|details| details.cached_tokens);
        cached.unwrap_or(0).min(self.prompt())
    }

    /// Tokens of the answer, those of reasoning among them.
    pub(in super::super) fn completion(&self) -> u64 {
        self.completion.unwrap_or(0)
    }

    /// Those of reasoning.
    pub(in super::super) fn reasoning(&self) -> u64 {
        let details = self.completion_details;
        let reasoning = details.and_then(|details| details.reasoning_tokens);
        reasoning.unwrap_or(0)
    }
}
