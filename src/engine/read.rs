//! From the table that a file returns to an [`Engine`].

use mlua::{Function, Table, Value};
use parking_lot::Mutex;

use super::call::{Functions, Given, LIMIT, Speaks};
use super::keys::{Key, KeyType};
use super::{Api, Engine, ModelType, Request};
use crate::api::shown;
use crate::sandbox::Sandbox;
use crate::sandbox::errors::{at_place, describe};
use crate::sandbox::wording::{did_you_mean, kind};

/// The keys of the table that a file returns.
const FIELDS: [&str; 17] = [
    "check", "command", "fails", "help", "install", "keys", "lists", "load", "name", "program",
    "ready", "refuses", "reserved", "resident", "spares", "speaks", "types",
];
const READY: [&str; 2] = ["answer", "get"];
const LOAD: [&str; 3] = ["body", "get", "post"];
const KEY: [&str; 3] = ["also", "hint", "min"];

/// The names that files see and return, by the class that `scripts/types/engine.lua` gives them; for the test
/// that compares the two.
pub fn bound_names() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("engine", FIELDS.to_vec()),
        ("engineready", READY.to_vec()),
        ("engineload", LOAD.to_vec()),
        ("enginemodel", super::call::MODEL.to_vec()),
        ("engineoption", super::call::OPTION.to_vec()),
        ("enginecli", super::call::CLI.to_vec()),
        ("enginecommand", super::call::COMMAND.to_vec()),
        ("engineanswer", super::call::ANSWER.to_vec()),
        ("enginecheck", super::call::CHECK.to_vec()),
        ("engineproblem", super::call::PROBLEM.to_vec()),
    ]
}

/// The words that fields hold, by the alias that `scripts/types/engine.lua` gives them.
pub fn bound_words() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("EngineType", ModelType::ALL.map(ModelType::as_str).to_vec()),
        ("EngineApi", Api::ALL.map(Api::as_str).to_vec()),
        ("EngineKey", KeyType::WORDS.map(|(word, _)| word).to_vec()),
    ]
}

/// A mistake in the table, at the line of that field.
struct Wrong {
    field: String,
    /// The field whose line it is if that one has none of its own.
    within: &'static str,
    text: String,
}

impl Wrong {
    fn new(field: &str, text: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            within: "",
            text: text.into(),
        }
    }

    fn within(self, within: &'static str) -> Self {
        Self { within, ..self }
    }
}

/// Runs a file and checks what it returns.
///
/// # Errors
/// One line that begins with `FILE:LINE:`.
pub(super) fn engine(
    name: &str,
    file: &str,
    source: &str,
    is_bundled: bool,
) -> Result<Engine, String> {
    let lua_error = |error: &mlua::Error| describe(error, &format!("{file}:1"));
    let sandbox = Sandbox::new().map_err(|error| lua_error(&error))?;
    if is_bundled {
        let lifted = sandbox.limits.lift(&sandbox.lua);
        lifted.map_err(|error| lua_error(&error))?;
    }
    sandbox.allow(LIMIT);
    let returned = sandbox
        .lua
        .create_table()
        .and_then(|own| sandbox.run(own, file, source.as_bytes()))
        .and_then(|returned| match sandbox.limits.interrupted() {
            Some(_) => Err(sandbox.limits.overrun(&sandbox.lua)),
            None => Ok(returned),
        })
        .map_err(|error| match sandbox.limits.interrupted() {
            Some(_) => at_place(&error, &format!("{file}:1"), &sandbox.limits.overrun_text()),
            None => lua_error(&error),
        })?;
    let Value::Table(table) = returned else {
        let kind = kind(&returned);
        return Err(format!(
            "{file}:1: an engine returns a table ({}), this one returned {kind}",
            FIELDS.join(", ")
        ));
    };
    let fields = Fields(table);
    fields
        .engine(sandbox)
        .map(|engine| Engine {
            name: name.to_owned(),
            file: file.to_owned(),
            is_bundled,
            source: source.to_owned(),
            ..engine
        })
        .map_err(|wrong| {
            let line = line_of(source, &wrong.field).or_else(|| line_of(source, wrong.within));
            format!("{file}:{}: {}", line.unwrap_or(1), wrong.text)
        })
}

/// The number of the line on which a field of that name begins, or a row with that name.
fn line_of(source: &str, field: &str) -> Option<usize> {
    let begins = |line: &str| {
        let line = line.trim_start();
        let rest = line.strip_prefix(field);
        let row = line.strip_prefix('{').map(str::trim_start);
        let row = row.and_then(|row| row.strip_prefix(['"', '\'']));
        let is_row = row.and_then(|row| row.strip_prefix(field));
        is_row.is_some_and(|rest| rest.starts_with(['"', '\'']))
            || rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    // The last one: the table that a file returns ends it.
    let found = source.lines().enumerate().filter(|(_, line)| begins(line));
    found.last().map(|(index, _)| index + 1)
}

/// The table that a file returns.
struct Fields(Table);

impl Fields {
    fn engine(self, sandbox: Sandbox) -> Result<Engine, Wrong> {
        known("an engine", &self.0, &FIELDS)?;
        let program = match self.value("program")? {
            Value::Function(function) => (Vec::new(), Some(function)),
            Value::Nil => {
                return Err(Wrong::new(
                    "program",
                    "`program` is missing: name the program, `program = { \"NAME\" }`",
                ));
            }
            value => (words("program", &value)?, None),
        };
        let Value::Function(command) = self.value("command")? else {
            return Err(Wrong::new(
                "command",
                "`command` must be a function that returns `{ argv = { … } }`",
            ));
        };
        let (ready, answer) = self.ready()?;
        let functions = Functions {
            program: program.1,
            command,
            ready,
            answer,
            name: self.given("name")?,
            resident: self.given("resident")?,
            speaks: self.speaks()?,
            check: self.function("check")?,
            sandbox,
        };
        Ok(Engine {
            name: String::new(),
            file: String::new(),
            is_bundled: false,
            source: String::new(),
            program: program.0,
            install: self.words("install")?.unwrap_or_default(),
            help: self.words("help")?,
            lists: self.words("lists")?.unwrap_or_default(),
            types: self.types()?,
            refuses: self.words("refuses")?.unwrap_or_default(),
            keys: self.keys()?,
            reserved: self.reserved()?,
            load: self.load()?,
            fails: self.text("fails")?,
            spares: self.spares()?,
            functions: Mutex::new(functions),
        })
    }

    fn value(&self, field: &str) -> Result<Value, Wrong> {
        self.0
            .raw_get(field)
            .map_err(|error| Wrong::new(field, error.to_string()))
    }

    fn words(&self, field: &str) -> Result<Option<Vec<String>>, Wrong> {
        match self.value(field)? {
            Value::Nil => Ok(None),
            value => words(field, &value).map(Some),
        }
    }

    fn text(&self, field: &str) -> Result<Option<String>, Wrong> {
        match self.value(field)? {
            Value::Nil => Ok(None),
            Value::String(text) if !text.as_bytes().is_empty() => Ok(Some(text.to_string_lossy())),
            other => Err(must_be(field, "a text", &other)),
        }
    }

    fn function(&self, field: &str) -> Result<Option<Function>, Wrong> {
        match self.value(field)? {
            Value::Nil => Ok(None),
            Value::Function(function) => Ok(Some(function)),
            other => Err(must_be(field, "a function", &other)),
        }
    }

    /// A value or a function.
    fn given(&self, field: &str) -> Result<Option<Given>, Wrong> {
        Ok(match self.value(field)? {
            Value::Nil => None,
            Value::Function(function) => Some(Given::By(function)),
            Value::String(text) if field == "name" => Some(Given::Text(text.to_string_lossy())),
            Value::Boolean(is) if field == "resident" => Some(Given::Is(is)),
            other => {
                let expected = match field {
                    "name" => "a text or a function",
                    _ => "true, false or a function",
                };
                return Err(must_be(field, expected, &other));
            }
        })
    }

    fn spares(&self) -> Result<bool, Wrong> {
        match self.value("spares")? {
            Value::Nil => Ok(true),
            Value::Boolean(has) => Ok(has),
            other => Err(must_be("spares", "true or false", &other)),
        }
    }

    fn types(&self) -> Result<Vec<ModelType>, Wrong> {
        let Some(written) = self.words("types")? else {
            return Ok(ModelType::ALL.to_vec());
        };
        let all = ModelType::ALL.map(ModelType::as_str);
        of_words("types", "type of model", &written, &all, ModelType::of)
    }

    /// `speaks`: a list, or the function that gives it.
    fn speaks(&self) -> Result<Option<Speaks>, Wrong> {
        let written = match self.value("speaks")? {
            Value::Nil => return Ok(None),
            Value::Function(function) => return Ok(Some(Speaks::By(function))),
            value => words("speaks", &value)?,
        };
        apis(&written)
            .map(Speaks::Apis)
            .map(Some)
            .map_err(|text| Wrong::new("speaks", text))
    }

    /// `ready`: a path or the function that gives it, and the function of its answer.
    fn ready(&self) -> Result<(Given, Option<Function>), Wrong> {
        let field = "ready";
        let table = match self.value(field)? {
            Value::Table(table) => table,
            other => {
                return Err(must_be(
                    field,
                    "a table like `{ get = \"/health\" }`",
                    &other,
                ));
            }
        };
        known("`ready`", &table, &READY).map_err(|wrong| Wrong::new(field, wrong.text))?;
        let of = |key: &str| {
            table
                .raw_get::<Value>(key)
                .map_err(|error| Wrong::new(field, error.to_string()))
        };
        let get = match of("get")? {
            Value::String(path) => Given::Text(path.to_string_lossy()),
            Value::Function(function) => Given::By(function),
            other => return Err(must_be("ready.get", "a path like \"/health\"", &other)),
        };
        match of("answer")? {
            Value::Nil => Ok((get, None)),
            Value::Function(function) => Ok((get, Some(function))),
            other => Err(must_be("ready.answer", "a function", &other)),
        }
    }

    fn load(&self) -> Result<Option<Request>, Wrong> {
        let field = "load";
        let expected = "a table like `{ get = \"/path\" }` or `{ post = \"/path\", body = { … } }`";
        let table = match self.value(field)? {
            Value::Nil => return Ok(None),
            Value::Table(table) => table,
            other => return Err(must_be(field, expected, &other)),
        };
        known("`load`", &table, &LOAD).map_err(|wrong| Wrong::new(field, wrong.text))?;
        let wrong = || Wrong::new(field, format!("`load` must be {expected}"));
        let text = |key: &str| table.raw_get::<Option<String>>(key).map_err(|_| wrong());
        match (text("get")?, text("post")?) {
            (Some(path), None) => Ok(Some(Request::Get(path))),
            (None, Some(path)) => {
                let body = table.raw_get::<Value>("body").map_err(|_| wrong())?;
                let body = serde_json::to_string(&body).map_err(|_| wrong())?;
                Ok(Some(Request::Post(path, body)))
            }
            _ => Err(wrong()),
        }
    }

    fn reserved(&self) -> Result<Vec<(String, String)>, Wrong> {
        let field = "reserved";
        let table = match self.value(field)? {
            Value::Nil => return Ok(Vec::new()),
            Value::Table(table) => table,
            other => return Err(must_be(field, "a table", &other)),
        };
        let mut reserved = Vec::new();
        for pair in table.pairs::<Value, Value>() {
            let Ok((Value::String(flag), Value::String(instead))) = pair else {
                let expected = "`reserved` holds options, each with the key to use instead: `[\"--port\"] = \"port\"`";
                return Err(Wrong::new(field, expected));
            };
            reserved.push((flag.to_string_lossy(), instead.to_string_lossy()));
        }
        reserved.sort();
        Ok(reserved)
    }

    /// `keys`: those with a number in their order, then the others by name.
    fn keys(&self) -> Result<Vec<Key>, Wrong> {
        let field = "keys";
        let table = match self.value(field)? {
            Value::Nil => return Ok(Vec::new()),
            Value::Table(table) => table,
            other => return Err(must_be(field, "a table", &other)),
        };
        let wrong = |error: mlua::Error| Wrong::new(field, error.to_string());
        let mut keys = Vec::new();
        for row in table.sequence_values::<Value>() {
            let row = row.map_err(wrong)?;
            let name = match &row {
                Value::Table(row) => row.raw_get::<Option<String>>(1).ok().flatten(),
                _ => None,
            };
            let name = name.ok_or_else(|| {
                let expected = "a key without a name is a table that begins with it: `{ \"max_tokens\", \"int\" }`";
                Wrong::new(field, expected)
            })?;
            keys.push(key(&name, &row, 2).map_err(|wrong| wrong.within(field))?);
        }
        let mut named = Vec::new();
        for pair in table.pairs::<Value, Value>() {
            if let (Value::String(name), value) = pair.map_err(wrong)? {
                let read = key(&name.to_string_lossy(), &value, 1);
                named.push(read.map_err(|wrong| wrong.within(field))?);
            }
        }
        named.sort_by(|one, other| one.name.cmp(&other.name));
        keys.append(&mut named);
        let is_name = |name: &str| {
            let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(is_letter)
        };
        match keys.iter().find(|key| !is_name(&key.name)) {
            Some(odd) => {
                let name = shown(&odd.name);
                let text =
                    format!("`keys` has `{name}`: a key is written in lower case, digits and `_`");
                Err(Wrong::new(field, text))
            }
            None => Ok(keys),
        }
    }
}

/// One of `keys`: a word, or a table that has the word at `at`.
fn key(name: &str, value: &Value, at: usize) -> Result<Key, Wrong> {
    let words = KeyType::WORDS.map(|(word, _)| word);
    let (word, table) = match value {
        Value::String(word) => (Some(word.to_string_lossy()), None),
        Value::Table(table) => (table.raw_get(at).ok().flatten(), Some(table)),
        _ => (None, None),
    };
    let known = word.as_deref().and_then(|word| {
        let found = KeyType::WORDS.iter().find(|(known, _)| *known == word);
        found.map(|(_, kind)| *kind)
    });
    let Some(kind) = known else {
        let (name, word) = (shown(name), word.unwrap_or_default());
        let hint = choices(&word, &words);
        let text = format!(
            "key `{name}` has `{}`, which is no type of keys{hint}",
            shown(&word)
        );
        return Err(Wrong::new(&name, text));
    };
    let mut key = Key {
        name: name.to_owned(),
        kind,
        also: None,
        hint: None,
    };
    if let Some(table) = table {
        for pair in table.pairs::<Value, Value>() {
            let Ok((Value::String(option), value)) = pair else {
                continue;
            };
            let option = option.to_string_lossy();
            match (&*option, value, key.kind) {
                ("min", Value::Integer(min), KeyType::Int(_)) if min >= 0 => {
                    key.kind = KeyType::Int(min.unsigned_abs());
                }
                ("also", Value::String(also), _) => key.also = Some(also.to_string_lossy()),
                ("hint", Value::String(hint), _) => key.hint = Some(hint.to_string_lossy()),
                _ => {
                    let text = format!(
                        "key `{}` has `{}`, which is none of: `min` (of an int), `also` and `hint` (texts){}",
                        shown(name),
                        shown(&option),
                        did_you_mean(&option, KEY)
                    );
                    return Err(Wrong::new(name, text));
                }
            }
        }
    }
    Ok(key)
}

/// Refuses the keys of a table that are not in `fields`.
fn known(what: &str, table: &Table, fields: &[&'static str]) -> Result<(), Wrong> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair.map_err(|error| Wrong::new("", error.to_string()))?;
        let key = key.to_string().unwrap_or_default();
        if !fields.contains(&&*key) {
            let text = format!("{what} has no `{}`{}", shown(&key), choices(&key, fields));
            return Err(Wrong::new(&key, text));
        }
    }
    Ok(())
}

fn must_be(field: &str, expected: &str, value: &Value) -> Wrong {
    let line = field.split('.').next().unwrap_or(field);
    let kind = kind(value);
    Wrong::new(line, format!("`{field}` must be {expected}, it is {kind}"))
}

/// A list of texts, or a single one.
fn words(field: &str, value: &Value) -> Result<Vec<String>, Wrong> {
    let wrong = || must_be(field, "a list of texts", value);
    match value {
        Value::String(text) => Ok(vec![text.to_string_lossy()]),
        Value::Table(table) => {
            let words = table.sequence_values::<String>();
            let words = words.collect::<mlua::Result<Vec<_>>>();
            words.map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

/// The word that a wrong one was meant to be, or else all of them.
fn choices(word: &str, all: &[&'static str]) -> String {
    match did_you_mean(word, all.iter().copied()) {
        hint if hint.is_empty() => format!("; there are: {}", all.join(", ")),
        hint => hint,
    }
}

/// The APIs of `speaks`.
///
/// # Errors
/// A sentence about a word that is none.
pub(super) fn apis(written: &[String]) -> Result<Vec<Api>, String> {
    let all = Api::ALL.map(Api::as_str);
    let of = |word: &str| Api::ALL.into_iter().find(|api| api.as_str() == word);
    of_words("speaks", "API", written, &all, of).map_err(|wrong| wrong.text)
}

/// Words of a list, each of which is one of `all`.
fn of_words<T>(
    field: &str,
    what: &str,
    written: &[String],
    all: &[&'static str],
    of: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Wrong> {
    let one = |word: &String| {
        of(word).ok_or_else(|| {
            let hint = choices(word, all);
            let text = format!("`{field}` has `{}`, which is no {what}{hint}", shown(word));
            Wrong::new(field, text)
        })
    };
    written.iter().map(one).collect()
}
