//! Texts that policies read again and again, and that Lua therefore keeps: names of models, words for
//! states.
//!
//! Each has a number. Rust passes the number, which takes no memory and no reference, and Lua finds the text
//! in a table; in the other direction Lua passes a known key as its number. Clients choose names freely, so
//! number and length are bounded.

use std::sync::Arc;

use foldhash::HashMap;
use mlua::{Lua, Table, Value};

use crate::sandbox::limits::unlimited;

/// Number of kept texts; one more, and all are forgotten.
const MAX_TEXTS: usize = 4096;

/// Longest kept text in bytes; longer ones are created each time.
const MAX_BYTES: usize = 64;

/// The kept texts of one Lua state.
#[derive(Default)]
pub(crate) struct Texts {
    numbers: HashMap<Arc<str>, i64>,
    /// By number, which begins at 1.
    texts: Vec<Arc<str>>,
    tables: Option<Tables>,
}

/// Lua's tables of them.
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

    /// The number of `text`, or the text itself if it is not kept. Use it at once: the next call may forget all
    /// numbers.
    pub(crate) fn value(&mut self, lua: &Lua, text: &str) -> mlua::Result<Value> {
        match self.numbers.get(text) {
            Some(number) => Ok(Value::Integer(*number)),
            None => self.keep(lua, text),
        }
    }

    fn keep(&mut self, lua: &Lua, text: &str) -> mlua::Result<Value> {
        let string = unlimited(lua, || lua.create_string(text))?;
        let Some(tables) = self.tables.as_ref().filter(|_| text.len() <= MAX_BYTES) else {
            return Ok(Value::String(string));
        };
        if self.texts.len() == MAX_TEXTS {
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

    /// Its Lua value.
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
        for number in 0..3 * MAX_TEXTS {
            let name = format!("model_{number}");
            let value = texts.value(&lua, &name).unwrap();
            assert_eq!(seen(&tables, &value), name);
            assert_eq!(**texts.text(value.as_integer().unwrap()).unwrap(), *name);
            assert_eq!(tables.numbers.get::<Value>(name).unwrap(), value);
            assert!(texts.texts.len() <= MAX_TEXTS);
        }
        assert_eq!(tables.texts.raw_len(), texts.texts.len());
        assert_eq!(texts.text(0), None);
        assert_eq!(texts.text(MAX_TEXTS as i64 + 1), None);
    }

    #[test]
    fn a_long_text_is_not_kept() {
        let lua = Lua::new();
        let mut texts = Texts::default();
        let tables = texts.install(&lua).unwrap();
        let long = "x".repeat(MAX_BYTES + 1);
        let value = texts.value(&lua, &long).unwrap();
        assert_eq!(seen(&tables, &value), long);
        assert_eq!(texts.texts.len(), 0);
    }
}
