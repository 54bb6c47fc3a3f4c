//! Calls of a policy's functions whose errors cannot be larger than what is told of them.
//!
//! An error is any value, a text of many megabytes or a table that makes one. mlua copies it several times, and
//! joins it to a traceback, after the call and its time limit have ended. So `xpcall` makes a text of it where it
//! was raised: a short one, with the place.

use std::sync::Arc;

use mlua::{Function, IntoLuaMulti, Lua, LuaString, Value};

use super::errors::{describe, place, running_line, without_sandbox};
use super::limits::{Interrupt, SandboxLimits};

/// Longest text of an error, in bytes. The log and the status show less.
const LONGEST: usize = 8192;

/// The text of Lua's error when there is no memory: the handler is not called then.
const NO_MEMORY: &str = "not enough memory";

/// Calls functions within the time and the memory of their Lua state.
pub(crate) struct Guard {
    xpcall: Function,
    /// Its handler, which makes a short text of any error.
    told: Function,
}

impl Guard {
    /// The guard of a state in which no policy has run.
    pub(super) fn new(lua: &Lua, limits: &Arc<SandboxLimits>) -> mlua::Result<Self> {
        let to_string = lua.globals().get::<Function>("tostring")?;
        let limits = Arc::clone(limits);
        let told = lua.create_function(move |lua, problem: Value| {
            // The host looks for that interrupt, and at nothing else.
            match limits.interrupted() {
                Some(Interrupt::NeedBody) => Ok(String::new()),
                _ => Ok(text_of(lua, &to_string, problem)),
            }
        })?;
        let xpcall = lua.globals().get("xpcall")?;
        Ok(Self { xpcall, told })
    }

    /// Calls a function, and makes a short text of its error.
    pub(crate) fn call(
        &self,
        function: &Function,
        arguments: impl IntoLuaMulti,
    ) -> mlua::Result<Value> {
        match self.xpcall.call((function, &self.told, arguments))? {
            (true, returned) => Ok(returned),
            (false, problem) => Err(error(problem)),
        }
    }
}

/// The error of a guarded call.
fn error(problem: Value) -> mlua::Error {
    match problem {
        Value::String(text) if text == NO_MEMORY => mlua::Error::MemoryError(NO_MEMORY.to_owned()),
        Value::String(text) => mlua::Error::runtime(text.to_string_lossy()),
        Value::Error(error) => *error,
        other => mlua::Error::runtime(format!("(error object is a {} value)", other.type_name())),
    }
}

/// Returns the text of an error, with its place if that is known.
fn text_of(lua: &Lua, to_string: &Function, problem: Value) -> String {
    let text = match problem {
        Value::Error(error) => describe(&error, ""),
        Value::String(text) => beginning(&text),
        other => match to_string.call::<LuaString>(other) {
            Ok(text) => beginning(&text),
            Err(error) => describe(&error, ""),
        },
    };
    let text = without_sandbox(&text);
    match running_line(lua).filter(|_| place(text).is_none()) {
        Some(line) => format!("{line}: {text}"),
        None => text.to_owned(),
    }
}

fn beginning(text: &LuaString) -> String {
    let bytes = text.as_bytes();
    let beginning = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    match bytes.len() {
        ..=LONGEST => beginning.into_owned(),
        all => format!("{beginning}… ({all} bytes in all)"),
    }
}
