//! The tokens of a chat completion's request: what is counted.

use serde_json::Value;

use super::estimate::in_text;

/// Tokens that a template adds to a message.
const PER_MESSAGE: usize = 4;

/// Tokens of an image.
const PER_IMAGE: usize = 1000;

/// The parts of a request that the model's tokenizer sees.
#[derive(Debug, PartialEq)]
pub(in crate::hub::gateway) struct Tokens {
    /// Texts, and JSON of calls and of tools.
    pub(in crate::hub::gateway) texts: Vec<String>,
    /// The rest, in tokens.
    rest: usize,
}

impl Tokens {
    /// The tokens of a chat completion's request, given as JSON.
    pub(in crate::hub::gateway) fn of(chat: &Value) -> Self {
        let mut tokens = Self {
            texts: Vec::new(),
            rest: 0,
        };
        for message in chat["messages"].as_array().into_iter().flatten() {
            tokens.rest += PER_MESSAGE;
            tokens.take_content(&message["content"]);
            tokens.take_content(&message["reasoning_content"]);
            if let Some(calls) = message.get("tool_calls") {
                tokens.texts.push(calls.to_string());
            }
        }
        if let Some(tools) = chat.get("tools") {
            tokens.texts.push(tools.to_string());
        }
        tokens
    }

    fn take_content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.texts.push(text.clone()),
            Value::Array(parts) => {
                for part in parts {
                    match part["text"].as_str() {
                        Some(text) => self.texts.push(text.to_owned()),
                        None => self.rest += PER_IMAGE,
                    }
                }
            }
            _ => {}
        }
    }

    /// The sum, where the texts are that many tokens.
    pub(in crate::hub::gateway) fn with(&self, texts: usize) -> usize {
        self.rest + texts
    }

    /// The sum, without a tokenizer.
    pub(in crate::hub::gateway) fn estimate(&self) -> usize {
        self.with(self.texts.iter().map(|text| in_text(text)).sum())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn all_that_is_read_counts() {
        let estimate = |chat: &Value| Tokens::of(chat).estimate();
        let chat = json!({
            "messages": [
                {"role": "system", "content": "one two three"},
                {"role": "user", "content": [{"type": "text", "text": "four"}, {"type": "image_url"}]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "a"}]},
            ],
            "tools": [{"name": "f"}],
        });
        let without_tools = {
            let mut chat = chat.clone();
            chat.as_object_mut().unwrap().shift_remove("tools");
            chat
        };
        let bare = estimate(&without_tools);
        assert!(estimate(&chat) > bare && bare > 3 * PER_MESSAGE + PER_IMAGE + 4);
        assert_eq!(estimate(&json!({})), 0);
    }
}
