//! From Lua to [`Plain`] and back.

use mlua::{IntoLua, Lua, Value};

use crate::core::interface::plain::{EACH, Plain};
use crate::sandbox::wording::kind;

/// Tables in a table that are nested deeper, and those that hold themselves, are refused.
const DEEPEST: usize = 32;

impl Plain {
    /// A copy of a value that takes at most so many bytes, counting 32 for each value besides its text.
    ///
    /// # Errors
    /// The fault of the value, after "it": `holds a function`.
    pub(crate) fn of(value: &Value, most_bytes: usize) -> Result<Self, String> {
        let mut left = most_bytes;
        copy(value, DEEPEST + 1, &mut left).map_err(|problem| match problem {
            Problem::TooLarge => format!("takes more than {} KiB", most_bytes >> 10),
            Problem::Other(problem) => problem,
        })
    }
}

/// Reason why there is no copy.
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
