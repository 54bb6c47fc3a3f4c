//! The command line of one model, as an entry of hub.yaml: its engine, the keys of that engine, and the rest.
//!
//! Which options a program has is what its engine says; this module knows only other spellings of them.

use std::sync::{Arc, LazyLock};

use super::{RENAMED, text};
use crate::config::edit::EntryValue;
use crate::config::{command_words, instead_of};
use crate::engine::{Engine, KeyType, ModelType, bundled_engines};

/// What becomes of a command line.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) model_path: String,
    /// The keys besides, with their values.
    pub(super) pairs: Vec<(&'static str, EntryValue)>,
    /// A sentence for each option that is no key.
    pub(super) notes: Vec<String>,
    /// True for a program that has no engine of its own.
    pub(super) is_any_program: bool,
}

static ENGINES: LazyLock<Vec<Arc<Engine>>> = LazyLock::new(|| bundled_engines().collect());

/// Short and other spellings of llama-server's options.
const SPELLINGS: [(&str, &str); 24] = [
    ("-a", "--alias"),
    ("-b", "--batch-size"),
    ("-c", "--ctx-size"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-fa", "--flash-attn"),
    ("-hfr", "--hf-repo"),
    ("-lv", "--verbosity"),
    ("-m", "--model"),
    ("-hf", "--hf-repo"),
    ("-md", "--model-draft"),
    ("-mm", "--mmproj"),
    ("-n", "--predict"),
    ("-ngl", "--n-gpu-layers"),
    ("-np", "--parallel"),
    ("-s", "--seed"),
    ("-t", "--threads"),
    ("-ub", "--ubatch-size"),
    ("--embedding", "--embeddings"),
    ("--gpu-layers", "--n-gpu-layers"),
    ("--n-predict", "--predict"),
    ("--rerank", "--reranking"),
    ("--spec-draft-model", "--model-draft"),
    ("--temperature", "--temp"),
];

/// Reads a command line.
///
/// # Errors
/// With the reason why the hub cannot run it.
pub(super) fn read(command: &str) -> Result<Entry, String> {
    let words = command_words(command).ok_or("its command has a quote that does not end")?;
    let words: Vec<String> = words.into_iter().filter(|word| word != "\\").collect();
    match engine_of(&words) {
        Some((engine, begin)) => of_engine(engine, &words, begin),
        None => of_any_program(&words),
    }
}

/// The engine whose program the words run, and the place of its first argument.
fn engine_of(words: &[String]) -> Option<(&'static Engine, usize)> {
    let plain = |word: &str| word.replace('-', "_");
    let last = |word: &str| plain(word.rsplit('/').next().unwrap_or(word));
    // What runs in a container has ports and paths of its own.
    if matches!(last(words.first()?).as_str(), "docker" | "podman") {
        return None;
    }
    words.iter().enumerate().find_map(|(at, word)| {
        let name = last(word);
        ENGINES.iter().find_map(|engine| {
            let program = engine.program.first()?;
            let is_package = program.split_once('.').is_some_and(|(package, verb)| {
                name == plain(package) && words.get(at + 1).is_some_and(|next| next == verb)
            });
            match name == plain(program) {
                true => Some((&**engine, at + 1)),
                false => is_package.then_some((&**engine, at + 2)),
            }
        })
    })
}

fn of_engine(engine: &'static Engine, words: &[String], begin: usize) -> Result<Entry, String> {
    let mut reading = Reading::new(engine);
    if words[..begin] != engine.program {
        let command = list(&words[..begin]);
        reading.entry.pairs.push(("worker_command", command));
    }
    // `launch`, `serve`
    let help = engine.help.iter().flatten().next();
    let verb = help.filter(|word| !word.starts_with('-'));
    let has_verb = verb.is_some() && words.get(begin) == verb;
    let mut rest = &words[begin + usize::from(has_verb)..];
    while let Some((word, after)) = rest.split_first() {
        let values = after.iter().take_while(|word| !is_option(word)).count();
        let taken = match is_option(word) {
            true => reading.option(word, &after[..values]),
            false => reading.value(word),
        };
        rest = &after[taken..];
    }
    reading.finish()
}

/// True for an option; a negative number is a value.
fn is_option(word: &str) -> bool {
    word.starts_with('-') && word.len() > 1 && word.parse::<f64>().is_err()
}

/// A list within brackets.
fn list(words: &[String]) -> EntryValue {
    match words {
        [word] => text(word),
        words => {
            let words: Vec<String> = words.iter().map(|word| text(word).to_string()).collect();
            EntryValue::Literal(format!("[{}]", words.join(", ")))
        }
    }
}

/// An entry as far as the command line has been read.
struct Reading {
    engine: &'static Engine,
    entry: Entry,
    /// What `extra_args` will have.
    left: Vec<String>,
}

impl Reading {
    fn new(engine: &'static Engine) -> Self {
        let mut entry = Entry::default();
        if !engine.is_default() {
            entry.pairs.push(("engine", text(&engine.name)));
        }
        if engine.types.first() == Some(&ModelType::Multimodal) {
            entry.pairs.push(("model_type", text("multimodal")));
        }
        Self {
            engine,
            entry,
            left: Vec::new(),
        }
    }

    /// Reads a word that belongs to no option; the number of words behind it that it takes.
    fn value(&mut self, word: &str) -> usize {
        match self.entry.model_path.is_empty() {
            true => word.clone_into(&mut self.entry.model_path),
            false => self.leave(&[word.to_owned()]),
        }
        0
    }

    /// Reads an option with the values behind it; how many of them are its own.
    fn option(&mut self, word: &str, values: &[String]) -> usize {
        let joined = word.split_once('=').filter(|_| word.starts_with("--"));
        let (flag, joined) = joined.map_or((word, None), |(flag, value)| (flag, Some(value)));
        let flag = self.spelled(flag);
        let (value, own) = match (joined, values.first()) {
            (Some(value), _) => (Some(value), 0),
            (None, Some(value)) => (Some(value.as_str()), 1),
            (None, None) => (None, 0),
        };
        let key = self.key(flag);
        if let Some((_, KeyType::Switch)) = key
            && joined.is_none()
        {
            self.set(key.map_or("", |(key, _)| key), EntryValue::Flag(true));
            return 0;
        }
        if let Some((key, kind)) = key
            && let Some(value) = value.and_then(|value| read_value(kind, value))
        {
            self.set(key, value);
            return own;
        }
        if self.own(flag, value) {
            return match flag {
                "--embeddings" => 0,
                _ => own,
            };
        }
        let all = match joined {
            Some(_) => 0,
            None => values.len(),
        };
        let mut words = vec![word.to_owned()];
        words.extend_from_slice(&values[..all]);
        match instead_of(self.engine, flag, value) {
            Some(instead) => {
                let words = words.join(" ");
                let why = instead.strip_prefix("remove it: ").unwrap_or(&instead);
                let note = format!("`{words}` is left out: {why}");
                self.entry.notes.push(note);
            }
            None => self.leave(&words),
        }
        all
    }

    /// The option's usual spelling.
    fn spelled<'w>(&self, flag: &'w str) -> &'w str {
        let is_llama = self.engine.name == "llama_server";
        let found = SPELLINGS
            .iter()
            .find(|(other, _)| is_llama && *other == flag);
        found.map_or(flag, |(_, usual)| *usual)
    }

    /// The engine's key for an option.
    fn key(&self, flag: &str) -> Option<(&'static str, KeyType)> {
        let name = flag.strip_prefix("--")?.replace('-', "_");
        let renamed = RENAMED.iter().find(|(theirs, _)| *theirs == name);
        let name = match renamed.filter(|_| self.engine.is_default()) {
            Some((_, ours)) => ours,
            None => name.as_str(),
        };
        let key = self.engine.key(name)?;
        (key.kind != KeyType::Refused).then_some((key.name.as_str(), key.kind))
    }

    /// Sets a key; the last of two options wins, and lists are joined.
    fn set(&mut self, key: &'static str, value: EntryValue) {
        let there = self.entry.pairs.iter_mut().find(|(known, _)| *known == key);
        match (there, value) {
            (Some((_, EntryValue::Literal(there))), EntryValue::Literal(more))
                if there.starts_with('[') && more.starts_with('[') =>
            {
                let before = there.trim_end_matches(']');
                *there = format!("{before}, {}", more.trim_start_matches('['));
            }
            (Some((_, there)), value) => *there = value,
            (None, value) => self.entry.pairs.push((key, value)),
        }
    }

    /// Reads an option that a key of every model, or the hub itself, stands for; true if it is one.
    fn own(&mut self, flag: &str, value: Option<&str>) -> bool {
        let mut reserved = self.engine.reserved.iter();
        let instead = reserved.find(|(known, _)| known == flag);
        let key = instead.map_or("", |(_, key)| key.as_str());
        match (key, value) {
            ("model_path", Some(path)) => path.clone_into(&mut self.entry.model_path),
            ("host" | "port", Some(_)) => {}
            // Requests use the model's name.
            _ if matches!(flag, "--alias" | "--served-model-name") => {}
            _ if flag == "--embeddings" && self.serves("embeddings") => {
                self.set("model_type", text("embeddings"));
            }
            ("jit_enabled: true", _) => {}
            ("model_type", Some(word)) if self.serves(word) => self.set("model_type", text(word)),
            ("log_level", Some(level)) if is_level(level) => self.set("log_level", text(level)),
            ("context_length", Some(tokens)) => {
                let Some(tokens) = read_value(KeyType::Int(1), tokens) else {
                    return false;
                };
                self.set("context_length", tokens);
            }
            _ => return false,
        }
        true
    }

    fn serves(&self, word: &str) -> bool {
        self.engine.types.iter().any(|kind| kind.as_str() == word)
    }

    /// Keeps an option that has no key.
    fn leave(&mut self, words: &[String]) {
        let shown = words.join(" ");
        if shown.contains("${") {
            let note = format!("`{shown}` is left out: nothing here stands for its `${{…}}`");
            return self.entry.notes.push(note);
        }
        self.entry.notes.push(format!(
            "`{shown}` is no key of engine `{}`; `extra_args` passes it on",
            self.engine.name
        ));
        self.left.extend_from_slice(words);
    }

    fn finish(mut self) -> Result<Entry, String> {
        let path = &self.entry.model_path;
        if path.is_empty() {
            return Err("its command names no model".to_owned());
        }
        if path.contains("${") {
            return Err(format!("nothing here stands for its `{path}`"));
        }
        let has = |key: &str| self.entry.pairs.iter().any(|(known, _)| *known == key);
        let (has_type, has_reranking) = (has("model_type"), has("reranking"));
        if (has("mmproj") || has("mllm")) && !has_type {
            self.set("model_type", text("multimodal"));
        }
        // llama-server ranks without `--embeddings` as with it.
        if has_reranking && !has_type {
            self.set("model_type", text("embeddings"));
        }
        if !self.left.is_empty() {
            let words = self.left.iter().map(|word| text(word).to_string());
            let words: Vec<String> = words.collect();
            let list = EntryValue::Literal(format!("[{}]", words.join(", ")));
            self.entry.pairs.push(("extra_args", list));
        }
        Ok(self.entry)
    }
}

/// A word as the value of a key; `None` if it is none.
fn read_value(kind: KeyType, word: &str) -> Option<EntryValue> {
    if word.contains("${") {
        return None;
    }
    match kind {
        KeyType::Int(low) => {
            let number = word.parse::<u64>().ok().filter(|number| *number >= low)?;
            Some(EntryValue::Number(i64::try_from(number).ok()?))
        }
        KeyType::Number => {
            let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(|_| EntryValue::Literal(word.to_owned()))
        }
        KeyType::Json => {
            let json: serde_json::Value = serde_json::from_str(word).ok()?;
            Some(EntryValue::Literal(json.to_string()))
        }
        KeyType::Paths | KeyType::Numbers => {
            let items: Vec<String> = word.split(',').map(|item| text(item).to_string()).collect();
            Some(EntryValue::Literal(format!("[{}]", items.join(", "))))
        }
        KeyType::Switch => word.parse().ok().map(EntryValue::Flag),
        KeyType::Text | KeyType::Path | KeyType::NewPath | KeyType::PathOrId => Some(text(word)),
        KeyType::Command | KeyType::Hosts | KeyType::Hostfile | KeyType::Refused => None,
    }
}

fn is_level(word: &str) -> bool {
    let levels = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
    levels.iter().any(|level| level.eq_ignore_ascii_case(word))
}

/// A program without an engine of its own: the engine `command` runs it as it is written.
fn of_any_program(words: &[String]) -> Result<Entry, String> {
    if !words.iter().any(|word| word.contains("${PORT}")) {
        return Err("its command has no `${PORT}`, and the hub chooses the ports".to_owned());
    }
    if words.iter().any(|word| has_field(word)) {
        return Err("its command has braces that the engine `command` would fill".to_owned());
    }
    let path = words
        .iter()
        .zip(words.iter().skip(1))
        .find_map(|(flag, value)| {
            let is_model = matches!(flag.as_str(), "--model" | "--model-path" | "-m");
            is_model.then(|| value.clone())
        });
    let model_path = path.unwrap_or_else(|| words[0].clone());
    let filled: Vec<String> = words
        .iter()
        .map(|word| word.replace("${PORT}", "{port}"))
        .collect();
    if let Some(word) = filled.iter().find(|word| word.contains("${")) {
        return Err(format!("nothing here stands for its `{word}`"));
    }
    let pairs = vec![("engine", text("command")), ("command", list(&filled))];
    Ok(Entry {
        model_path,
        pairs,
        notes: Vec::new(),
        is_any_program: true,
    })
}

/// True for a word in braces, but not of a macro.
fn has_field(word: &str) -> bool {
    let parts = word.split('{').collect::<Vec<_>>();
    parts.windows(2).any(|pair| {
        let inner = pair[1].split_once('}').map_or("", |(inner, _)| inner);
        let is_name = |letter: char| letter.is_ascii_alphabetic() || letter == '_';
        !pair[0].ends_with('$') && !inner.is_empty() && inner.chars().all(is_name)
    })
}
