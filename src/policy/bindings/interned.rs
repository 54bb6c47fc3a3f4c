//! Texts that policies read again and again, and that Lua therefore keeps: names of models, words for
//! states.
//!
//! Each has a number. Rust hands out the number, which takes no memory and no reference, and Lua finds
//! the text in a table; the other way round a key that is known comes as its number. Clients name what
//! they like, so there are only so many, and none is long.

use std::sync::Arc;

use foldhash::HashMap;
use mlua::{Lua, Table, Value};

use crate::policy::sandbox::limits::unlimited;

/// Texts that are kept; one more, and all are forgotten.
const MOST: usize = 4096;

/// Longer ones are made anew each time, in bytes.
const LONGEST: usize = 64;

/// Those of one Lua state.
#[derive(Default)]
pub(crate) struct Texts {
    numbers: HashMap<Arc<str>, i64>,
    /// By number, which begins at 1.
    texts: Vec<Arc<str>>,
    tables: Option<Tables>,
}

/// What Lua has of them.
#[derive(Clone)]
pub(crate) struct Tables {
    /// Texts by number.
    pub(crate) texts: Table,
    /// Numbers by text.
    pub(crate) numbers: Table,
}

impl Texts {
    /// The tables of `lua`; without them nothing is kept.
    pub(crate) fn install(&mut self, lua: &Lua) -> mlua::Result<Tables> {
        let tables = Tables {
            texts: lua.create_table()?,
            numbers: lua.create_table()?,
        };
        self.tables = Some(tables.clone());
        Ok(tables)
    }

    /// The number of `text`, or the text itself where it is not kept. To be looked up at once: the next
    /// call may forget all numbers.
    pub(crate) fn value(&mut self, lua: &Lua, text: &str) -> mlua::Result<Value> {
        match self.numbers.get(text) {
            Some(number) => Ok(Value::Integer(*number)),
            None => self.keep(lua, text),
        }
    }

    fn keep(&mut self, lua: &Lua, text: &str) -> mlua::Result<Value> {
        let string = unlimited(lua, || lua.create_string(text))?;
        let Some(tables) = self.tables.as_ref().filter(|_| text.len() <= LONGEST) else {
            return Ok(Value::String(string));
        };
        if self.texts.len() == MOST {
            tables.texts.clear()?;
            tables.numbers.clear()?;
            self.texts.clear();
            self.numbers.clear();
        }
        let number = i64::try_from(self.texts.len() + 1).unwrap_or(i64::MAX);
        tables.texts.raw_set(number, &string)?;
        tables.numbers.raw_set(string, number)?;
        let text = Arc::<str>::from(text);
        self.texts.push(Arc::clone(&text));
        self.numbers.insert(text, number);
        Ok(Value::Integer(number))
    }

    /// The text of that number.
    pub(crate) fn text(&self, number: i64) -> Option<&Arc<str>> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.texts.get(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Lua makes of it.
    fn seen(tables: &Tables, value: &Value) -> String {
        match value {
            Value::Integer(number) => tables.texts.get(*number).unwrap(),
            other => other.to_string().unwrap(),
        }
    }

    #[test]
    fn a_text_has_one_number_and_lua_finds_it_there_however_many_come() {
        let lua = Lua::new();
        let mut texts = Texts::default();
        let tables = texts.install(&lua).unwrap();
        let first = texts.value(&lua, "running").unwrap();
        assert_eq!(texts.value(&lua, "running").unwrap(), first);
        for number in 0..3 * MOST {
            let name = format!("model_{number}");
            let value = texts.value(&lua, &name).unwrap();
            assert_eq!(seen(&tables, &value), name);
            assert_eq!(**texts.text(value.as_integer().unwrap()).unwrap(), *name);
            assert_eq!(tables.numbers.get::<Value>(name).unwrap(), value);
            assert!(texts.texts.len() <= MOST);
        }
        assert_eq!(tables.texts.raw_len(), texts.texts.len());
        assert_eq!(texts.text(0), None);
        assert_eq!(texts.text(MOST as i64 + 1), None);
    }

    #[test]
    fn a_long_text_is_not_kept() {
        let lua = Lua::new();
        let mut texts = Texts::default();
        let tables = texts.install(&lua).unwrap();
        let long = "x".repeat(LONGEST + 1);
        let value = texts.value(&lua, &long).unwrap();
        assert_eq!(seen(&tables, &value), long);
        assert_eq!(texts.texts.len(), 0);
    }
}
