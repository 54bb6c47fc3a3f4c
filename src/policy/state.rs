//! `hub.state`, seen from Rust: it lives in the Lua state, so that a read costs what a read of a table
//! costs, and comes out as plain data when another Lua state takes over.
//!
//! What it holds, refuses and counts is in `state.lua`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Function, Lua, Table, Value};

use super::Plain;

/// Bytes that all values may take together.
const MOST_BYTES: usize = 1 << 20;

/// The same as [`Plain`] counts, which counts at most twice as much for a value.
const MOST_PLAIN: usize = 3 * MOST_BYTES;

/// `hub.state` of one Lua state.
pub(super) struct State {
    pub(super) root: Table,
    /// The functions of the sandbox that would see through its tables.
    pub(super) raw: Table,
    is_writable: Arc<AtomicBool>,
    plain: Function,
    restore: Function,
}

/// The name under which a Lua state keeps [`State::plain`].
const PLAIN: &str = "hub.state.plain";

impl State {
    /// Memory that a copy of it may take, in bytes: a table in Lua is larger than it counts for.
    pub(super) const MOST_MEMORY: usize = 16 * MOST_BYTES;

    /// An empty one.
    pub(super) fn install(lua: &Lua) -> mlua::Result<Self> {
        let is_writable = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_writable);
        let may_write = lua.create_function(move |_, ()| Ok(asked.load(Ordering::Relaxed)))?;
        let parts = lua
            .load(include_str!("state.lua"))
            .set_name(format!("={}", super::failures::SANDBOX))
            .call::<Table>((may_write, MOST_BYTES))?;
        let plain: Function = parts.get("plain")?;
        lua.set_named_registry_value(PLAIN, &plain)?;
        Ok(Self {
            root: parts.get("root")?,
            raw: parts.get("raw")?,
            restore: parts.get("restore")?,
            is_writable,
            plain,
        })
    }

    /// Lets whoever runs write, or not.
    pub(super) fn set_writable(&self, is_writable: bool) {
        self.is_writable.store(is_writable, Ordering::Relaxed);
    }

    /// All that it holds.
    ///
    /// # Errors
    /// Lua's, for want of memory.
    pub(super) fn content(&self) -> mlua::Result<Plain> {
        let table = self.plain.call::<Table>(&self.root)?;
        Plain::of(&Value::Table(table), MOST_PLAIN).map_err(mlua::Error::runtime)
    }

    /// Puts `content` in the place of all that it holds.
    pub(super) fn restore(&self, content: &Plain) -> mlua::Result<()> {
        self.restore.call(content)
    }
}

/// `table` with tables of their own where it is, or holds, a part of `hub.state`: to the raw access of
/// Rust those look empty.
pub(super) fn plain(lua: &Lua, table: Table) -> mlua::Result<Table> {
    lua.named_registry_value::<Function>(PLAIN)?.call(table)
}
