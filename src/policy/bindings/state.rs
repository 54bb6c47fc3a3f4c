//! The Rust side of `hub.state`: it lives in the Lua state, so that a read costs no more than that of a table,
//! and is copied out as plain data when another Lua state takes over.
//!
//! Observers and hooks have Lua states of their own. An observer's writes are noted here and applied to the
//! hooks' `hub.state` when it has returned: a hook sees all writes of an observer or none. `state.lua` defines
//! the values that it accepts and the way they count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Function, Lua, Table, Value};
use parking_lot::Mutex;

use crate::policy::Plain;

/// Bytes of all values together.
const MAX_BYTES: usize = 1 << 20;

/// The limit in [`Plain`]'s count, which is at most twice as much for a value.
const MAX_PLAIN: usize = 3 * MAX_BYTES;

/// Writes of one observer that are noted, and their bytes in [`Plain`]'s count; beyond it, copying all of
/// `hub.state` costs less.
const MAX_WRITES: usize = 1024;
const MAX_NOTED: usize = MAX_BYTES / 4;

/// The writes of an observer.
pub(crate) enum Changes {
    /// The writes in order.
    Writes(Vec<Write>),
    /// Too many writes: the whole content instead.
    All(Plain),
}

/// One assignment.
pub(crate) struct Write {
    /// Keys, from that of the value up to the root's.
    way: Plain,
    value: Option<Plain>,
}

/// The writes that have not been applied elsewhere yet.
#[derive(Default)]
struct Notes {
    writes: Vec<Write>,
    bytes: usize,
    are_too_many: bool,
}

impl Notes {
    fn add(&mut self, way: &Value, value: &Value) {
        let left = MAX_NOTED.saturating_sub(self.bytes);
        let copied = || {
            let way = Plain::of(way, left)?;
            let value = match value {
                Value::Nil => None,
                value => Some(Plain::of(value, left)?),
            };
            Ok::<_, String>(Write { way, value })
        };
        match copied() {
            Ok(write) if self.writes.len() < MAX_WRITES => {
                self.bytes += write.way.bytes() + write.value.as_ref().map_or(0, Plain::bytes);
                self.writes.push(write);
            }
            _ => self.are_too_many = true,
        }
    }
}

/// `hub.state` of one Lua state.
pub(crate) struct HubState {
    pub(crate) root: Table,
    /// The functions of the sandbox that read its tables directly.
    pub(crate) raw: Table,
    is_writable: Arc<AtomicBool>,
    notes: Arc<Mutex<Notes>>,
    plain: Function,
    restore: Function,
    follow: Function,
}

/// The name under which a Lua state keeps [`HubState::plain`].
const PLAIN: &str = "hub.state.plain";

impl HubState {
    /// Memory of a copy in bytes: a Lua table is larger than its count.
    pub(crate) const MAX_MEMORY: usize = 16 * MAX_BYTES;

    /// Creates an empty one.
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
            .set_name(format!("={}", crate::sandbox::errors::SANDBOX))
            .call::<Table>((may_write, note, MAX_BYTES))?;
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

    /// Allows or forbids writes by the running code.
    pub(crate) fn set_writable(&self, is_writable: bool) {
        self.is_writable.store(is_writable, Ordering::Relaxed);
    }

    /// The writes since the last call, if any. If their writer has failed, the last one may be missing.
    ///
    /// # Errors
    /// As [`HubState::content`].
    pub(crate) fn changes(&self, has_failed: bool) -> mlua::Result<Option<Changes>> {
        let notes = std::mem::take(&mut *self.notes.lock());
        match notes.are_too_many || has_failed {
            true => self.content().map(|content| Some(Changes::All(content))),
            false if notes.writes.is_empty() => Ok(None),
            false => Ok(Some(Changes::Writes(notes.writes))),
        }
    }

    /// Applies the noted writes of another state.
    ///
    /// # Errors
    /// Lua's, for lack of memory, or when the two differed before.
    pub(crate) fn follow(&self, changes: &Changes) -> mlua::Result<()> {
        match changes {
            Changes::All(content) => self.restore(content),
            Changes::Writes(writes) => writes
                .iter()
                .try_for_each(|write| self.follow.call((&write.way, write.value.as_ref()))),
        }
    }

    /// Its whole content.
    ///
    /// # Errors
    /// Lua's, for lack of memory.
    pub(crate) fn content(&self) -> mlua::Result<Plain> {
        let table = self.plain.call::<Table>(&self.root)?;
        Plain::of(&Value::Table(table), MAX_PLAIN).map_err(mlua::Error::runtime)
    }

    /// Replaces its whole content.
    pub(crate) fn restore(&self, content: &Plain) -> mlua::Result<()> {
        self.restore.call(content)
    }
}

/// `table` with copies of the parts of `hub.state` that it is or holds: to Rust's raw access those look empty.
pub(crate) fn plain(lua: &Lua, table: Table) -> mlua::Result<Table> {
    lua.named_registry_value::<Function>(PLAIN)?.call(table)
}
