//! The command line `launch …` of both dialects: one table that parses it and prints its help, in
//! the manner of Python's click, which the real program uses.

use std::fmt::Write as _;

use super::options::Dialect;

/// Models are chosen with words, so click prints the words in place of a type.
const MODEL_TYPES: &str = "[lm|multimodal|image-generation|image-edit|embeddings|whisper]";
const LOG_LEVELS: &str = "[DEBUG|INFO|WARNING|ERROR|CRITICAL]";
const PARSERS: &str = "[gemma4|glm4_moe|harmony|hermes|minimax_m2|nemotron3_nano|qwen3|qwen3_moe]";

/// One option: its name, the type click shows (none for a switch), and what it is for.
struct Flag(&'static str, Option<&'static str>, &'static str);

const SHARED: &[Flag] = &[
    Flag("--model-path", Some("TEXT"), "Path to the model."),
    Flag("--model-type", Some(MODEL_TYPES), "Type of model to run."),
    Flag(
        "--context-length",
        Some("INTEGER"),
        "Context length for language models.",
    ),
    Flag("--port", Some("INTEGER"), "Port to run the server on"),
    Flag("--host", Some("TEXT"), "Host to run the server on"),
    Flag(
        "--queue-timeout",
        Some("INTEGER"),
        "Request timeout in seconds",
    ),
    Flag(
        "--queue-size",
        Some("INTEGER"),
        "Maximum queue size for pending requests",
    ),
    Flag(
        "--quantize",
        Some("INTEGER"),
        "Quantization level for image models.",
    ),
    Flag(
        "--config-name",
        Some("CONFIG_NAME"),
        "Config name of an image model.",
    ),
    Flag(
        "--lora-paths",
        Some("TEXT"),
        "Paths to LoRA files, separated by commas.",
    ),
    Flag(
        "--lora-scales",
        Some("TEXT"),
        "Scale factors for them, separated by commas.",
    ),
    Flag(
        "--disable-auto-resize",
        None,
        "Disable automatic image resizing.",
    ),
    Flag("--log-file", Some("TEXT"), "Path to log file."),
    Flag("--no-log-file", None, "Disable file logging entirely."),
    Flag("--log-level", Some(LOG_LEVELS), "Set the logging level."),
    Flag(
        "--enable-auto-tool-choice",
        None,
        "Enable automatic tool choice.",
    ),
    Flag(
        "--tool-call-parser",
        Some(PARSERS),
        "Specify tool call parser to use.",
    ),
    Flag(
        "--reasoning-parser",
        Some(PARSERS),
        "Specify reasoning parser to use.",
    ),
    Flag(
        "--trust-remote-code",
        None,
        "Allow custom code from model repositories.",
    ),
];

const JIT: &[Flag] = &[
    Flag(
        "--max-concurrency",
        Some("INTEGER"),
        "Maximum number of concurrent requests",
    ),
    Flag("--jit", None, "Load the model on the first request."),
    Flag(
        "--auto-unload-minutes",
        Some("INTEGER"),
        "Unload after minutes without a request.",
    ),
];

const V181: &[Flag] = &[
    Flag("--config", Some("PATH"), "Path to a YAML config file."),
    Flag(
        "--served-model-name",
        Some("TEXT"),
        "The name that requests use for the model.",
    ),
    Flag(
        "--chat-template-file",
        Some("TEXT"),
        "Path to a custom chat template file.",
    ),
    Flag("--debug", None, "Enable debug mode for language models."),
    Flag(
        "--prompt-cache-size",
        Some("INTEGER"),
        "Maximum number of prompt caches.",
    ),
    Flag(
        "--max-bytes",
        Some("INTEGER"),
        "Maximum total bytes of prompt caches.",
    ),
    Flag(
        "--prompt-cache-dir",
        Some("DIRECTORY"),
        "Directory for prompt caches.",
    ),
    Flag(
        "--draft-model-path",
        Some("TEXT"),
        "Path to the draft model.",
    ),
    Flag(
        "--num-draft-tokens",
        Some("INTEGER"),
        "Number of draft tokens per step.",
    ),
    Flag(
        "--kv-bits",
        Some("INTEGER"),
        "Bits for KV cache quantization.",
    ),
    Flag(
        "--kv-group-size",
        Some("INTEGER"),
        "Group size for KV cache quantization.",
    ),
    Flag(
        "--quantized-kv-start",
        Some("INTEGER"),
        "First step with a quantized KV cache.",
    ),
    Flag(
        "--decode-concurrency",
        Some("INTEGER"),
        "Requests to decode in parallel.",
    ),
    Flag(
        "--prompt-concurrency",
        Some("INTEGER"),
        "Prompts to prefill in parallel.",
    ),
    Flag(
        "--prefill-step-size",
        Some("INTEGER"),
        "Maximum tokens per prefill step.",
    ),
    Flag("--disable-batching", None, "Disable continuous batching."),
    Flag(
        "--max-tokens",
        Some("INTEGER"),
        "Default maximum number of tokens.",
    ),
    Flag(
        "--temperature",
        Some("FLOAT"),
        "Default sampling temperature.",
    ),
    Flag(
        "--top-p",
        Some("FLOAT"),
        "Default nucleus sampling probability.",
    ),
    Flag(
        "--top-k",
        Some("INTEGER"),
        "Default top-k sampling parameter.",
    ),
    Flag(
        "--min-p",
        Some("FLOAT"),
        "Default min-p sampling parameter.",
    ),
    Flag(
        "--repetition-penalty",
        Some("FLOAT"),
        "Default repetition penalty.",
    ),
    Flag(
        "--presence-penalty",
        Some("FLOAT"),
        "Default presence penalty.",
    ),
    Flag(
        "--xtc-probability",
        Some("FLOAT"),
        "Default XTC probability.",
    ),
    Flag("--xtc-threshold", Some("FLOAT"), "Default XTC threshold."),
    Flag("--seed", Some("INTEGER"), "Default random seed."),
    Flag(
        "--repetition-context-size",
        Some("INTEGER"),
        "Default repetition context size.",
    ),
];

/// The wishes of the command line.
pub(super) enum Invocation {
    /// `launch --help`: this text.
    Help(String),
    /// Serve a model.
    Launch(LaunchOptions),
}

/// The options that matter to a simulated model; the others are only checked.
#[derive(Debug, Clone)]
pub(super) struct LaunchOptions {
    /// `--model-path`.
    pub model_path: String,
    /// `--served-model-name`, where the dialect has it.
    pub served_model_name: Option<String>,
    /// `--host`.
    pub host: String,
    /// `--port`.
    pub port: u16,
    /// `--jit`: come up unloaded.
    pub jit: bool,
}

impl LaunchOptions {
    /// The name the model goes by.
    pub(super) fn name(&self) -> &str {
        self.served_model_name
            .as_deref()
            .unwrap_or(&self.model_path)
    }
}

/// Reads what follows the knobs.
///
/// # Errors
/// With click's words, for stderr, when the dialect has no such option or a value is missing or no
/// number.
pub(super) fn parse(dialect: Dialect, args: &[String]) -> Result<Invocation, String> {
    let Some((command, args)) = args.split_first() else {
        return Err(refusal("Missing command."));
    };
    if command != "launch" {
        return Err(refusal(&format!("No such command '{command}'.")));
    }
    let mut launch = LaunchOptions {
        model_path: String::new(),
        served_model_name: None,
        host: "0.0.0.0".to_owned(),
        port: 8000,
        jit: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--help" {
            return Ok(Invocation::Help(help(dialect)));
        }
        let (name, glued) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (arg.as_str(), None),
        };
        let Some(Flag(_, kind, _)) = flags(dialect).find(|flag| flag.0 == name) else {
            return Err(refusal(&format!("No such option: {name}")));
        };
        let value = match kind {
            None => String::new(),
            Some(kind) => {
                let value = glued.or_else(|| args.next().cloned());
                let value = value
                    .ok_or_else(|| refusal(&format!("Option '{name}' requires an argument.")))?;
                check(name, kind, &value)?;
                value
            }
        };
        match name {
            "--model-path" => launch.model_path = value,
            "--served-model-name" => launch.served_model_name = Some(value),
            "--host" => launch.host = value,
            "--port" => launch.port = value.parse().map_err(|_| refusal("No such port."))?,
            "--jit" => launch.jit = true,
            _ => {}
        }
    }
    if launch.model_path.is_empty() {
        return Err(refusal("Missing option '--model-path'."));
    }
    Ok(Invocation::Launch(launch))
}

fn flags(dialect: Dialect) -> impl Iterator<Item = &'static Flag> {
    let own = match dialect {
        Dialect::Jit => JIT,
        Dialect::V181 => V181,
    };
    SHARED.iter().chain(own)
}

fn check(name: &str, kind: &str, value: &str) -> Result<(), String> {
    let (fits, noun) = match kind {
        "INTEGER" => (value.parse::<i64>().is_ok(), "a valid integer"),
        "FLOAT" => (value.parse::<f64>().is_ok(), "a valid float"),
        words
            if words.starts_with('[')
                && name != "--tool-call-parser"
                && name != "--reasoning-parser" =>
        {
            let known = words
                .trim_matches(['[', ']'])
                .split('|')
                .any(|word| word == value);
            (known, "one of the choices")
        }
        _ => (true, ""),
    };
    if fits {
        return Ok(());
    }
    Err(refusal(&format!(
        "Invalid value for '{name}': '{value}' is not {noun}."
    )))
}

fn refusal(what: &str) -> String {
    format!(
        "Usage: mlx-openai-server launch [OPTIONS]\n\
         Try 'mlx-openai-server launch --help' for help.\n\nError: {what}"
    )
}

/// Two columns, the second from 34 on; a long option has a line of its own.
fn help(dialect: Dialect) -> String {
    let mut text = "Usage: mlx-openai-server launch [OPTIONS]\n\n  \
                    Start the server with the supplied flags.\n\nOptions:\n"
        .to_owned();
    for Flag(name, kind, purpose) in flags(dialect) {
        let option = format!("  {name} {}", kind.unwrap_or_default());
        let option = option.trim_end();
        let gap = if option.len() > 32 { "\n" } else { "" };
        let width = if option.len() > 32 {
            34
        } else {
            34 - option.len()
        };
        let _ = writeln!(text, "{option}{gap}{:width$}{purpose}", "");
    }
    text + "  --help                          Show this message and exit.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn refused(dialect: Dialect, text: &str) -> String {
        match parse(dialect, &words(text)) {
            Err(message) => message,
            Ok(_) => panic!("`{text}` was taken"),
        }
    }

    #[test]
    fn each_dialect_knows_its_own_flags_only() {
        assert!(refused(Dialect::V181, "launch --jit").contains("No such option: --jit"));
        let name = "launch --served-model-name a";
        assert!(refused(Dialect::Jit, name).contains("No such option: --served-model-name"));
        let jit = parse(Dialect::Jit, &words("launch --jit --model-path=m --port 7"));
        let Ok(Invocation::Launch(launch)) = jit else {
            panic!("refused")
        };
        assert!(launch.jit);
        assert_eq!((launch.model_path.as_str(), launch.port), ("m", 7));
    }

    #[test]
    fn a_number_that_is_none_is_refused() {
        let text = refused(Dialect::Jit, "launch --model-path m --queue-size many");
        assert!(text.ends_with("Invalid value for '--queue-size': 'many' is not a valid integer."));
    }

    #[test]
    fn help_lists_every_flag_of_the_dialect_at_the_start_of_a_line() {
        for dialect in [Dialect::Jit, Dialect::V181] {
            let text = help(dialect);
            for Flag(name, ..) in flags(dialect) {
                let listed = text
                    .lines()
                    .any(|line| line.split_whitespace().next() == Some(name));
                assert!(listed, "{name}\n{text}");
            }
        }
    }
}
