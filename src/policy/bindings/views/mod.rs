//! The views that hooks get: read-only userdata whose fields are read on demand.
//!
//! Each view is a small value with the number of its call; the [`Stage`] refuses it once the call is
//! over. `req` and models, which every request reads, are a [`handle`] and nothing else. Only its lists
//! of fields name the fields of a view: the bindings, the nearest name in an error and the test of the editor
//! types all read them.

use std::sync::Arc;

use mlua::{Lua, LuaSerdeExt as _, MetaMethod, UserDataFields as _, UserDataMethods as _, Value};

use super::stage::{Stage, StagedModel};
use crate::sandbox::limits::unlimited;
use crate::sandbox::wording::{did_you_mean, shown_text};

pub(crate) mod exit;
pub(crate) mod group;
pub(crate) mod handle;
pub(crate) mod hub;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod model;
pub(crate) mod request;
pub(crate) mod trouble;

/// Reads one field.
pub(crate) type Getter<V> = fn(&Lua, &Stage, &V) -> mlua::Result<Value>;

/// A view with named fields.
pub(crate) trait View: Sized + 'static {
    /// Its name in error messages.
    const NAME: &'static str;
    /// Its fields.
    const FIELDS: &'static [(&'static str, Getter<Self>)];
}

/// A view that is a userdata with a value of its own.
pub(crate) trait Full: View + Send + Sync {
    /// The call it was made for.
    fn call(&self) -> u64;
}

/// A view that is a [`handle`].
pub(crate) trait Light: View {
    /// The object that its texts are part of.
    type Shown;
    /// Its fields that are texts and do not change in a call.
    const TEXTS: &'static [(&'static str, Text<Self>)];
}

/// Reads one text; `None` is nil.
pub(crate) type Text<V> = fn(&<V as Light>::Shown) -> Option<&str>;

/// Makes all views known to `lua`.
pub(crate) fn register(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<()> {
    let known = stage.install_texts(lua)?;
    handle::register(lua, stage, &known)?;
    register_view::<group::Group>(lua, stage)?;
    register_view::<load::Load>(lua, stage)?;
    register_view::<exit::Ended>(lua, stage)?;
    register_view::<trouble::InTrouble>(lua, stage)?;
    register_view::<memory::Memory>(lua, stage)?;
    hub::register_lists(lua, stage, &known.numbers)
}

fn register_view<V: Full>(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<()> {
    lua.register_userdata_type::<V>(|registry| {
        for (name, getter) in V::FIELDS {
            let stage = Arc::clone(stage);
            registry.add_field_method_get(*name, move |lua, view: &V| {
                stage.check(V::NAME, view.call())?;
                getter(lua, &stage, view)
            });
        }
        registry.add_meta_method(MetaMethod::Index, |_, _, key: Value| {
            Err::<Value, _>(unknown_field(V::NAME, &key, names(V::FIELDS)))
        });
        read_only(registry, V::NAME);
    })
}

/// Reads the field of that name.
pub(crate) fn read<V: View>(
    lua: &Lua,
    stage: &Stage,
    view: &V,
    field: &Value,
) -> mlua::Result<Value> {
    let name = field.as_string().map(|name| name.to_string_lossy());
    let found = V::FIELDS
        .iter()
        .find(|(field, _)| name.as_deref() == Some(*field));
    match found {
        Some((_, getter)) => getter(lua, stage, view),
        None => Err(unknown_field(V::NAME, field, names(V::FIELDS))),
    }
}

/// Refuses assignments, and gives the type its name.
fn read_only<T: 'static>(registry: &mut mlua::UserDataRegistry<T>, name: &'static str) {
    registry.add_meta_method(
        MetaMethod::NewIndex,
        move |_, _, (key, _): (Value, Value)| -> mlua::Result<()> { Err(assigned(name, &key)) },
    );
    registry.add_meta_field(MetaMethod::Type, name);
}

/// The error for an assignment.
fn assigned(view: &str, key: &Value) -> mlua::Error {
    let key = quoted(key);
    mlua::Error::runtime(format!("{view} is read-only: cannot set {key}"))
}

/// The names of texts and other fields.
fn all_names<V: Light>() -> impl Iterator<Item = &'static str> {
    names(V::TEXTS).chain(names(V::FIELDS))
}

fn names<T>(fields: &'static [(&'static str, T)]) -> impl Iterator<Item = &'static str> {
    fields.iter().map(|(name, _)| *name)
}

/// The error for an unknown field.
fn unknown_field<'a>(
    view: &str,
    key: &Value,
    fields: impl IntoIterator<Item = &'a str>,
) -> mlua::Error {
    let hint = match key.as_string() {
        Some(key) => did_you_mean(&shown_text(key), fields),
        None => String::new(),
    };
    mlua::Error::runtime(format!("{view} has no field {}{hint}", quoted(key)))
}

fn quoted(key: &Value) -> String {
    match key {
        Value::String(key) => format!("`{}`", shown_text(key)),
        Value::Integer(key) => format!("`{key}`"),
        Value::Number(key) => format!("`{key}`"),
        Value::LightUserData(_) => "of type userdata".to_owned(),
        other => format!("of type {}", other.type_name()),
    }
}

fn string(lua: &Lua, text: impl AsRef<[u8]>) -> mlua::Result<Value> {
    unlimited(lua, || lua.create_string(text)).map(Value::String)
}

fn integer(number: usize) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// A number of bytes that may not be known.
fn bytes(number: Option<u64>) -> Value {
    number.map_or(Value::Nil, |number| {
        Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    })
}

fn whole(number: Option<u32>) -> Value {
    number.map_or(Value::Nil, |number| Value::Integer(number.into()))
}

fn seconds(seconds: Option<f64>) -> Value {
    seconds.map_or(Value::Nil, Value::Number)
}

fn list(lua: &Lua, names: &[String]) -> mlua::Result<Value> {
    lua.create_sequence_from(names.iter().map(String::as_str))
        .map(Value::Table)
}

/// A `policy:` mapping as a new table for each reader, so that no policy can change it for another.
fn settings(lua: &Lua, settings: &crate::config::Settings) -> mlua::Result<Value> {
    json(lua, settings)
}

/// JSON as Lua values; null is nil.
pub(crate) fn json(lua: &Lua, value: &impl serde::Serialize) -> mlua::Result<Value> {
    let options = mlua::serde::ser::Options::new()
        .set_array_metatable(false)
        .serialize_none_to_null(false)
        .serialize_unit_to_null(false);
    lua.to_value_with(value, options)
}

/// The names of every view, `hub` and `hub.log`.
pub(crate) fn names_by_view() -> Vec<(&'static str, Vec<&'static str>)> {
    fn of<V: View>() -> (&'static str, Vec<&'static str>) {
        // The class of `hub.memory` is `memory`.
        let class = V::NAME.trim_start_matches("hub.");
        (class, names(V::FIELDS).collect())
    }
    vec![
        (
            request::RequestHandle::NAME,
            all_names::<request::RequestHandle>().collect(),
        ),
        (StagedModel::NAME, all_names::<StagedModel>().collect()),
        of::<group::Group>(),
        of::<load::Load>(),
        of::<exit::Ended>(),
        of::<trouble::InTrouble>(),
        of::<memory::Memory>(),
        ("hub", hub::names().collect()),
        ("log", log::LEVELS.to_vec()),
    ]
}
