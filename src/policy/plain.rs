//! Lua values outside of any Lua state: what a request keeps in `req.vars` from one asking to the next,
//! over a reload of the policies too.
//!
//! Unlike JSON it keeps what a Lua table can be: integers as keys, holes, a list with names beside it.

use mlua::{IntoLua, Lua, Value};

use super::wording::kind;

/// Bytes that the values of one request may take together.
const MOST_BYTES: usize = 64 << 10;

/// What a value costs besides its text.
const EACH: usize = 32;

/// Deeper tables, and those that hold themselves, are refused.
const DEEPEST: usize = 32;

/// A boolean, a number, a string or a table of these.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain(Kept);

#[derive(Debug, Clone, PartialEq)]
enum Kept {
    Boolean(bool),
    Integer(i64),
    Number(f64),
    String(Vec<u8>),
    Table(Vec<(Kept, Kept)>),
}

impl Plain {
    /// A copy of a value.
    ///
    /// # Errors
    /// What is wrong with it, after "it": `holds a function`.
    pub(super) fn of(value: &Value) -> Result<Self, String> {
        let mut left = MOST_BYTES;
        copy(value, DEEPEST, &mut left).map(Self)
    }
}

fn copy(value: &Value, depth: usize, left: &mut usize) -> Result<Kept, String> {
    let text = value.as_string().map_or(0, |text| text.as_bytes().len());
    *left = left
        .checked_sub(EACH + text)
        .ok_or_else(|| format!("takes more than {} KiB", MOST_BYTES >> 10))?;
    Ok(match value {
        Value::Boolean(boolean) => Kept::Boolean(*boolean),
        Value::Integer(integer) => Kept::Integer(*integer),
        Value::Number(number) => Kept::Number(*number),
        Value::String(string) => Kept::String(string.as_bytes().to_vec()),
        Value::Table(_) if depth == 0 => {
            return Err(format!("is nested more than {DEEPEST} deep"));
        }
        Value::Table(table) => {
            let mut pairs = Vec::new();
            for pair in table.pairs::<Value, Value>() {
                let (key, value) = pair.map_err(|error| error.to_string())?;
                let key = copy(&key, depth - 1, left)?;
                pairs.push((key, copy(&value, depth - 1, left)?));
            }
            Kept::Table(pairs)
        }
        other => return Err(format!("holds {}", kind(other))),
    })
}

impl IntoLua for &Plain {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        give(lua, &self.0)
    }
}

fn give(lua: &Lua, kept: &Kept) -> mlua::Result<Value> {
    Ok(match kept {
        Kept::Boolean(boolean) => Value::Boolean(*boolean),
        Kept::Integer(integer) => Value::Integer(*integer),
        Kept::Number(number) => Value::Number(*number),
        Kept::String(string) => Value::String(lua.create_string(string)?),
        Kept::Table(pairs) => {
            let table = lua.create_table()?;
            for (key, value) in pairs {
                table.raw_set(give(lua, key)?, give(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}
