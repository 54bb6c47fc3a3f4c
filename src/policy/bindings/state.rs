//! `hub.state`, seen from Rust: it lives in the Lua state, so that a read costs what a read of a table
//! costs, and comes out as plain data when another Lua state takes over.
//!
//! Observers and hooks have Lua states of their own. What an observer wrote is noted here, and the hooks'
//! `hub.state` follows when it has returned: a hook sees all writes of an observer or none. What it holds,
//! refuses and counts is in `state.lua`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Function, Lua, Table, Value};
use parking_lot::Mutex;

use crate::policy::Plain;

/// Bytes that all values may take together.
const MOST_BYTES: usize = 1 << 20;

/// The same as [`Plain`] counts, which counts at most twice as much for a value.
const MOST_PLAIN: usize = 3 * MOST_BYTES;

/// Writes of one observer that are noted, and bytes of these as [`Plain`] counts them; with more, all of
/// `hub.state` is less to hand over.
const MOST_WRITES: usize = 1024;
const MOST_NOTED: usize = MOST_BYTES / 4;

/// What an observer wrote.
pub(crate) enum Changes {
    /// In this order.
    Writes(Vec<Write>),
    /// So much that this is all there is now.
    All(Plain),
}

/// One assignment.
pub(crate) struct Write {
    /// Keys, from that of the value up to the root's.
    way: Plain,
    value: Option<Plain>,
}

/// The writes that nobody has followed yet.
#[derive(Default)]
struct Notes {
    writes: Vec<Write>,
    bytes: usize,
    are_too_many: bool,
}

impl Notes {
    fn add(&mut self, way: &Value, value: &Value) {
        let left = MOST_NOTED.saturating_sub(self.bytes);
        let copied = || {
            let way = Plain::of(way, left)?;
            let value = match value {
                Value::Nil => None,
                value => Some(Plain::of(value, left)?),
            };
            Ok::<_, String>(Write { way, value })
        };
        match copied() {
            Ok(write) if self.writes.len() < MOST_WRITES => {
                self.bytes += write.way.bytes() + write.value.as_ref().map_or(0, Plain::bytes);
                self.writes.push(write);
            }
            _ => self.are_too_many = true,
        }
    }
}

/// `hub.state` of one Lua state.
pub(crate) struct State {
    pub(crate) root: Table,
    /// The functions of the sandbox that would see through its tables.
    pub(crate) raw: Table,
    is_writable: Arc<AtomicBool>,
    notes: Arc<Mutex<Notes>>,
    plain: Function,
    restore: Function,
    follow: Function,
}

/// The name under which a Lua state keeps [`State::plain`].
const PLAIN: &str = "hub.state.plain";

impl State {
    /// Memory that a copy of it may take, in bytes: a table in Lua is larger than it counts for.
    pub(crate) const MOST_MEMORY: usize = 16 * MOST_BYTES;

    /// An empty one.
    pub(crate) fn install(lua: &Lua) -> mlua::Result<Self> {
        let is_writable = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_writable);
        let may_write = lua.create_function(move |_, ()| Ok(asked.load(Ordering::Relaxed)))?;
        let notes = Arc::<Mutex<Notes>>::default();
        let noted = Arc::clone(&notes);
        let note = lua.create_function(move |_, (way, value): (Value, Value)| {
            noted.lock().add(&way, &value);
            Ok(())
        })?;
        let parts = lua
            .load(include_str!("state.lua"))
            .set_name(format!("={}", crate::policy::sandbox::failures::SANDBOX))
            .call::<Table>((may_write, note, MOST_BYTES))?;
        let plain: Function = parts.get("plain")?;
        lua.set_named_registry_value(PLAIN, &plain)?;
        Ok(Self {
            root: parts.get("root")?,
            raw: parts.get("raw")?,
            restore: parts.get("restore")?,
            follow: parts.get("follow")?,
            is_writable,
            notes,
            plain,
        })
    }

    /// Lets whoever runs write, or not.
    pub(crate) fn set_writable(&self, is_writable: bool) {
        self.is_writable.store(is_writable, Ordering::Relaxed);
    }

    /// What was written since this was asked last, if anything was. Where whoever wrote has failed, the
    /// last note may be missing.
    ///
    /// # Errors
    /// As [`State::content`].
    pub(crate) fn changes(&self, has_failed: bool) -> mlua::Result<Option<Changes>> {
        let notes = std::mem::take(&mut *self.notes.lock());
        match notes.are_too_many || has_failed {
            true => self.content().map(|content| Some(Changes::All(content))),
            false if notes.writes.is_empty() => Ok(None),
            false => Ok(Some(Changes::Writes(notes.writes))),
        }
    }

    /// Writes what another one noted.
    ///
    /// # Errors
    /// Lua's, for want of memory, or when the two did not hold the same before.
    pub(crate) fn follow(&self, changes: &Changes) -> mlua::Result<()> {
        match changes {
            Changes::All(content) => self.restore(content),
            Changes::Writes(writes) => writes
                .iter()
                .try_for_each(|write| self.follow.call((&write.way, write.value.as_ref()))),
        }
    }

    /// All that it holds.
    ///
    /// # Errors
    /// Lua's, for want of memory.
    pub(crate) fn content(&self) -> mlua::Result<Plain> {
        let table = self.plain.call::<Table>(&self.root)?;
        Plain::of(&Value::Table(table), MOST_PLAIN).map_err(mlua::Error::runtime)
    }

    /// Puts `content` in the place of all that it holds.
    pub(crate) fn restore(&self, content: &Plain) -> mlua::Result<()> {
        self.restore.call(content)
    }
}

/// `table` with tables of their own where it is, or holds, a part of `hub.state`: to the raw access of
/// Rust those look empty.
pub(crate) fn plain(lua: &Lua, table: Table) -> mlua::Result<Table> {
    lua.named_registry_value::<Function>(PLAIN)?.call(table)
}
