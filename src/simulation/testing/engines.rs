//! `test.engine{…}`: the process that an engine makes of a model's entry, without starting anything.

use std::path::Path;
use std::sync::Arc;

use mlua::{Lua, LuaSerdeExt as _, Table, Value};

use crate::config::{Config, ConfigError, ModelConfig};
use crate::engine::{Answer, Api, Cli, Memory};
use crate::policy::Fields;

/// The fields of the table that it takes, and of the one that it returns.
pub(super) const TAKES: &[&str] = &["entry", "help", "port"];
pub(super) const GIVES: &[&str] = &[
    "addresses",
    "answer",
    "argv",
    "command",
    "config_warnings",
    "env",
    "files",
    "hosts",
    "name",
    "ready",
    "resident",
    "speaks",
    "warnings",
];

/// The port of a worker whose test names none.
const PORT: u16 = 47_850;

/// The mark of a worker, whatever the machine is called on which the test runs.
const MARK: &str = "mark";

/// The configuration with that entry as its only model, as hub.yaml beside `file` would have it.
pub(super) fn config(
    lua: &Lua,
    fields: &Fields<'_>,
    place: &Path,
) -> mlua::Result<Result<Config, ConfigError>> {
    let entry: Table = fields.required("entry", "a table like a model's entry")?;
    let entry = lua.from_value::<serde_json::Value>(Value::Table(entry))?;
    let yaml = serde_json::json!({"models": [entry]});
    Ok(Config::parse(place, &yaml.to_string()))
}

/// What becomes of the only model of `config`.
pub(super) fn worker(lua: &Lua, fields: &Fields<'_>, config: Config) -> mlua::Result<Table> {
    let help: Option<String> = fields.get("help", "the text of a help")?;
    let port = fields.get::<u16>("port", "a port")?.unwrap_or(PORT);
    let cli = Arc::new(Cli::from_help(&help.unwrap_or_default()));
    let warnings = config.warnings;
    let Some(model) = config.models.into_iter().next() else {
        return lua.create_table();
    };
    let failed = |problem: String| fields.error(problem);
    let entry = crate::engine::Model {
        mark: MARK,
        ..model.for_engine(port)
    };
    let plan = model.engine.plan(&entry, &cli).map_err(failed)?;
    let ready = model.engine.ready_path(&entry).map_err(failed)?;
    let mut argv = plan.launcher;
    argv.extend(model.worker_command.iter().cloned());
    argv.extend(plan.argv);
    argv.extend(model.extra_args.iter().cloned());
    let worker = lua.create_table()?;
    worker.set("command", argv.join(" "))?;
    worker.set("argv", argv.clone())?;
    worker.set("env", lua.create_table_from(plan.env)?)?;
    worker.set("files", lua.create_table_from(plan.files)?)?;
    worker.set("hosts", plan.hosts)?;
    worker.set("addresses", plan.addresses)?;
    worker.set("warnings", plan.warnings)?;
    worker.set("config_warnings", warnings)?;
    worker.set("resident", plan.resident)?;
    let speaks = model.engine.speaks(&entry).map_err(failed)?;
    let words = |apis: Vec<Api>| apis.into_iter().map(Api::as_str).collect::<Vec<_>>();
    worker.set("speaks", speaks.map(words))?;
    worker.set("name", plan.name)?;
    worker.set("ready", ready)?;
    worker.set("answer", answer(lua, model, port, argv)?)?;
    Ok(worker)
}

/// The function that says what an answer of the worker means.
fn answer(
    lua: &Lua,
    model: ModelConfig,
    port: u16,
    argv: Vec<String>,
) -> mlua::Result<mlua::Function> {
    lua.create_function(move |lua, (status, body): (u16, Value)| {
        let body = match body {
            Value::Nil => Vec::new(),
            Value::String(text) => text.as_bytes().to_vec(),
            other => lua
                .from_value::<serde_json::Value>(other)?
                .to_string()
                .into_bytes(),
        };
        let answer = Answer {
            status,
            body: &body,
            argv: &argv,
        };
        let said = model.engine.understand(&answer, &model.for_engine(port));
        Ok(match said.map_err(mlua::Error::runtime)? {
            Memory::Loaded => Some("loaded"),
            Memory::Unloaded => Some("unloaded"),
            Memory::Other => Some("other"),
            Memory::Unknown => None,
        })
    })
}
