//! The token counts that a worker writes near the end of an answer.
//!
//! Answers are not parsed as they pass. Of each chunk at most the last [`KEPT`] bytes are copied, and
//! the counts are looked for once, when the answer is over. The account of the request calls it; it
//! knows nothing of HTTP.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

/// Counts stand in the last event of a stream and close to the end of a plain answer; `[DONE]` and
/// some fields may follow them.
const KEPT: usize = 2048;

/// Space beyond [`KEPT`], so that the tail is not moved for every small chunk.
const SLACK: usize = 1024;

/// Number of `"usage"` that the search tries, from the end.
const MAX_TRIES: usize = 8;

/// In the text of an answer the quotes are escaped: this is a key.
const KEY: &[u8] = b"\"usage\"";

/// Searched forwards, as memchr is slower from the end.
static FIND_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));

/// Token counts, as far as the worker gave them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Tokens of the request.
    pub(crate) prompt: Option<u64>,
    /// Tokens of the answer.
    pub(crate) completion: Option<u64>,
}

/// `usage` as chat completions and as responses write it.
#[derive(Debug, Deserialize)]
struct Written {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

impl Usage {
    /// The last counts in a piece of JSON or of an event stream that may begin anywhere.
    pub(crate) fn last_in(text: &[u8]) -> Self {
        let (mut last, mut count) = ([0; MAX_TRIES], 0);
        for at in FIND_KEY.find_iter(text) {
            last[count % MAX_TRIES] = at;
            count += 1;
        }
        let mut places = (count.saturating_sub(MAX_TRIES)..count).rev();
        places
            .find_map(|place| read(&text[last[place % MAX_TRIES] + KEY.len()..]))
            .unwrap_or_default()
    }
}

fn read(after_key: &[u8]) -> Option<Usage> {
    let value = after_key.trim_ascii_start().strip_prefix(b":")?;
    let mut values = serde_json::Deserializer::from_slice(value).into_iter::<Written>();
    let written = values.next()?.ok()?;
    let usage = Usage {
        prompt: written.prompt_tokens.or(written.input_tokens),
        completion: written.completion_tokens.or(written.output_tokens),
    };
    (usage != Usage::default()).then_some(usage)
}

/// The tail of the answer so far.
#[derive(Debug, Default)]
pub(crate) struct Tail(Vec<u8>);

impl Tail {
    /// Keeps the end of `chunk`. Allocates at the first call and rarely after it.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        let chunk = &chunk[chunk.len().saturating_sub(KEPT)..];
        if self.0.len() + chunk.len() > KEPT + SLACK {
            let stays = (KEPT - chunk.len()).min(self.0.len());
            let from = self.0.len() - stays;
            self.0.copy_within(from.., 0);
            self.0.truncate(stays);
        }
        self.0.extend_from_slice(chunk);
    }

    /// The counts at the end of an answer whose last chunk is `last`.
    pub(crate) fn usage(&mut self, last: &[u8]) -> Usage {
        if self.0.is_empty() {
            return Usage::last_in(&last[last.len().saturating_sub(KEPT)..]);
        }
        self.push(last);
        Usage::last_in(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(prompt: u64, completion: u64) -> Usage {
        Usage {
            prompt: Some(prompt),
            completion: Some(completion),
        }
    }

    #[test]
    fn every_form_of_usage_is_read() {
        for (text, usage) in [
            (
                r#"…"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#,
                counts(3, 5),
            ),
            (
                r#""usage" : {"input_tokens":3,"input_tokens_details":{"cached_tokens":1},"output_tokens":5},"user":null}"#,
                counts(3, 5),
            ),
            (
                r#""usage":{"prompt_tokens":1,"completion_tokens":2}}],"usage":null}"#,
                counts(1, 2),
            ),
            (
                "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9}}\n\ndata: [DONE]\n\n",
                counts(7, 9),
            ),
            (
                r#"{"usage":{"prompt_tokens":4,"total_tokens":4}}"#,
                Usage {
                    prompt: Some(4),
                    completion: None,
                },
            ),
            (r#"{"usage":{"seconds":4}}"#, Usage::default()),
            (r#"{"usage":{"prompt_tokens":4,"comp"#, Usage::default()),
            (
                r#"{"text":"\"usage\":{\"prompt_tokens\":4}"}"#,
                Usage::default(),
            ),
            ("", Usage::default()),
        ] {
            assert_eq!(Usage::last_in(text.as_bytes()), usage, "{text}");
        }
    }

    #[test]
    fn the_last_counts_are_taken_if_not_too_much_follows_them() {
        let written = r#""usage":{"prompt_tokens":3,"completion_tokens":5}"#;
        let later = written.replace('3', "4");
        for others in 0..MAX_TRIES {
            let text = format!("{written}{later}{}", r#""usage":null"#.repeat(others));
            assert_eq!(Usage::last_in(text.as_bytes()), counts(4, 5), "{others}");
        }
        let text = format!("{written}{}", r#""usage":null"#.repeat(MAX_TRIES));
        assert_eq!(Usage::last_in(text.as_bytes()), Usage::default());
    }

    proptest! {
        #[test]
        fn counts_at_the_end_are_found_however_the_answer_is_cut(
            before in 0_usize..9000,
            sizes in prop::collection::vec(1_usize..3000, 1..12),
        ) {
            let answer = format!(
                r#"{{"x":"{}","usage":{{"prompt_tokens":12,"completion_tokens":34}}}}"#,
                "x".repeat(before)
            );
            let (mut tail, mut rest) = (Tail::default(), answer.as_bytes());
            for size in sizes {
                if rest.len() <= size {
                    break;
                }
                tail.push(&rest[..size]);
                prop_assert!(tail.0.len() <= KEPT + SLACK);
                rest = &rest[size..];
            }
            prop_assert_eq!(tail.usage(rest), counts(12, 34));
        }
    }
}
