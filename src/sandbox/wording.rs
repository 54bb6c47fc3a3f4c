//! Words that several error messages share.

use mlua::{LuaString, Value};

use crate::api::nearest;
use crate::api::shown;

/// ", did you mean `x`?", or nothing when no candidate is near.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    nearest(name, candidates).map_or_else(String::new, |candidate| {
        format!(", did you mean `{candidate}`?")
    })
}

/// A name that a policy wrote, as an error may repeat it: it may be of many megabytes.
pub(crate) fn shown_text(text: &LuaString) -> String {
    /// More bytes than [`shown`] shows characters of.
    const ENOUGH: usize = 1024;
    let bytes = text.as_bytes();
    let beginning = &bytes[..bytes.len().min(ENOUGH)];
    shown(&String::from_utf8_lossy(beginning)).into_owned()
}

/// The kind of a value, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nil",
        Value::Boolean(_) => "a boolean",
        Value::Integer(_) | Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Table(_) => "a table",
        Value::Function(_) => "a function",
        _ => "a userdata",
    }
}
