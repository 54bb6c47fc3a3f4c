//! `hub`: the second argument of every hook, and a global while a file loads.
//!
//! It is a table of the file's own over fields that all files share, so that the constructors of
//! verdicts and the lists are found without a call into Rust.

use std::sync::Arc;

use mlua::{Function, Lua, MetaMethod, Table, UserDataMethods as _, Value, Variadic};

use super::super::event::EventName;
use super::super::failures::running_line;
use super::super::options::options;
use super::super::stage::Stage;
use super::super::verdicts;
use super::super::wording::{did_you_mean, kind};
use super::group::Group;
use super::memory::Memory;
use super::model::Model;
use super::{read_only, settings, unknown_field};

/// `hub.models`.
struct Models;

/// `hub.groups`.
struct Groups;

/// The names in `hub` that are no constructors of verdicts.
const FIELDS: [&str; 9] = [
    "models", "groups", "memory", "clock", "time", "settings", "options", "log", "on",
];

/// The functions of `hub.log`.
pub(in crate::policy) const LEVELS: [&str; 3] = ["info", "warn", "error"];

/// All names in `hub`.
pub(in crate::policy) fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().chain(verdicts::constructors())
}

/// The fields that the `hub` of every file shows.
pub(in crate::policy) fn shared_fields(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<Table> {
    let fields = lua.create_table()?;
    fields.set("models", lua.create_any_userdata(Models)?)?;
    fields.set("groups", lua.create_any_userdata(Groups)?)?;
    fields.set("log", log(lua)?)?;
    let clock = Arc::clone(stage);
    fields.set(
        "clock",
        lua.create_function(move |_, ()| Ok(clock.world.clock()))?,
    )?;
    let observed = Arc::clone(stage);
    fields.set(
        "on",
        lua.create_function(move |_, arguments| on(&observed, arguments))?,
    )?;
    let time = Arc::clone(stage);
    fields.set(
        "time",
        lua.create_function(move |lua, ()| lua.create_table_from(time.world.local_time().named()))?,
    )?;
    let world = Arc::clone(&stage.world);
    fields.set(
        "options",
        lua.create_function(move |lua, arguments| {
            options(lua, arguments, || settings(lua, &world.settings()))
        })?,
    )?;
    verdicts::add_constructors(lua, &fields)?;

    let stage = Arc::clone(stage);
    let rest = lua.create_function(move |lua, (_, key): (Value, Value)| match key.as_string() {
        Some(key) if key == "settings" => settings(lua, &stage.world.settings()),
        Some(key) if key == "memory" => Memory::create(lua, &stage),
        _ => Err(unknown_field("hub", &key, names())),
    })?;
    let metatable = lua.create_table()?;
    metatable.set("__index", rest)?;
    fields.set_metatable(Some(metatable))?;
    Ok(fields)
}

/// `hub.on`: registers an observer.
fn on(stage: &Stage, (name, function): (Value, Value)) -> mlua::Result<()> {
    let wrong = |text: String| Err(mlua::Error::runtime(format!("hub.on: {text}")));
    let Value::String(name) = &name else {
        return wrong(format!(
            "the first argument is {}, it must be the name of an event",
            kind(&name)
        ));
    };
    let Some(event) = EventName::ALL
        .into_iter()
        .find(|event| *name == event.as_str())
    else {
        let name = name.to_string_lossy();
        let names = EventName::ALL.map(EventName::as_str);
        let hint = match did_you_mean(&name, names) {
            near if near.is_empty() => format!("; there are {}", names.join(", ")),
            near => near,
        };
        return wrong(format!("unknown event `{name}`{hint}"));
    };
    let Value::Function(function) = function else {
        return wrong(format!(
            "the second argument is {}, it must be a function",
            kind(&function)
        ));
    };
    if !stage.register((event, function)) {
        return wrong("observers are registered while a file loads, not in a hook".to_owned());
    }
    Ok(())
}

/// The `hub` of one file.
pub(in crate::policy) fn create(lua: &Lua, shared: &Table) -> mlua::Result<Table> {
    let hub = lua.create_table()?;
    hub.set_metatable(Some(guarded(lua, "hub", shared)?))?;
    Ok(hub)
}

/// A metatable that shows `fields` and refuses assignments.
fn guarded(lua: &Lua, name: &'static str, fields: impl mlua::IntoLua) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    metatable.set("__index", fields)?;
    let refuse = lua.create_function(move |_, _: Variadic<Value>| -> mlua::Result<()> {
        Err(mlua::Error::runtime(format!("{name} is read-only")))
    })?;
    metatable.set("__newindex", refuse)?;
    metatable.set("__metatable", false)?;
    Ok(metatable)
}

/// `hub.log`: one line each in the hub's log, with the place of the call.
fn log(lua: &Lua) -> mlua::Result<Table> {
    let functions = lua.create_table()?;
    for level in LEVELS {
        functions.set(level, log_function(lua, level)?)?;
    }
    let unknown = lua.create_function(|_, (_, key): (Value, Value)| {
        Err::<Value, _>(unknown_field("hub.log", &key, LEVELS))
    })?;
    let below = lua.create_table()?;
    below.set("__index", unknown)?;
    functions.set_metatable(Some(below))?;
    let log = lua.create_table()?;
    log.set_metatable(Some(guarded(lua, "hub.log", functions)?))?;
    Ok(log)
}

/// A function that logs its arguments, as `print` shows them, at `level`.
pub(in crate::policy) fn log_function(lua: &Lua, level: &'static str) -> mlua::Result<Function> {
    lua.create_function(move |lua, values: Variadic<Value>| {
        let texts = values.iter().map(|value| value.to_string());
        let text = texts.collect::<mlua::Result<Vec<_>>>()?.join("\t");
        let policy = running_line(lua);
        match level {
            "error" => tracing::error!(policy, "{text}"),
            "warn" => tracing::warn!(policy, "{text}"),
            _ => tracing::info!(policy, "{text}"),
        }
        Ok(())
    })
}

/// Makes `hub.models` and `hub.groups` known to `lua`.
pub(super) fn register_lists(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<()> {
    register_list::<Models>(lua, stage, "hub.models", Model::find, |stage| {
        stage.world.model_names()
    })?;
    register_list::<Groups>(lua, stage, "hub.groups", Group::find, |stage| {
        stage.world.group_names()
    })
}

fn register_list<L: 'static>(
    lua: &Lua,
    stage: &Arc<Stage>,
    name: &'static str,
    find: fn(&Lua, &Stage, &str) -> mlua::Result<Value>,
    names: fn(&Stage) -> Vec<String>,
) -> mlua::Result<()> {
    lua.register_userdata_type::<L>(|registry| {
        let indexed = Arc::clone(stage);
        registry.add_meta_method(MetaMethod::Index, move |lua, _, key: Value| {
            indexed.enter(name)?;
            match key {
                Value::String(key) => match key.to_str() {
                    Ok(key) => find(lua, &indexed, &key),
                    Err(_) => Ok(Value::Nil),
                },
                _ => Ok(Value::Nil),
            }
        });
        let listed = Arc::clone(stage);
        registry.add_meta_method(MetaMethod::Pairs, move |lua, _, ()| {
            listed.enter(name)?;
            // In hub.yaml's order, which a table of views would lose.
            let mut names = names(&listed).into_iter();
            let stage = Arc::clone(&listed);
            lua.create_function_mut(move |lua, _: Variadic<Value>| {
                let Some(name) = names.next() else {
                    return Ok((None, Value::Nil));
                };
                let view = find(lua, &stage, &name)?;
                Ok((Some(name), view))
            })
        });
        read_only(registry, name);
    })
}

/// What `__pairs` returns for a table.
pub(super) fn iterate(lua: &Lua, table: Table) -> mlua::Result<(Value, Table)> {
    lua.globals().get("next").map(|next| (next, table))
}
