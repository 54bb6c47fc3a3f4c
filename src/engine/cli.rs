//! The options that a program lists in its help.

use std::collections::{BTreeMap, BTreeSet};

use anstream::adapter::strip_str;

/// The options of one program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cli {
    flags: BTreeSet<String>,
    /// The words that a flag takes, where the help lists them: `--log-level [DEBUG|INFO]`.
    choices: BTreeMap<String, BTreeSet<String>>,
}

impl Cli {
    /// Reads the help of a program, which may be coloured.
    pub fn from_help(help: &str) -> Self {
        // A worker that takes its output for a terminal may colour its options.
        let help = strip_str(help).to_string();
        let flags = help
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .filter(|word| word.len() > 2 && word.starts_with("--"))
            .map(str::to_owned)
            .collect();
        let choices = choices(&help);
        Self { flags, choices }
    }

    /// True if the program lists that option.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// True if the program lists that option and takes that word for it.
    pub fn takes(&self, flag: &str, word: &str) -> bool {
        let choices = self.choices.get(flag);
        self.has(flag) && choices.is_none_or(|words| words.contains(word))
    }
}

/// The lists of words behind flags: in brackets with bars between them, or in braces with commas.
fn choices(help: &str) -> BTreeMap<String, BTreeSet<String>> {
    let flags = help.split("--").skip(1);
    flags
        .filter_map(|rest| {
            let (flag, rest) = rest.split_once(char::is_whitespace)?;
            let rest = rest.trim_start();
            let within = |open: char, close: char| {
                let (words, _) = rest.strip_prefix(open)?.split_once(close)?;
                Some(words)
            };
            let words: Vec<&str> = match within('[', ']') {
                Some(words) => words.split('|').collect(),
                None => within('{', '}')?.split(',').collect(),
            };
            let words = words.into_iter().map(|word| word.trim().to_owned());
            Some((format!("--{flag}"), words.collect()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Options:\n  --model-path TEXT  [required]\n  --port INTEGER\n  --jit / --no-jit  Load\n  \
                        --log-level [DEBUG|INFO]\n  --help";

    #[test]
    fn options_in_colour_are_understood() {
        let coloured = HELP
            .replace("--", "\u{1b}[1;36m-\u{1b}[0m\u{1b}[1;36m-")
            .replace("  Load", "\u{1b}[0m\u{1b}]8;;http://x\u{7}  Load");
        assert_eq!(Cli::from_help(&coloured), Cli::from_help(HELP));
        assert!(Cli::from_help(HELP).has("--no-jit"));
    }

    #[test]
    fn words_that_the_help_does_not_list_are_not_taken() {
        let cli = Cli::from_help(HELP);
        assert!(cli.takes("--log-level", "INFO") && !cli.takes("--log-level", "LOUD"));
        assert!(cli.takes("--model-path", "any") && !cli.takes("--reasoning-parser", "qwen3"));
        let wide = "--model-path --tool-call-parser [hermes|\n    qwen3]\n --reasoning-parser X [default: x]";
        let wide = Cli::from_help(wide);
        assert!(wide.takes("--tool-call-parser", "qwen3"));
        assert!(wide.takes("--reasoning-parser", "any"));
        let argparse = "  [--log-level {DEBUG,INFO}]\n  --log-level {DEBUG,INFO}\n";
        let argparse = Cli::from_help(argparse);
        assert!(argparse.takes("--log-level", "DEBUG") && !argparse.takes("--log-level", "LOUD"));
    }
}
