//! The checks of a test: `test.equal` and its siblings, and the text of a difference.

use std::sync::Arc;

use mlua::{Function, Lua, Table, Value, Variadic};
use parking_lot::Mutex;

use crate::sandbox::errors::{describe, running_line};

/// Deeper tables are shown as `{…}`, and are equal only if they are one.
const DEEPEST: usize = 8;

/// The checks.
pub(super) const NAMES: [&str; 4] = ["equal", "ok", "matches", "fails"];

/// The failure of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// `file:line`, where it is known.
    pub(super) place: Option<String>,
    /// One line, and more where there is more to show.
    pub(super) text: String,
}

/// Place for the failure of a check; the error that it raises only ends the case.
pub(super) type Failed = Arc<Mutex<Option<Failure>>>;

/// Puts the checks into `test`.
pub(super) fn add(lua: &Lua, test: &Table, failed: &Failed) -> mlua::Result<()> {
    let fail = Arc::clone(failed);
    test.set(
        "equal",
        lua.create_function(move |lua, (got, expected, about): Arguments| {
            if equal(&got, &expected, DEEPEST)? {
                return Ok(());
            }
            let (expected, got) = (shown(&expected), shown(&got));
            let text = format!("expected {expected}\ngot      {got}");
            Err(raise(lua, &fail, about, text))
        })?,
    )?;
    let fail = Arc::clone(failed);
    test.set(
        "ok",
        lua.create_function(
            move |lua, (got, about): (Value, Option<String>)| match got {
                Value::Nil | Value::Boolean(false) => {
                    let text = format!("expected a true value\ngot      {}", shown(&got));
                    Err(raise(lua, &fail, about, text))
                }
                _ => Ok(()),
            },
        )?,
    )?;
    let fail = Arc::clone(failed);
    let find: Function = lua.globals().get::<Table>("string")?.get("find")?;
    test.set(
        "matches",
        lua.create_function(move |lua, (got, pattern, about): (Value, String, _)| {
            let found = match &got {
                Value::String(text) => find.call::<Value>((text, pattern.as_str()))?,
                _ => Value::Nil,
            };
            if !found.is_nil() {
                return Ok(());
            }
            let text = format!("expected a text like {pattern:?}\ngot      {}", shown(&got));
            Err(raise(lua, &fail, about, text))
        })?,
    )?;
    let fail = Arc::clone(failed);
    test.set(
        "fails",
        lua.create_function(move |lua, arguments: (Function, Option<String>)| {
            let (body, pattern) = arguments;
            let text = match body.call::<Variadic<Value>>(()) {
                Ok(_) => "expected an error\ngot      none".to_owned(),
                Err(error) => {
                    // A check inside is not what it is about.
                    fail.lock().take();
                    let error = describe(&error, "[test]");
                    let is_like = pattern.as_ref().is_none_or(|text| error.contains(text));
                    if is_like {
                        return Ok(());
                    }
                    let pattern = pattern.unwrap_or_default();
                    format!("expected an error with {pattern:?}\ngot      {error}")
                }
            };
            Err(raise(lua, &fail, None, text))
        })?,
    )
}

/// Two values, and what they are about.
type Arguments = (Value, Value, Option<String>);

fn raise(lua: &Lua, failed: &Failed, about: Option<String>, text: String) -> mlua::Error {
    let text = match about {
        Some(about) => format!("{about}\n{text}"),
        None => text,
    };
    let place = running_line(lua);
    let error = mlua::Error::runtime(text.replace('\n', "; "));
    failed.lock().get_or_insert(Failure { place, text });
    error
}

/// True if two values are equal to a reader: numbers by value, tables by content.
fn equal(one: &Value, other: &Value, depth: usize) -> mlua::Result<bool> {
    let (Value::Table(one), Value::Table(other)) = (one, other) else {
        return Ok(one == other);
    };
    if one == other {
        return Ok(true);
    }
    let size = |table: &Table| table.pairs::<Value, Value>().count();
    if depth == 0 || size(one) != size(other) {
        return Ok(false);
    }
    for pair in one.pairs::<Value, Value>() {
        let (key, value) = pair?;
        if !equal(&value, &other.raw_get(key)?, depth - 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A value as Lua would have it written.
fn shown(value: &Value) -> String {
    show(value, DEEPEST)
}

fn show(value: &Value, depth: usize) -> String {
    match value {
        Value::String(text) => format!("{:?}", text.to_string_lossy()),
        Value::Table(_) if depth == 0 => "{…}".to_owned(),
        Value::Table(table) => show_table(table, depth - 1),
        Value::Integer(_) | Value::Number(_) | Value::Boolean(_) | Value::Nil => {
            value.to_string().unwrap_or_default()
        }
        other => other.type_name().to_owned(),
    }
}

fn show_table(table: &Table, depth: usize) -> String {
    let length = table.raw_len();
    let mut parts = Vec::new();
    let mut named = Vec::new();
    for (key, value) in table.pairs::<Value, Value>().flatten() {
        let place = key.as_usize().filter(|place| (1..=length).contains(place));
        let value = show(&value, depth);
        match (place, key.as_string().map(|key| key.to_string_lossy())) {
            (Some(place), _) => parts.push((place, value)),
            (None, Some(key)) => named.push(format!("{key} = {value}")),
            (None, None) => named.push(format!("[{}] = {value}", show(&key, depth))),
        }
    }
    parts.sort();
    // A table has no order of its own.
    named.sort();
    let parts = parts.into_iter().map(|(_, value)| value);
    let all: Vec<String> = parts.chain(named).collect();
    format!("{{{}}}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_equal_by_what_is_in_them_and_shown_in_one_order() {
        let lua = Lua::new();
        for (one, other, are_equal) in [
            ("1", "1.0", true),
            ("'1'", "1", false),
            ("{1, {a = 2}}", "{1, {a = 2}}", true),
            ("{1, 2}", "{1}", false),
            ("{1}", "{1, 2}", false),
            ("{a = false}", "{}", false),
            ("nil", "false", false),
        ] {
            let [left, right] = [one, other].map(|text| lua.load(text).eval::<Value>().unwrap());
            assert_eq!(
                equal(&left, &right, DEEPEST).unwrap(),
                are_equal,
                "{one} {other}"
            );
        }
        let table: Value = lua
            .load("{z = 1, 'x', {b = true}, a = 1.5}")
            .eval()
            .unwrap();
        assert_eq!(shown(&table), r#"{"x", {b = true}, a = 1.5, z = 1}"#);
        let endless: Value = lua.load("local t = {}; t.t = t; return t").eval().unwrap();
        assert!(shown(&endless).contains("{…}"));
    }
}
