//! Guesses which of the worker's parsers read a model's tool calls and its reasoning.
//!
//! A chat template shows the model how to write both, so the marks in it tell the format; the architecture
//! decides where two parsers read the same marks. The names are those of `--tool-call-parser` and
//! `--reasoning-parser`; an installed worker may know fewer.

use std::path::Path;

use serde_json::Value;

use super::facts::json;
use crate::files;

/// A parser, and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// Its name.
    pub parser: &'static str,
    /// The traits of the model that speak for it, in words.
    pub why: String,
}

/// The guesses for a model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parsers {
    /// For `tool_call_parser`.
    pub tool_call: Option<Guess>,
    /// For `reasoning_parser`.
    pub reasoning: Option<Guess>,
}

/// Marks of tool calls that one parser alone reads, the most telling first.
const TOOL_MARKS: [(&str, &str); 8] = [
    ("<start_function_call>", "functiongemma"),
    ("<|tool_call:begin|>", "solar_open"),
    ("<|tool_call>", "gemma4"),
    ("<minimax:tool_call>", "minimax_m2"),
    ("<|tool_calls_section_begin|>", "kimi_k2"),
    ("<longcat_tool_call>", "longcat_flash_lite"),
    ("<|channel|>", "harmony"),
    ("<arg_key>", "glm4_moe"),
];

/// Marks of reasoning that one parser alone reads.
const REASONING_MARKS: [(&str, &str); 3] = [
    ("<|think|>", "solar_open"),
    ("<|channel>thought", "gemma4"),
    ("<|channel|>", "harmony"),
];

/// Architectures (by their beginning) whose functions are written `<function=…>`, with their parser.
const FUNCTIONS: [(&str, &str); 2] = [("step3", "step_35"), ("nemotron", "nemotron3_nano")];

/// Architectures whose tool calls are JSON between `<tool_call>` marks, with their parser.
const JSON_CALLS: [(&str, &str); 4] = [
    ("qwen3_moe", "qwen3_moe"),
    ("qwen3_vl", "qwen3_vl"),
    ("qwen3", "qwen3"),
    ("iquest", "iquest_coder_v1"),
];

/// Architectures whose reasoning between `<think>` marks has a parser of its own.
const THINKERS: [(&str, &str); 7] = [
    ("qwen3_5", "qwen3_5"),
    ("qwen3_vl", "qwen3_vl"),
    ("glm4_moe_lite", "glm47_flash"),
    ("glm4_moe", "glm4_moe"),
    ("minimax", "minimax_m2"),
    ("nemotron", "nemotron3_nano"),
    ("step3", "step_35"),
];

impl Parsers {
    /// Guesses from the files in a model's folder.
    pub fn guess(folder: &Path) -> Self {
        let config = json(&folder.join("config.json")).unwrap_or_default();
        let architecture = config.get("model_type").and_then(Value::as_str);
        match chat_template(folder) {
            Some(template) => Self::of(architecture.unwrap_or_default(), &template),
            None => Self::default(),
        }
    }

    fn of(architecture: &str, template: &str) -> Self {
        Self {
            tool_call: tool_call(architecture, template),
            reasoning: reasoning(architecture, template),
        }
    }
}

/// The chat template of a model, from the file that transformers would take it from.
fn chat_template(folder: &Path) -> Option<String> {
    let jinja = files::read(&folder.join("chat_template.jinja")).ok();
    if let Some(template) = jinja.and_then(|bytes| String::from_utf8(bytes).ok()) {
        return Some(template);
    }
    ["chat_template.json", "tokenizer_config.json"]
        .iter()
        .find_map(
            |name| match json(&folder.join(name))?.get("chat_template")? {
                Value::String(template) => Some(template.clone()),
                // Several with names: that for tools, if there is one.
                Value::Array(named) => {
                    let of = |name: &str| {
                        let mut named = named.iter();
                        let found = named.find(|one| one["name"] == *name)?;
                        found["template"].as_str().map(str::to_owned)
                    };
                    of("tool_use").or_else(|| of("default"))
                }
                _ => None,
            },
        )
}

fn mark(marks: &[(&str, &'static str)], template: &str) -> Option<Guess> {
    let found = marks.iter().find(|(mark, _)| template.contains(mark));
    found.map(|(mark, parser)| Guess {
        parser,
        why: format!("its chat template has `{mark}`"),
    })
}

fn by_architecture(table: &[(&str, &'static str)], architecture: &str) -> Option<&'static str> {
    let mut rows = table.iter();
    let row = rows.find(|(begin, _)| architecture.starts_with(begin));
    row.map(|(_, parser)| *parser)
}

fn tool_call(architecture: &str, template: &str) -> Option<Guess> {
    if let Some(guess) = mark(&TOOL_MARKS, template) {
        return Some(guess);
    }
    let guess = |parser, marks: &str, own: bool| Guess {
        parser,
        why: match own {
            true => format!("its chat template has `{marks}`, and it is a {architecture}"),
            false => format!("its chat template has `{marks}`"),
        },
    };
    if template.contains("<function=") {
        let own = by_architecture(&FUNCTIONS, architecture);
        return Some(guess(
            own.unwrap_or("qwen3_coder"),
            "<function=",
            own.is_some(),
        ));
    }
    template.contains("<tool_call>").then(|| {
        let own = by_architecture(&JSON_CALLS, architecture);
        guess(own.unwrap_or("hermes"), "<tool_call>", own.is_some())
    })
}

fn reasoning(architecture: &str, template: &str) -> Option<Guess> {
    if let Some(guess) = mark(&REASONING_MARKS, template) {
        return Some(guess);
    }
    if !template.contains("<think>") && !template.contains("</think>") {
        return None;
    }
    let own = by_architecture(&THINKERS, architecture);
    if let Some(parser) = own {
        return Some(Guess {
            parser,
            why: format!("its chat template has `<think>`, and it is a {architecture}"),
        });
    }
    // The template writes the opening mark itself: the answer begins within the reasoning.
    let is_begun = [
        "assistant\\n<think>",
        "assistant\n<think>",
        "<｜Assistant｜><think>",
    ]
    .iter()
    .any(|begin| template.contains(begin));
    let (parser, why) = if is_begun {
        (
            "qwen3_moe",
            "its chat template begins the answer with `<think>`",
        )
    } else if template.contains("enable_thinking") {
        (
            "qwen3",
            "its chat template has `<think>` and `enable_thinking`",
        )
    } else {
        ("hermes", "its chat template has `<think>`")
    };
    Some(Guess {
        parser,
        why: why.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_the_template_tell_the_parsers() {
        let hybrid = "{%- if tools %}<tool_call>{\"name\": }</tool_call>{%- endif %}<|im_start|>assistant\\n\
             {%- if enable_thinking is false %}<think>\\n\\n</think>{%- endif %}";
        let told = [
            ("qwen3", hybrid),
            ("qwen3_moe", "<tool_call>{\"name\"</tool_call>"),
            ("qwen3_moe", "<tool_call>\n<function=x>"),
            (
                "qwen3",
                "<tool_call> {{ '<|im_start|>assistant\\n<think>\\n' }}",
            ),
            ("qwen3_5_moe", "<tool_call>\n<function=x> <think>"),
            ("qwen2", "<tool_call>{"),
            ("gpt_oss", "<|start|>assistant<|channel|>analysis"),
            ("glm4_moe", "<tool_call>{name}<arg_key> <think>"),
            ("glm4_moe_lite", "<tool_call>{name}<arg_key> <think>"),
            ("gemma4", "<|tool_call>call <|channel>thought"),
            ("minimax_m2", "<minimax:tool_call> <think>"),
            ("kimi_k2", "<|tool_calls_section_begin|>"),
            ("nemotron_h", "<tool_call><function= <think>"),
            ("step3p5", "<tool_call><function= <think>"),
            ("deepseek_v3", "<｜Assistant｜><think>\\n"),
            ("llama", "{% for message in messages %}"),
        ]
        .map(|(architecture, template)| {
            let parsers = Parsers::of(architecture, template);
            let said = |guess: Option<Guess>| {
                guess.map_or("-".to_owned(), |guess| {
                    format!("{} ({})", guess.parser, guess.why)
                })
            };
            format!(
                "{architecture}: {}; {}",
                said(parsers.tool_call),
                said(parsers.reasoning)
            )
        });
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn the_template_is_found_where_transformers_looks() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(chat_template(folder.path()), None);
        write(
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "default", "template": "one"}]}"#,
        );
        assert_eq!(chat_template(folder.path()).as_deref(), Some("one"));
        write(
            "tokenizer_config.json",
            r#"{"chat_template": [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]}"#,
        );
        assert_eq!(chat_template(folder.path()).as_deref(), Some("two"));
        write("tokenizer_config.json", r#"{"chat_template": "three"}"#);
        assert_eq!(chat_template(folder.path()).as_deref(), Some("three"));
        write("chat_template.jinja", "four");
        assert_eq!(chat_template(folder.path()).as_deref(), Some("four"));
    }
}
