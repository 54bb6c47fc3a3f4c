//! The tokens of a chat completion's request: what is counted, and an estimate.
//!
//! Without the model's tokenizer the texts can only be estimated: words are mostly one token, long ones
//! more, punctuation and white space go by runs. Of English, code and JSON it counts 1.05 to 1.1 times the
//! tokens of cl100k and o200k; of other languages 0.74 (German, cl100k) to 1.77 (Russian, o200k) times.

use serde_json::Value;

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

/// The kind of a run of characters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// A word in Latin letters, or a part of one that begins with a capital.
    Latin,
    /// Letters of another alphabet.
    Letters,
    /// Characters that are words.
    Ideographs,
    Digits,
    Space,
    Other,
}

impl Run {
    fn of(char: char) -> Self {
        match char {
            _ if char.is_whitespace() => Self::Space,
            _ if char.is_ascii_digit() => Self::Digits,
            '\u{2e80}'.. if char.is_alphanumeric() => Self::Ideographs,
            ..'\u{250}' if char.is_alphabetic() => Self::Latin,
            _ if char.is_alphanumeric() => Self::Letters,
            _ => Self::Other,
        }
    }

    fn tokens(self, length: usize, has_break: bool) -> usize {
        match self {
            Self::Latin if length <= 8 => 1,
            Self::Latin => 1 + (length - 8).div_ceil(4),
            Self::Letters => (2 * length).div_ceil(5),
            Self::Ideographs => length,
            Self::Digits => length.div_ceil(2),
            // One blank belongs to the word behind it.
            Self::Space if length == 1 && !has_break => 0,
            Self::Space => 1,
            Self::Other => length.div_ceil(4),
        }
    }
}

fn in_text(text: &str) -> usize {
    let (mut tokens, mut run, mut length, mut has_break) = (0, Run::Space, 0, false);
    let mut was_small = false;
    for char in text.chars() {
        let next = Run::of(char);
        let is_new_word = next == Run::Latin && was_small && char.is_uppercase();
        if next != run || is_new_word {
            tokens += if length > 0 {
                run.tokens(length, has_break)
            } else {
                0
            };
            (run, length, has_break) = (next, 0, false);
        }
        length += 1;
        has_break |= char == '\n';
        was_small = char.is_lowercase();
    }
    tokens
        + if length > 0 {
            run.tokens(length, has_break)
        } else {
            0
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Counted with cl100k_base.
    #[test]
    fn an_estimate_is_near_what_tokenizers_count() {
        let rust = include_str!("tokens.rs");
        let begin = rust.find("/// The kind of a run").unwrap();
        let rust = &rust[begin..rust.find("#[cfg(test)]").unwrap()];
        for (text, counted) in [
            (rust, 522),
            (
                include_str!("../../../../../scripts/types/hub.lua")
                    .split_at(4000)
                    .0,
                978,
            ),
            (
                "Use this tool to run a command in the user's shell. Prefer the dedicated tools for reading \
                 and editing files; do not chain commands with newlines.",
                31,
            ),
            (
                r#"{"type":"object","properties":{"file_path":{"type":"string","description":"The absolute path"}},"required":["file_path"],"additionalProperties":false}"#,
                31,
            ),
        ] {
            let ratio = in_text(text) as f64 / f64::from(counted);
            assert!((0.95..=1.25).contains(&ratio), "{ratio} {text}");
        }
    }

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
