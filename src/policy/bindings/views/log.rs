//! `hub.log` and `print`: lines in the hub's log, with the position of the call.
//!
//! [`crate::sandbox::flood`] limits their number.

use std::sync::Arc;

use mlua::{Function, Lua, Table, Value, Variadic};

use super::super::stage::Stage;
use super::hub::guarded;
use super::unknown_field;
use crate::sandbox::errors::running_line;
use crate::sandbox::flood::loggable;

/// The functions of `hub.log`.
pub(in crate::policy) const LEVELS: [&str; 3] = ["info", "warn", "error"];

/// `hub.log`.
pub(super) fn create(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<Table> {
    let functions = lua.create_table()?;
    for level in LEVELS {
        functions.set(level, function(lua, stage, level)?)?;
    }
    let unknown = lua.create_function(|_, (_, key): (Value, Value)| {
        Err::<Value, _>(unknown_field("hub.log", &key, LEVELS))
    })?;
    let below = lua.create_table()?;
    below.set("__index", unknown)?;
    functions.set_metatable(Some(below))?;
    let log = lua.create_table()?;
    log.set_metatable(Some(guarded(lua, "hub.log", functions)?))?;
    Ok(log)
}

/// A function that logs its arguments, as `print` shows them, at `level`.
pub(in crate::policy) fn function(
    lua: &Lua,
    stage: &Arc<Stage>,
    level: &'static str,
) -> mlua::Result<Function> {
    let stage = Arc::clone(stage);
    lua.create_function(move |lua, values: Variadic<Value>| {
        let texts = values.iter().map(|value| value.to_string());
        let text = texts.collect::<mlua::Result<Vec<_>>>()?.join("\t");
        // A policy that only logs takes time too.
        stage.limits.check(lua)?;
        if !stage.admits_line() {
            return Ok(());
        }
        let (policy, text) = (running_line(lua), loggable(&text));
        match level {
            "error" => tracing::error!(policy, "{text}"),
            "warn" => tracing::warn!(policy, "{text}"),
            _ => tracing::info!(policy, "{text}"),
        }
        Ok(())
    })
}
