//! The entry of hub.yaml for a model, as `add` and `init` write it.

use super::render::Out;
use crate::config::ModelType;
use crate::config::edit::{EntryValue, NewEntry};
use crate::model_files::Parsers;
use crate::worker::dialect::Dialect;

/// The settings of a new entry; those that are unset are not written.
#[derive(Debug, Default)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a str,
    pub(super) model_path: &'a str,
    pub(super) model_type: ModelType,
    pub(super) group: Option<&'a str>,
    pub(super) default: bool,
    pub(super) jit: bool,
    /// Minutes.
    pub(super) auto_unload: Option<u32>,
    /// Tokens.
    pub(super) context_length: Option<u32>,
    /// Keys and parsers, of [`known_parsers`].
    pub(super) parsers: &'a [(&'static str, &'static str)],
}

impl Entry<'_> {
    /// Its keys, in the usual order.
    pub(super) fn written(&self) -> NewEntry {
        let text = |text: &str| EntryValue::Text(text.to_owned());
        let number = |number: u32| EntryValue::Number(number.into());
        let on = |is_on: bool| is_on.then_some(EntryValue::Flag(true));
        let has_type = self.model_type != ModelType::Lm;
        let pairs = [
            ("name", Some(text(self.name))),
            ("model_path", Some(text(self.model_path))),
            (
                "model_type",
                has_type.then(|| text(self.model_type.as_str())),
            ),
            ("group", self.group.map(text)),
            ("default", on(self.default)),
            ("jit_enabled", on(self.jit)),
            ("auto_unload_minutes", self.auto_unload.map(number)),
            ("context_length", self.context_length.map(number)),
        ];
        let calls_tools = self
            .parsers
            .iter()
            .any(|(key, _)| *key == "tool_call_parser");
        let pairs = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        let choice = on(calls_tools).map(|on| ("enable_auto_tool_choice", on));
        let parsers = self
            .parsers
            .iter()
            .map(|(key, parser)| (*key, text(parser)));
        NewEntry(pairs.chain(choice).chain(parsers).collect())
    }
}

/// The guessed parsers that the worker knows, told with their reasons.
pub(super) fn known_parsers(
    guesses: Parsers,
    dialect: Option<&Dialect>,
    out: &mut Out,
) -> Vec<(&'static str, &'static str)> {
    let guesses = [
        ("tool_call_parser", guesses.tool_call),
        ("reasoning_parser", guesses.reasoning),
    ];
    let guesses = guesses
        .into_iter()
        .filter_map(|(key, guess)| Some((key, guess?)));
    let mut known = Vec::new();
    for (key, guess) in guesses {
        let flag = format!("--{}", key.replace('_', "-"));
        if dialect.is_none_or(|dialect| dialect.takes(&flag, guess.parser)) {
            out.info(format_args!("{key}: {}, since {}", guess.parser, guess.why));
            known.push((key, guess.parser));
        } else {
            out.warn(format_args!(
                "{key} is left out: {} ({}) is none that the installed worker knows",
                guess.parser, guess.why
            ));
        }
    }
    known
}
