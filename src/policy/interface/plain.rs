//! Lua values outside of any Lua state: what a request keeps in `req.vars` from one asking to the next,
//! and `hub.state`, over a reload of the policies too. Whoever takes a copy says how large it may be.
//!
//! Unlike JSON it keeps what a Lua table can be: integers as keys, holes, a list with names beside it.

use mlua::{IntoLua, Lua, Value};
use serde::{Deserialize, Serialize};

use super::wording::kind;

/// What a value costs besides its text.
const EACH: usize = 32;

/// Tables in a table that are nested deeper, and those that hold themselves, are refused.
const DEEPEST: usize = 32;

/// A boolean, a number, a string or a table of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Plain {
    /// `true` or `false`.
    Boolean(bool),
    /// A number of Lua's integer kind.
    Integer(i64),
    /// Any other number. JSON has not all of them.
    #[serde(with = "bits")]
    Number(f64),
    /// Bytes, which need not be UTF-8.
    String(Vec<u8>),
    /// Keys and values, in no order.
    Table(Vec<(Plain, Plain)>),
}

impl Default for Plain {
    /// An empty table.
    fn default() -> Self {
        Self::Table(Vec::new())
    }
}

impl Plain {
    /// A copy of a value that takes at most so many bytes, counting 32 for each value besides its text.
    ///
    /// # Errors
    /// What is wrong with it, after "it": `holds a function`.
    pub(crate) fn of(value: &Value, most_bytes: usize) -> Result<Self, String> {
        let mut left = most_bytes;
        copy(value, DEEPEST + 1, &mut left).map_err(|problem| match problem {
            Problem::TooLarge => format!("takes more than {} KiB", most_bytes >> 10),
            Problem::Other(problem) => problem,
        })
    }

    /// What it counts for.
    pub(crate) fn bytes(&self) -> usize {
        EACH + match self {
            Self::String(text) => text.len(),
            Self::Table(pairs) => {
                let pairs = pairs.iter();
                pairs.map(|(key, value)| key.bytes() + value.bytes()).sum()
            }
            Self::Boolean(_) | Self::Integer(_) | Self::Number(_) => 0,
        }
    }
}

/// A number as its bits.
mod bits {
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(number.to_bits())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        u64::deserialize(from).map(f64::from_bits)
    }
}

/// Why there is no copy.
enum Problem {
    TooLarge,
    Other(String),
}

fn copy(value: &Value, depth: usize, left: &mut usize) -> Result<Plain, Problem> {
    let text = value.as_string().map_or(0, |text| text.as_bytes().len());
    *left = left.checked_sub(EACH + text).ok_or(Problem::TooLarge)?;
    Ok(match value {
        Value::Boolean(boolean) => Plain::Boolean(*boolean),
        Value::Integer(integer) => Plain::Integer(*integer),
        Value::Number(number) => Plain::Number(*number),
        Value::String(string) => Plain::String(string.as_bytes().to_vec()),
        Value::Table(_) if depth == 0 => {
            let problem = format!("is nested more than {DEEPEST} deep");
            return Err(Problem::Other(problem));
        }
        Value::Table(table) => {
            let mut pairs = Vec::new();
            for pair in table.pairs::<Value, Value>() {
                let (key, value) = pair.map_err(|error| Problem::Other(error.to_string()))?;
                let key = copy(&key, depth - 1, left)?;
                pairs.push((key, copy(&value, depth - 1, left)?));
            }
            Plain::Table(pairs)
        }
        other => return Err(Problem::Other(format!("holds {}", kind(other)))),
    })
}

impl IntoLua for &Plain {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        give(lua, self)
    }
}

fn give(lua: &Lua, plain: &Plain) -> mlua::Result<Value> {
    Ok(match plain {
        Plain::Boolean(boolean) => Value::Boolean(*boolean),
        Plain::Integer(integer) => Value::Integer(*integer),
        Plain::Number(number) => Value::Number(*number),
        Plain::String(string) => Value::String(lua.create_string(string)?),
        Plain::Table(pairs) => {
            let table = lua.create_table()?;
            for (key, value) in pairs {
                table.raw_set(give(lua, key)?, give(lua, value)?)?;
            }
            Value::Table(table)
        }
    })
}
