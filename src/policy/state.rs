//! `hub.state`, seen from Rust: it lives in the Lua state, so that a read costs what a read of a table
//! costs, and comes out as plain data when another Lua state takes over.
//!
//! What it holds, refuses and counts is in `state.lua`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Function, IntoLua, Lua, Table, Value};

/// Bytes that all values may take together.
const MOST_BYTES: usize = 1 << 20;

/// `hub.state` of one Lua state.
pub(super) struct State {
    pub(super) root: Table,
    /// The functions of the sandbox that would see through its tables.
    pub(super) raw: Table,
    is_writable: Arc<AtomicBool>,
    plain: Function,
    restore: Function,
}

/// What `hub.state` holds, outside of any Lua state.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    String(Vec<u8>),
    Table(Vec<(Content, Content)>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Table(Vec::new())
    }
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
    pub(super) fn content(&self) -> mlua::Result<Content> {
        let table = self.plain.call::<Table>(&self.root)?;
        Ok(Content::of(&Value::Table(table)).unwrap_or_default())
    }

    /// Puts `content` in the place of all that it holds.
    pub(super) fn restore(&self, content: Content) -> mlua::Result<()> {
        self.restore.call(content)
    }
}

/// `table` with tables of their own where it is, or holds, a part of `hub.state`: to the raw access of
/// Rust those look empty.
pub(super) fn plain(lua: &Lua, table: Table) -> mlua::Result<Table> {
    lua.named_registry_value::<Function>(PLAIN)?.call(table)
}

impl Content {
    /// `None` for what `hub.state` does not hold.
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Boolean(boolean) => Self::Boolean(*boolean),
            Value::Integer(integer) => Self::Integer(*integer),
            Value::Number(number) => Self::Number(*number),
            Value::String(string) => Self::String(string.as_bytes().to_vec()),
            Value::Table(table) => {
                let pairs = table.pairs::<Value, Value>().filter_map(|pair| {
                    let (key, value) = pair.ok()?;
                    Some((Self::of(&key)?, Self::of(&value)?))
                });
                Self::Table(pairs.collect())
            }
            _ => return None,
        })
    }
}

impl IntoLua for Content {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        match self {
            Self::Boolean(boolean) => Ok(Value::Boolean(boolean)),
            Self::Integer(integer) => Ok(Value::Integer(integer)),
            Self::Number(number) => Ok(Value::Number(number)),
            Self::String(string) => lua.create_string(string).map(Value::String),
            Self::Table(pairs) => lua.create_table_from(pairs).map(Value::Table),
        }
    }
}
