//! Calls of an engine's functions: views in, plain values out.

use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, IntoLua as _, Lua, LuaSerdeExt as _, Table, Value};

use super::{Api, Cli, Engine, KeyType, LaunchOption, Model, read};
use crate::api::shown;
use crate::sandbox::Sandbox;
use crate::sandbox::errors::describe;
use crate::sandbox::wording::{did_you_mean, kind};

/// Time limit of a user's file, and of each call of its functions. The bundled ones end by themselves.
pub(super) const LIMIT: Duration = Duration::from_secs(1);

/// The fields of what functions are given, and of what they return.
pub(super) const MODEL: [&str; 10] = [
    "host",
    "jit_enabled",
    "keys",
    "log_level",
    "mark",
    "name",
    "options",
    "path",
    "port",
    "type",
];
pub(super) const OPTION: [&str; 3] = ["flag", "key", "value"];
pub(super) const CLI: [&str; 3] = ["has", "pass", "takes"];
pub(super) const ANSWER: [&str; 3] = ["argv", "body", "status"];
pub(super) const COMMAND: &[&str] = &[
    "addresses",
    "argv",
    "env",
    "files",
    "hosts",
    "launcher",
    "warnings",
];
pub(super) const CHECK: [&str; 3] = ["problems", "set", "warnings"];
pub(super) const PROBLEM: [&str; 3] = ["hint", "key", "message"];

/// A field that is a value, or a function that returns it.
pub(super) enum Given {
    By(Function),
    Text(String),
    Is(bool),
}

/// The APIs that a program has, or the function that tells them.
pub(super) enum Speaks {
    By(Function),
    Apis(Vec<Api>),
}

/// The functions of one file, in their Lua state.
pub(super) struct Functions {
    pub(super) program: Option<Function>,
    pub(super) command: Function,
    pub(super) ready: Given,
    pub(super) answer: Option<Function>,
    pub(super) name: Option<Given>,
    pub(super) resident: Option<Given>,
    pub(super) speaks: Option<Speaks>,
    pub(super) check: Option<Function>,
    pub(super) sandbox: Sandbox,
}

/// The process that serves a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPlan {
    /// The arguments behind the program.
    pub argv: Vec<String>,
    /// The program that starts the program, with its arguments; empty for none.
    pub launcher: Vec<String>,
    /// The files that it finds in its folder: names and texts.
    pub files: Vec<(String, String)>,
    /// The other machines on which it has processes, as `ssh` knows them.
    pub hosts: Vec<String>,
    /// Where these compute together, each with a port that is closed.
    pub addresses: Vec<String>,
    /// Variables besides those of hub.yaml, which win.
    pub env: Vec<(String, String)>,
    /// Sentences about options that come to nothing.
    pub warnings: Vec<String>,
    /// True if it stays up without the model.
    pub resident: bool,
    /// What the worker calls the model in requests; `None` if it takes any name.
    pub name: Option<String>,
}

/// What an engine says of a model's entry.
#[derive(Debug, Default)]
pub struct Checked {
    /// Keys that it sets where the entry does not.
    pub set: Vec<(String, String)>,
    /// Sentences about things that are legal.
    pub warnings: Vec<String>,
    /// What is wrong.
    pub problems: Vec<Refused>,
}

/// A key that an engine refuses.
#[derive(Debug)]
pub struct Refused {
    /// The key.
    pub key: String,
    /// What is wrong with it.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

/// The answer of a worker that may be ready.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its HTTP status.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
    /// The command line of the worker.
    pub argv: &'a [String],
}

/// What a worker's answer says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// It has its model.
    Loaded,
    /// It is up without it.
    Unloaded,
    /// It is another program.
    Other,
    /// Not to be told yet.
    Unknown,
}

impl Engine {
    /// The process that serves `model`, of a program with these options.
    ///
    /// # Errors
    /// When a function of the file fails, or returns what it may not: one line that begins with `FILE:LINE:`.
    pub fn plan(&self, model: &Model<'_>, cli: &Arc<Cli>) -> Result<WorkerPlan, String> {
        let functions = self.functions.lock();
        let lua = &functions.sandbox.lua;
        let arguments = || -> mlua::Result<(Value, Value)> {
            let model = self.view(lua, model)?.into_lua(lua)?;
            Ok((model, self.cli_view(lua, cli)?.into_lua(lua)?))
        };
        let made = (self.call(&functions, &functions.command, arguments()))?;
        let at = self.place(&functions.command);
        let wrong = |text: String| format!("{at}: {text}");
        let Value::Table(made) = made else {
            let kind = kind(&made);
            return Err(wrong(format!(
                "`command` must return a table like `{{ argv = {{ … }} }}`, it returned {kind}"
            )));
        };
        only("`command`", &made, COMMAND).map_err(wrong)?;
        let argv = texts(&made, "argv").map_err(wrong)?;
        let warnings = texts(&made, "warnings").map_err(wrong)?;
        let env = texts_by_name(&made, "env").map_err(wrong)?;
        let files = files(&made).map_err(wrong)?;
        let name = match &functions.name {
            None | Some(Given::Is(_)) => None,
            Some(Given::Text(text)) => Some(text.clone()),
            Some(Given::By(function)) => match self.call(&functions, function, arguments())? {
                Value::Nil => None,
                Value::String(text) => Some(text.to_string_lossy()),
                other => return Err(self.wrong_result("name", function, "a text or nil", &other)),
            },
        };
        let resident = match &functions.resident {
            None | Some(Given::Text(_)) => false,
            Some(Given::Is(is)) => *is,
            Some(Given::By(function)) => match self.call(&functions, function, arguments())? {
                Value::Nil => false,
                Value::Boolean(is) => is,
                other => {
                    return Err(self.wrong_result("resident", function, "true or false", &other));
                }
            },
        };
        Ok(WorkerPlan {
            argv,
            launcher: texts(&made, "launcher").map_err(wrong)?,
            files,
            hosts: texts(&made, "hosts").map_err(wrong)?,
            addresses: texts(&made, "addresses").map_err(wrong)?,
            env,
            warnings,
            resident,
            name,
        })
    }

    /// The program of a model, and its first arguments: as the file says, which may read the entry.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub fn program_of(&self, model: &Model<'_>) -> Result<Vec<String>, String> {
        let functions = self.functions.lock();
        let Some(function) = &functions.program else {
            return Ok(self.program.clone());
        };
        let returned = self.call_with_model(&functions, function, model)?;
        let words = list(&returned).filter(|words| !words.is_empty());
        words.ok_or_else(|| {
            self.wrong_result(
                "program",
                function,
                "a list that begins with the program",
                &returned,
            )
        })
    }

    /// The APIs that the worker of `model` has; `None` if it describes itself.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub fn speaks(&self, model: &Model<'_>) -> Result<Option<Vec<Api>>, String> {
        let functions = self.functions.lock();
        let function = match &functions.speaks {
            None => return Ok(None),
            Some(Speaks::Apis(apis)) => return Ok(Some(apis.clone())),
            Some(Speaks::By(function)) => function,
        };
        let returned = self.call_with_model(&functions, function, model)?;
        let Some(words) = list(&returned) else {
            let expected = "a list like `{ \"chat\" }`";
            return Err(self.wrong_result("speaks", function, expected, &returned));
        };
        let apis = read::apis(&words);
        apis.map(Some)
            .map_err(|text| format!("{}: {text}", self.place(function)))
    }

    /// What the file says of an entry besides the types of its keys.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub fn check(&self, model: &Model<'_>) -> Result<Checked, String> {
        let functions = self.functions.lock();
        let Some(function) = &functions.check else {
            return Ok(Checked::default());
        };
        let table = match self.call_with_model(&functions, function, model)? {
            Value::Nil => return Ok(Checked::default()),
            Value::Table(table) => table,
            other => return Err(self.wrong_result("check", function, "a table or nil", &other)),
        };
        let at = self.place(function);
        let wrong = |text: String| format!("{at}: {text}");
        only("`check`", &table, &CHECK).map_err(wrong)?;
        let set = texts_by_name(&table, "set").map_err(wrong)?;
        let expected = "each of `problems` must be a table like `{ key = \"…\", message = \"…\", hint = \"…\" }`";
        let mut problems = Vec::new();
        let rows = table.raw_get::<Option<Vec<Table>>>("problems");
        for row in rows
            .map_err(|_| wrong(expected.to_owned()))?
            .unwrap_or_default()
        {
            only("a problem", &row, &PROBLEM).map_err(wrong)?;
            let text = |key: &str| row.raw_get::<Option<String>>(key).ok().flatten();
            let (Some(key), Some(message)) = (text("key"), text("message")) else {
                return Err(wrong(expected.to_owned()));
            };
            problems.push(Refused {
                key,
                message,
                hint: text("hint"),
            });
        }
        Ok(Checked {
            set,
            warnings: texts(&table, "warnings").map_err(wrong)?,
            problems,
        })
    }

    /// The path whose answer says whether a worker is ready.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub fn ready_path(&self, model: &Model<'_>) -> Result<String, String> {
        let functions = self.functions.lock();
        match &functions.ready {
            Given::Text(path) => Ok(path.clone()),
            Given::Is(_) => Ok(String::new()),
            Given::By(function) => match self.call_with_model(&functions, function, model)? {
                Value::String(path) => Ok(path.to_string_lossy()),
                other => Err(self.wrong_result("ready.get", function, "a path", &other)),
            },
        }
    }

    /// What an answer to it says. Without a function in the file, 200 is that of a worker that has its model.
    ///
    /// # Errors
    /// As [`Engine::plan`].
    pub fn understand(&self, answer: &Answer<'_>, model: &Model<'_>) -> Result<Memory, String> {
        let functions = self.functions.lock();
        let Some(function) = &functions.answer else {
            return Ok(match answer.status {
                200 => Memory::Loaded,
                _ => Memory::Unknown,
            });
        };
        let lua = &functions.sandbox.lua;
        let arguments = || -> mlua::Result<(Value, Value)> {
            let view = lua.create_table()?;
            view.set("status", answer.status)?;
            view.set("argv", answer.argv.to_vec())?;
            let body = match serde_json::from_slice::<serde_json::Value>(answer.body) {
                Ok(json) if json.is_object() => lua.to_value(&json)?,
                _ => Value::String(lua.create_string(answer.body)?),
            };
            view.set("body", body)?;
            Ok((view.into_lua(lua)?, self.view(lua, model)?.into_lua(lua)?))
        };
        let said = self.call(&functions, function, arguments())?;
        let word = match &said {
            Value::Nil => return Ok(Memory::Unknown),
            Value::String(word) => word.to_string_lossy(),
            _ => String::new(),
        };
        match &*word {
            "loaded" => Ok(Memory::Loaded),
            "unloaded" => Ok(Memory::Unloaded),
            "other" => Ok(Memory::Other),
            _ => {
                let expected = "\"loaded\", \"unloaded\", \"other\" or nil";
                Err(self.wrong_result("ready.answer", function, expected, &said))
            }
        }
    }

    fn call_with_model(
        &self,
        functions: &Functions,
        function: &Function,
        model: &Model<'_>,
    ) -> Result<Value, String> {
        let lua = &functions.sandbox.lua;
        let view = || Ok((self.view(lua, model)?.into_lua(lua)?, Value::Nil));
        self.call(functions, function, view())
    }

    /// Calls a function of the file within its time.
    fn call(
        &self,
        functions: &Functions,
        function: &Function,
        arguments: mlua::Result<(Value, Value)>,
    ) -> Result<Value, String> {
        let sandbox = &functions.sandbox;
        sandbox.allow(LIMIT);
        let called = arguments.and_then(|arguments| {
            let returned = sandbox.guard.call(function, arguments);
            match sandbox.limits.interrupted() {
                Some(_) => Err(sandbox.limits.overrun(&sandbox.lua)),
                None => returned,
            }
        });
        called.map_err(|error| describe(&error, &self.place(function)))
    }

    /// The place of a function, as `FILE:LINE`.
    fn place(&self, function: &Function) -> String {
        let line = function.info().line_defined.unwrap_or(1);
        format!("{}:{line}", self.file)
    }

    fn wrong_result(
        &self,
        what: &str,
        function: &Function,
        expected: &str,
        found: &Value,
    ) -> String {
        let found = match found {
            Value::String(text) => format!("`{}`", shown(&text.to_string_lossy())),
            other => kind(other).to_owned(),
        };
        let place = self.place(function);
        format!("{place}: `{what}` must return {expected}, it returned {found}")
    }

    /// The view of a model.
    fn view(&self, lua: &Lua, model: &Model<'_>) -> mlua::Result<Table> {
        let view = lua.create_table()?;
        view.set("name", model.name)?;
        view.set("path", model.path)?;
        view.set("type", model.model_type.as_str())?;
        view.set("host", model.host)?;
        view.set("port", model.port)?;
        view.set("log_level", model.log_level)?;
        view.set("mark", model.mark)?;
        view.set("jit_enabled", model.jit_enabled)?;
        let (options, keys) = (lua.create_table()?, lua.create_table()?);
        for option in model.options {
            let one = lua.create_table()?;
            one.set("key", option.key.as_str())?;
            one.set("flag", option.flag())?;
            one.set("value", option.value.as_deref())?;
            options.push(strict(lua, one, "an option", &OPTION.map(str::to_owned))?)?;
            keys.set(option.key.as_str(), self.typed(lua, option)?)?;
        }
        view.set("options", options)?;
        let known: Vec<String> = self.keys.iter().map(|key| key.name.clone()).collect();
        view.set("keys", strict(lua, keys, "model.keys", &known)?)?;
        strict(lua, view, "model", &MODEL.map(str::to_owned))
    }

    /// The value of an option, in its type.
    fn typed(&self, lua: &Lua, option: &LaunchOption) -> mlua::Result<Value> {
        let kind = self.key(&option.key).map(|key| key.kind);
        let Some(text) = &option.value else {
            return Ok(Value::Boolean(true));
        };
        Ok(match kind {
            Some(KeyType::Int(_)) if text.parse::<i64>().is_ok() => {
                Value::Integer(text.parse().unwrap_or_default())
            }
            Some(KeyType::Number) if text.parse::<f64>().is_ok() => {
                Value::Number(text.parse().unwrap_or_default())
            }
            Some(KeyType::Json | KeyType::Command | KeyType::Hosts | KeyType::Hostfile) => {
                lua.to_value(&serde_json::from_str::<serde_json::Value>(text).unwrap_or_default())?
            }
            _ => Value::String(lua.create_string(text)?),
        })
    }

    /// The view of a program's options.
    fn cli_view(&self, lua: &Lua, cli: &Arc<Cli>) -> mlua::Result<Table> {
        let view = lua.create_table()?;
        let of = Arc::clone(cli);
        let has = lua.create_function(move |_, flag: String| Ok(of.has(&flag)))?;
        view.set("has", has)?;
        let of = Arc::clone(cli);
        let takes = lua
            .create_function(move |_, (flag, word): (String, String)| Ok(of.takes(&flag, &word)))?;
        view.set("takes", takes)?;
        let of = Arc::clone(cli);
        let program = self.program.first().map_or("program", String::as_str);
        let program = program.to_owned();
        let pass = lua.create_function(move |_, (argv, options): (Table, Table)| {
            let mut warnings = Vec::new();
            for option in options.sequence_values::<Table>() {
                let option = option?;
                let flag: String = option.get("flag")?;
                if of.has(&flag) {
                    argv.push(flag)?;
                    // Nil, of a switch, adds nothing.
                    argv.push(option.get::<Value>("value")?)?;
                } else {
                    let key: String = option.get("key")?;
                    warnings.push(format!(
                        "`{key}` is ignored, the installed {program} has no `{flag}`"
                    ));
                }
            }
            Ok(warnings)
        })?;
        view.set("pass", pass)?;
        strict(lua, view, "cli", &CLI.map(str::to_owned))
    }
}

/// The table, in which a name that is none of `known` is an error.
fn strict(lua: &Lua, table: Table, what: &'static str, known: &[String]) -> mlua::Result<Table> {
    let known = known.to_vec();
    let missing =
        lua.create_function(move |_, (_, name): (Table, Value)| -> mlua::Result<Value> {
            let name = name.to_string()?;
            if known.contains(&name) {
                return Ok(Value::Nil);
            }
            let hint = did_you_mean(&name, known.iter().map(String::as_str));
            let name = shown(&name);
            Err(mlua::Error::runtime(format!(
                "{what} has no `{name}`{hint}"
            )))
        })?;
    let metatable = lua.create_table()?;
    metatable.set("__index", missing)?;
    metatable.set("__metatable", false)?;
    table.set_metatable(Some(metatable))?;
    Ok(table)
}

/// Refuses the keys of a table that are not in `fields`.
fn only(what: &str, table: &Table, fields: &[&'static str]) -> Result<(), String> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair.map_err(|error| error.to_string())?;
        let key = key.to_string().unwrap_or_default();
        if !fields.contains(&&*key) {
            let hint = did_you_mean(&key, fields.iter().copied());
            return Err(format!(
                "{what} returned `{}`, which it may not{hint}",
                shown(&key)
            ));
        }
    }
    Ok(())
}

/// Texts by name, in the order of their names; empty if there are none.
fn texts_by_name(table: &Table, key: &str) -> Result<Vec<(String, String)>, String> {
    let mut texts = match table.raw_get::<Option<Table>>(key) {
        Ok(None) => Vec::new(),
        Ok(Some(table)) => table
            .pairs::<String, String>()
            .collect::<mlua::Result<Vec<_>>>()
            .map_err(|_| format!("`{key}` must hold texts by name"))?,
        Err(_) => return Err(format!("`{key}` must be a table")),
    };
    texts.sort();
    Ok(texts)
}

/// `files`: names, each with a text, or with a table that becomes JSON.
fn files(made: &Table) -> Result<Vec<(String, String)>, String> {
    let expected = "`files` must hold texts, or tables for JSON, by the names of files";
    let rows = match made.raw_get::<Value>("files") {
        Ok(Value::Nil) => return Ok(Vec::new()),
        Ok(Value::Table(rows)) => rows,
        _ => return Err(expected.to_owned()),
    };
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']);
    let mut files = Vec::new();
    for row in rows.pairs::<String, Value>() {
        let (name, value) = row.map_err(|_| expected.to_owned())?;
        let text = match &value {
            Value::String(text) => Some(text.to_string_lossy()),
            Value::Table(_) => serde_json::to_value(&value).ok().map(|mut json| {
                json.sort_all_objects();
                json.to_string()
            }),
            _ => None,
        };
        match text.filter(|_| is_name(&name)) {
            Some(text) => files.push((name, text)),
            None => return Err(format!("{expected}; `{}` is none", shown(&name))),
        }
    }
    files.sort();
    Ok(files)
}

/// A list of texts; `None` for anything else.
fn list(value: &Value) -> Option<Vec<String>> {
    let Value::Table(words) = value else {
        return None;
    };
    let words = words.sequence_values::<String>();
    words.collect::<mlua::Result<Vec<_>>>().ok()
}

/// A list of texts and numbers; empty if there is none.
fn texts(table: &Table, key: &str) -> Result<Vec<String>, String> {
    let rows = match table.raw_get::<Value>(key) {
        Ok(Value::Nil) if key != "argv" => return Ok(Vec::new()),
        Ok(Value::Table(rows)) => rows,
        _ => return Err(format!("`{key}` must be a list of texts")),
    };
    let mut texts = Vec::new();
    for (index, row) in rows.sequence_values::<Value>().enumerate() {
        match row {
            Ok(Value::String(text)) => texts.push(text.to_string_lossy()),
            Ok(number @ (Value::Integer(_) | Value::Number(_))) => {
                texts.push(number.to_string().unwrap_or_default());
            }
            Ok(other) => {
                let kind = kind(&other);
                return Err(format!(
                    "`{key}` must be a list of texts, item {} is {kind}",
                    index + 1
                ));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    match texts.iter().find(|text| text.contains('\0')) {
        Some(_) => Err(format!(
            "`{key}` has a text with NUL, which no argument may have"
        )),
        None => Ok(texts),
    }
}
