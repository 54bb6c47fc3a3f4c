//! `hub`: the second argument of every hook, and a global while a file loads.
//!
//! It is a table of the file's own over fields that all files share, so that the constructors of
//! verdicts and the lists are found without a call into Rust.

use std::sync::Arc;

use mlua::{Function, Lua, LuaString, MetaMethod, Table, UserDataFields as _, Value, Variadic};

use super::super::options::options;
use super::super::stage::Stage;
use super::super::verdicts;
use super::group::Group;
use super::handle::Handle;
use super::memory::Memory;
use super::{list, log, model, read_only, settings, unknown_field};
use crate::core::interface::event::EventName;
use crate::sandbox::errors::SANDBOX;
use crate::sandbox::limits::unlimited;
use crate::sandbox::wording::{did_you_mean, kind, shown_text};

/// `hub.models`.
struct Models;

/// `hub.groups`.
struct Groups;

/// The names in `hub` that are no constructors of verdicts.
const FIELDS: [&str; 10] = [
    "models", "groups", "memory", "clock", "time", "settings", "options", "log", "on", "state",
];

/// All names in `hub`.
pub(in crate::policy) fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().chain(verdicts::constructors())
}

/// The fields that the `hub` of every file shows.
pub(in crate::policy) fn shared_fields(
    lua: &Lua,
    stage: &Arc<Stage>,
    state: &Table,
) -> mlua::Result<Table> {
    let fields = lua.create_table()?;
    fields.set("state", state)?;
    fields.set("models", lua.create_any_userdata(Models)?)?;
    fields.set("groups", lua.create_any_userdata(Groups)?)?;
    fields.set("log", log::create(lua, stage)?)?;
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
        let name = shown_text(name);
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
pub(super) fn guarded(
    lua: &Lua,
    name: &'static str,
    fields: impl mlua::IntoLua,
) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    metatable.set("__index", fields)?;
    let refuse = lua.create_function(move |_, _: Variadic<Value>| -> mlua::Result<()> {
        Err(mlua::Error::runtime(format!("{name} is read-only")))
    })?;
    metatable.set("__newindex", refuse)?;
    metatable.set("__metatable", false)?;
    Ok(metatable)
}

/// Makes `hub.models` and `hub.groups` known to `lua`, which has the numbers of known texts in a table.
pub(super) fn register_lists(lua: &Lua, stage: &Arc<Stage>, numbers: &Table) -> mlua::Result<()> {
    let models = List {
        name: "hub.models",
        find: |lua, stage, name| {
            let found = model::find(stage, name)?;
            if !found.is_nil() {
                stage.keep(lua, name)?;
            }
            Ok(found)
        },
        names: |stage| stage.world.model_names(),
    };
    let by_number = Arc::clone(stage);
    let by_number = lua.create_function(move |_, number: i64| {
        by_number.enter(models.name)?;
        let found = by_number.find_known(number)?;
        Ok(found.map_or(Value::Nil, Handle::value))
    })?;
    let index = lua
        .load(INDEX_MODELS)
        .set_name(format!("={SANDBOX}"))
        .call::<Function>((numbers, by_number, models.index(lua, stage)?))?;
    models.register::<Models>(lua, stage, index)?;

    let groups = List {
        name: "hub.groups",
        find: Group::find,
        names: |stage| stage.world.group_names(),
    };
    groups.register::<Groups>(lua, stage, groups.index(lua, stage)?)
}

/// Most keys are texts that Lua keeps, and a number costs Rust less than a text.
const INDEX_MODELS: &str = "local numbers, by_number, by_key = ...
return function(_, key)
  local number = numbers[key]
  if number then return by_number(number) end
  return by_key(_, key)
end";

/// `hub.models` or `hub.groups`.
#[derive(Clone, Copy)]
struct List {
    name: &'static str,
    find: fn(&Lua, &Stage, &str) -> mlua::Result<Value>,
    names: fn(&Stage) -> Vec<String>,
}

impl List {
    /// The function that finds an element by its name.
    fn index(self, lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<Function> {
        let stage = Arc::clone(stage);
        lua.create_function(move |lua, (_, key): (Value, Value)| {
            stage.enter(self.name)?;
            let Some(Ok(name)) = key.as_string().map(LuaString::to_str) else {
                return Ok(Value::Nil);
            };
            (self.find)(lua, &stage, &name)
        })
    }

    /// The function that goes over all elements, in hub.yaml's order, which a table of views would lose.
    fn pairs(self, lua: &Lua, stage: &Arc<Stage>, index: &Function) -> mlua::Result<Function> {
        let stage = Arc::clone(stage);
        let names = lua.create_function(move |lua, ()| {
            stage.enter(self.name)?;
            unlimited(lua, || list(lua, &(self.names)(&stage)))
        })?;
        lua.load(PAIRS)
            .set_name(format!("={SANDBOX}"))
            .call((names, index))
    }

    fn register<L: 'static>(
        self,
        lua: &Lua,
        stage: &Arc<Stage>,
        index: Function,
    ) -> mlua::Result<()> {
        let pairs = self.pairs(lua, stage, &index)?;
        lua.register_userdata_type::<L>(|registry| {
            registry.add_meta_field(MetaMethod::Index.name(), index);
            registry.add_meta_field(MetaMethod::Pairs.name(), pairs);
            read_only(registry, self.name);
        })
    }
}

/// As `next` goes over a table.
const PAIRS: &str = "local names, find = ...
return function(self)
  local names, number = names(), 0
  return function()
    number = number + 1
    local name = names[number]
    if name then return name, find(self, name) end
  end
end";

/// The result of `__pairs` for a table.
pub(super) fn iterate(lua: &Lua, table: Table) -> mlua::Result<(Value, Table)> {
    lua.globals().get("next").map(|next| (next, table))
}
