//! A Lua state in which a file can do nothing but compute, within limits: what `sandbox.lua` leaves.
//!
//! The host runs policies in one, `policy test` the tests of policies.

use std::sync::Arc;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::state::{GcGenParams, GcMode};
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};

use super::failures::SANDBOX;
use super::limits::Limits;

/// One state.
pub(crate) struct Sandbox {
    pub(crate) lua: Lua,
    pub(super) limits: Arc<Limits>,
    /// Makes the globals of a file: what `sandbox.lua` returns.
    pub(super) globals: Function,
}

impl Sandbox {
    /// A state in which nothing has run.
    pub(crate) fn new() -> mlua::Result<Self> {
        let libraries = StdLib::STRING | StdLib::TABLE | StdLib::MATH | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        // The incremental collector falls behind for ever when each call makes a userdata.
        lua.gc_set_mode(GcMode::Generational(GcGenParams::default()));
        let limits = Limits::install(&lua)?;
        let looked = Arc::clone(&limits);
        let check = lua.create_function(move |lua, ()| looked.check(lua))?;
        let globals = lua
            .load(include_str!("sandbox.lua"))
            .set_name(format!("={SANDBOX}"))
            .call(check)?;
        Ok(Self {
            lua,
            limits,
            globals,
        })
    }

    /// What runs from now on may take so long.
    pub(crate) fn allow(&self, time: Duration) {
        self.limits.begin(time);
    }

    /// Runs a file with globals of its own, `own` among them, and returns what it returns.
    pub(crate) fn run(&self, own: Table, name: &str, source: &[u8]) -> mlua::Result<Value> {
        run(&self.lua, &self.globals, own, name, source)
    }
}

/// As [`Sandbox::run`], with the function that makes the globals.
pub(super) fn run(
    lua: &Lua,
    globals: &Function,
    own: Table,
    name: &str,
    source: &[u8],
) -> mlua::Result<Value> {
    let globals = globals.call::<Table>(own)?;
    lua.load(source)
        .set_name(format!("@{name}"))
        .set_mode(ChunkMode::Text)
        .set_environment(globals)
        .call(())
}
