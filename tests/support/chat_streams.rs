//! Streams of chat completions of every kind: split anywhere, with calls that interleave, empty deltas, and usage early
//! or late. The tests beside the code read them, and so do the official clients.

use proptest::prelude::*;
use serde_json::{Value, json};

/// Server-sent events of these values.
pub(crate) fn events(values: &[Value]) -> Vec<u8> {
    let events = values.iter().map(|value| format!("data: {value}\n\n"));
    events.collect::<String>().into_bytes()
}

/// A delta of a stream, as a plan.
#[derive(Debug, Clone)]
pub(crate) enum Planned {
    Text(String),
    Thinking(String),
    Empty,
    /// Goes on with the arguments of that call, or begins it.
    Call(usize),
}

/// The chunk that has the usage.
#[derive(Debug, Clone, Copy)]
enum UsageAt {
    Begin,
    /// That with the reason of the end.
    Reason,
    End,
}

/// A stream and what it says.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
    pub(crate) thinking: String,
    /// Name and arguments of each call.
    pub(crate) calls: Vec<(String, String)>,
    /// Places at which it is cut on its way.
    cuts: Vec<usize>,
}

impl Plan {
    /// The bytes in pieces.
    pub(crate) fn pieces(&self) -> Vec<&[u8]> {
        let mut cuts: Vec<_> = self
            .cuts
            .iter()
            .map(|cut| cut % (self.bytes.len() + 1))
            .collect();
        cuts.sort_unstable();
        let (mut pieces, mut from) = (Vec::new(), 0);
        for cut in cuts {
            pieces.push(&self.bytes[from..cut]);
            from = cut;
        }
        pieces.push(&self.bytes[from..]);
        pieces
    }

    /// The same, of which no more than so many bytes arrive.
    pub(crate) fn cut_off(&self, at: usize) -> Self {
        let mut plan = self.clone();
        plan.bytes.truncate(at % (self.bytes.len() + 1));
        plan
    }

    fn of(planned: &[Planned], arguments: &[String], usage: UsageAt, cuts: Vec<usize>) -> Self {
        let mut plan = Self {
            bytes: Vec::new(),
            text: String::new(),
            thinking: String::new(),
            calls: Vec::new(),
            cuts,
        };
        let counted = json!({"prompt_tokens": 11, "completion_tokens": 5,
                           "prompt_tokens_details": {"cached_tokens": 4}});
        let mut values = vec![json!({"role": "assistant"})];
        let mut left: Vec<Vec<&str>> = arguments.iter().map(|text| in_pieces(text)).collect();
        // The calls that have begun, by the number of their plan.
        let mut begun: Vec<usize> = Vec::new();
        let mut call = |plan: &mut Self, at: usize| {
            let is_first = !begun.contains(&at);
            if is_first {
                begun.push(at);
                plan.calls
                    .push((format!("tool_{at}"), arguments[at].clone()));
            }
            let index = begun.iter().position(|begun| *begun == at);
            let piece = if left[at].is_empty() {
                ""
            } else {
                left[at].remove(0)
            };
            let delta = if is_first {
                json!({"index": index, "id": format!("id_{at}"), "type": "function",
                       "function": {"name": format!("tool_{at}"), "arguments": piece}})
            } else {
                json!({"index": index, "function": {"arguments": piece}})
            };
            (json!({"tool_calls": [delta]}), left[at].is_empty())
        };
        for planned in planned {
            values.push(match planned {
                Planned::Text(text) => {
                    plan.text.push_str(text);
                    json!({"content": text})
                }
                Planned::Thinking(text) => {
                    plan.thinking.push_str(text);
                    json!({"reasoning_content": text})
                }
                Planned::Empty => json!({"content": "", "reasoning_content": null}),
                Planned::Call(at) => call(&mut plan, at % arguments.len()).0,
            });
        }
        for at in 0..arguments.len() {
            if plan
                .calls
                .iter()
                .any(|(name, _)| *name == format!("tool_{at}"))
            {
                loop {
                    let (value, is_last) = call(&mut plan, at);
                    values.push(value);
                    if is_last {
                        break;
                    }
                }
            }
        }
        let chunk = |delta: &Value| {
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk",
                                           "choices": [{"index": 0, "delta": delta, "finish_reason": null}]})
        };
        let mut chunks: Vec<Value> = values.iter().map(chunk).collect();
        let reason = if plan.calls.is_empty() {
            "stop"
        } else {
            "tool_calls"
        };
        let mut last = json!({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]});
        let mut after = json!({"id": "chatcmpl-1", "choices": []});
        match usage {
            UsageAt::Begin => chunks[0]["usage"] = counted,
            UsageAt::Reason => last["usage"] = counted,
            UsageAt::End => after["usage"] = counted,
        }
        chunks.extend([last, after]);
        plan.bytes = events(&chunks);
        plan.bytes.extend_from_slice(b"data: [DONE]\n\n");
        plan
    }
}

fn in_pieces(text: &str) -> Vec<&str> {
    let at = text.char_indices().nth(text.chars().count() / 2);
    let (one, two) = text.split_at(at.map_or(0, |(at, _)| at));
    [one, two]
        .into_iter()
        .filter(|piece| !piece.is_empty())
        .collect()
}

/// Characters at which some parser or other ends a line, and others that JSON writes in a way of its own.
const ENDS_OF_LINES: &str = r#"[\n\r\x0b\x0c\x1c\x1d\x1e\x7f\x{85}\x{2028}\x{2029}\x00"\\😀]{1,4}"#;

/// Streams of every kind.
pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let text = || prop_oneof!["\\PC{0,6}", ENDS_OF_LINES];
    let planned = prop_oneof![
        text().prop_map(Planned::Text),
        text().prop_map(Planned::Thinking),
        Just(Planned::Empty),
        (0_usize..3).prop_map(Planned::Call),
    ];
    let arguments = text().prop_map(|text| json!({"a": [text], "b": {}}).to_string());
    (
        prop::collection::vec(planned, 0..12),
        prop::collection::vec(arguments, 1..4),
        prop::sample::select(&[UsageAt::Begin, UsageAt::Reason, UsageAt::End][..]),
        prop::collection::vec(any::<usize>(), 0..10),
    )
        .prop_map(|(planned, arguments, usage, cuts)| Plan::of(&planned, &arguments, usage, cuts))
}
