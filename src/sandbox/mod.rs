//! A Lua state in which a file can only compute, within limits, with the globals that `sandbox.lua` leaves.
//!
//! Policies run in one, and so do engines and the tests of both.

use std::sync::Arc;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::state::{GcGenParams, GcMode};
use mlua::{Function, IntoLua as _, Lua, LuaOptions, StdLib, Table, Value};

pub(crate) mod errors;
pub(crate) mod flood;
mod guard;
mod interrupt;
pub(crate) mod limits;
mod patterns;
pub(crate) mod wording;

use errors::{SANDBOX, describe, without_sandbox};
pub(crate) use guard::Guard;
use limits::SandboxLimits;

/// One state.
pub(crate) struct Sandbox {
    pub(crate) lua: Lua,
    pub(crate) limits: Arc<SandboxLimits>,
    /// The function that makes the globals of a file, the result of `sandbox.lua`.
    pub(crate) globals: Function,
    pub(crate) guard: Guard,
}

impl Sandbox {
    /// A state in which nothing has run.
    pub(crate) fn new() -> mlua::Result<Self> {
        Self::with(|lua| {
            let (globals, raw) = (lua.globals(), lua.create_table()?);
            for name in ["next", "rawget", "rawlen", "rawset"] {
                raw.set(name, globals.get::<Value>(name)?)?;
            }
            Ok(((), raw))
        })
        .map(|(sandbox, ())| sandbox)
    }

    /// A state whose `next` and raw functions are those that `install` returns with what it has installed.
    pub(crate) fn with<T>(
        install: impl FnOnce(&Lua) -> mlua::Result<(T, Table)>,
    ) -> mlua::Result<(Self, T)> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        // The incremental collector never catches up when each call makes a userdata. This one leaves old garbage
        // until the state has doubled: half a kilobyte for each load and unload, which then goes at once.
        lua.gc_set_mode(GcMode::Generational(GcGenParams::default()));
        let limits = SandboxLimits::install(&lua)?;
        let looked = Arc::clone(&limits);
        let check = lua.create_function(move |lua, ()| looked.check(lua))?;
        let (installed, raw) = install(&lua)?;
        let patterns = patterns::functions(&lua, &limits)?;
        lua.load(include_str!("library.lua"))
            .set_name(format!("={SANDBOX}"))
            .call::<()>((&check, patterns))?;
        let text_of = lua.create_function(|lua, error: Value| match error {
            Value::Error(error) => describe(&error, "").into_lua(lua),
            Value::String(text) => without_sandbox(&text.to_string_lossy()).into_lua(lua),
            other => Ok(other),
        })?;
        let globals = lua
            .load(include_str!("sandbox.lua"))
            .set_name(format!("={SANDBOX}"))
            .call((check, raw, text_of))?;
        let guard = Guard::new(&lua, &limits)?;
        let sandbox = Self {
            lua,
            limits,
            globals,
            guard,
        };
        Ok((sandbox, installed))
    }

    /// Sets the time limit of the code that runs from now on.
    pub(crate) fn allow(&self, time: Duration) {
        self.limits.begin(time);
    }

    /// Runs a file with globals of its own, `own` among them, and returns what it returns.
    pub(crate) fn run(&self, own: Table, name: &str, source: &[u8]) -> mlua::Result<Value> {
        run(&self.lua, &self.globals, own, name, source)
    }
}

/// As [`Sandbox::run`], with the function that makes the globals.
pub(crate) fn run(
    lua: &Lua,
    globals: &Function,
    own: Table,
    name: &str,
    source: &[u8],
) -> mlua::Result<Value> {
    let globals = globals.call::<Table>(own)?;
    lua.load(without_marks(source))
        .set_name(format!("@{name}"))
        .set_mode(ChunkMode::Text)
        .set_environment(globals)
        .call(())
}

/// The source without the beginning that `lua` skips: a byte order mark and a first line that begins with `#`.
/// The end of that line stays, so that the others keep their numbers.
fn without_marks(source: &[u8]) -> &[u8] {
    let source = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    match source.first() {
        Some(b'#') => {
            let end = memchr::memchr(b'\n', source).unwrap_or(source.len());
            &source[end..]
        }
        _ => source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_that_lua_skips_are_skipped_and_lines_keep_their_numbers() {
        for (source, rest) in [
            ("#!/usr/bin/env lua\nreturn 1", "\nreturn 1"),
            ("\u{feff}return 1", "return 1"),
            ("\u{feff}#!/usr/bin/env lua\r\nreturn 1", "\nreturn 1"),
            ("# a remark", ""),
            ("return #'#'", "return #'#'"),
            ("", ""),
        ] {
            assert_eq!(without_marks(source.as_bytes()), rest.as_bytes());
        }
    }
}
