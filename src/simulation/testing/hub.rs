//! `test.hub{…}`: a simulated hub in the hands of a Lua test.
//!
//! Its views are those of policies, read at the moment of the look; its functions are what happens to a
//! hub: requests, orders, crashes, time.

use std::sync::Arc;

use mlua::{
    Function, IntoLua as _, Lua, LuaSerdeExt as _, MetaMethod, Table, UserData, UserDataMethods,
    Value,
};
use parking_lot::Mutex;

use super::super::{Simulation, Verb};
use super::asked::AskedNow;
use super::logged::Lines;
use super::values::{DURATION, MOMENT, duration, moment};
use super::{Source, options};
use crate::policy::{Inspect, Policies, World as _};
use crate::sandbox::wording::did_you_mean;

/// A simulated hub that several Lua values look at.
pub(super) type Shared = Arc<Mutex<Simulation>>;

/// Fields of a test's hub, besides its functions.
pub(crate) const FIELDS: &[&str] = &["models", "groups", "memory", "state", "logged", "warnings"];

/// Its functions, besides one for each verb on a model.
const METHODS: &[&str] = &[
    "request",
    "reload",
    "crash",
    "advance",
    "advance_to",
    "settle",
    "clock",
    "time",
    "set_worker",
    "set_memory",
];

/// All its functions.
pub(crate) fn methods() -> impl Iterator<Item = &'static str> {
    let verbs = Verb::ALL.into_iter().map(Verb::as_str);
    METHODS.iter().copied().chain(verbs)
}

/// The hub.
pub(super) struct TestHub {
    pub(super) hub: Shared,
    pub(super) look: Arc<Inspect>,
    pub(super) lines: Lines,
    pub(super) source: Source,
}

impl TestHub {
    fn asked(&self, number: usize) -> AskedNow {
        let hub = Arc::clone(&self.hub);
        AskedNow { hub, number }
    }

    /// Refuses names of models that there are not.
    fn know(&self, model: &str) -> mlua::Result<()> {
        let hub = self.hub.lock();
        let world = hub.world();
        match world.model(model) {
            Some(_) => Ok(()),
            None => Err(unknown("model", model, &world.model_names())),
        }
    }

    fn field(&self, lua: &Lua, name: &str) -> mlua::Result<Value> {
        let seen = |what| {
            let (hub, look) = (Arc::clone(&self.hub), Arc::clone(&self.look));
            lua.create_userdata(Seen { hub, look, what })
                .map(Value::UserData)
        };
        match name {
            "models" => seen(What::Models),
            "groups" => seen(What::Groups),
            "memory" => seen(What::Memory),
            "state" => self.hub.lock().policies().state().into_lua(lua),
            "warnings" => lua.to_value(&self.hub.lock().policies().warnings()),
            "logged" => {
                let lines = self.lines.lock();
                let tables = lines.iter().map(|line| {
                    lua.create_table_from([
                        ("level", line.level.as_str()),
                        ("text", line.text.as_str()),
                        ("policy", line.policy.as_str()),
                    ])
                });
                let tables = tables.collect::<mlua::Result<Vec<_>>>()?;
                lua.create_sequence_from(tables).map(Value::Table)
            }
            _ => {
                let known = FIELDS.iter().copied().chain(methods());
                let hint = did_you_mean(name, known);
                Err(mlua::Error::runtime(format!(
                    "a hub of a test has no `{name}`{hint}"
                )))
            }
        }
    }
}

impl UserData for TestHub {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method(
            "request",
            |lua, this, (model, options): (Option<String>, Option<Table>)| {
                let options = options.map_or_else(|| lua.create_table(), Ok)?;
                // As the gateway reads it.
                let model = model.filter(|model| !model.trim().is_empty());
                let config = this.hub.lock().world().config();
                let (view, ends_after) =
                    options::request(lua, &config, model.as_deref(), &options)?;
                Ok(this.asked(this.hub.lock().request(view, ends_after)))
            },
        );
        for verb in Verb::ALL {
            methods.add_method(verb.as_str(), move |_, this, model: String| {
                this.know(&model)?;
                Ok(this.asked(this.hub.lock().verb(verb, &model)))
            });
        }
        methods.add_method("reload", |lua, this, table: Option<Table>| {
            let table = table.map_or_else(|| lua.create_table(), Ok)?;
            let config = this.source.config(lua, &table)?;
            let bundled = config.policies.clone();
            let read = |policies: &Policies| this.source.reload(policies, &bundled);
            Ok(this.asked(this.hub.lock().reload(config, read)))
        });
        methods.add_method("crash", |_, this, (model, code): (String, Option<i32>)| {
            this.know(&model)?;
            let ended = this.hub.lock().crash(&model, code, "its process ended");
            match ended {
                true => Ok(()),
                false => Err(mlua::Error::runtime(format!(
                    "hub:crash: `{model}` has no process"
                ))),
            }
        });
        methods.add_method("advance", |_, this, time: Value| {
            let time = duration(&time)
                .ok_or_else(|| mlua::Error::runtime(format!("hub:advance: takes {DURATION}")))?;
            this.hub.lock().advance(time);
            Ok(())
        });
        methods.add_method("advance_to", |_, this, text: String| {
            let mut hub = this.hub.lock();
            let now = hub.world().clock();
            let time = moment(&text, now).map(|at| duration(&Value::Number(at - now)));
            let time = time.flatten().ok_or_else(|| {
                mlua::Error::runtime(format!("hub:advance_to: takes {MOMENT}, in the future"))
            })?;
            hub.advance(time);
            Ok(())
        });
        methods.add_method("settle", |_, this, ()| match this.hub.lock().settle() {
            true => Ok(()),
            false => Err(mlua::Error::runtime(
                "hub:settle: a model is still on its way after an hour",
            )),
        });
        methods.add_method("clock", |_, this, ()| Ok(this.hub.lock().world().clock()));
        methods.add_method("time", |lua, this, ()| {
            let time = this.hub.lock().world().local_time();
            lua.create_table_from(time.named())
        });
        methods.add_method("set_worker", |_, this, (model, table): (String, Table)| {
            this.know(&model)?;
            change_worker(&mut this.hub.lock(), &model, &table).map(|_| ())
        });
        methods.add_method("set_memory", |_, this, table: Table| {
            change_memory(&mut this.hub.lock(), &table)
        });
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let name = key.as_string().map(|key| key.to_string_lossy());
            this.field(lua, name.as_deref().unwrap_or_default())
        });
    }
}

/// Changes a worker, and what is known of it, unless an error is in the table; false when there is no such model.
pub(super) fn change_worker(
    hub: &mut Simulation,
    model: &str,
    table: &Table,
) -> mlua::Result<bool> {
    let worker = hub.world().at(model, |model| model.worker.clone());
    let Some(mut worker) = worker else {
        return Ok(false);
    };
    let peak = options::worker(table, &mut worker)?;
    hub.change_worker(model, worker, peak);
    Ok(true)
}

/// Changes the machine's memory, unless an error is in the table.
pub(super) fn change_memory(hub: &mut Simulation, table: &Table) -> mlua::Result<()> {
    let mut memory = hub.world().with(|machine| machine.memory.clone());
    options::memory(table, &mut memory)?;
    hub.world().with(|machine| machine.memory = memory);
    Ok(())
}

/// The error for a name that there is not.
pub(super) fn unknown(what: &str, name: &str, known: &[String]) -> mlua::Error {
    let hint = did_you_mean(name, known.iter().map(String::as_str));
    mlua::Error::runtime(format!("no {what} is called `{name}`{hint}"))
}

/// Something of a hub, as it is when a field of it is read.
struct Seen {
    hub: Shared,
    look: Arc<Inspect>,
    what: What,
}

#[derive(Clone)]
enum What {
    Models,
    Model(String),
    Groups,
    Group(String),
    Memory,
}

impl Seen {
    fn names(&self) -> Vec<String> {
        let hub = self.hub.lock();
        match self.what {
            What::Models => hub.world().model_names(),
            What::Groups => hub.world().group_names(),
            _ => Vec::new(),
        }
    }

    fn read(&self, lua: &Lua, key: &Value) -> mlua::Result<Value> {
        let of = |what: fn(String) -> What, word: &str| {
            let name = key.as_string().map(|name| name.to_string_lossy());
            let (name, known) = (name.unwrap_or_default(), self.names());
            if !known.contains(&name) {
                return Err(unknown(word, &name, &known));
            }
            let (hub, look) = (Arc::clone(&self.hub), Arc::clone(&self.look));
            let what = what(name);
            lua.create_userdata(Self { hub, look, what })
                .map(Value::UserData)
        };
        match &self.what {
            What::Models => of(What::Model, "model"),
            What::Groups => of(What::Group, "group"),
            What::Model(name) => self.look.model(lua, name, key),
            What::Group(name) => self.look.group(lua, name, key),
            What::Memory => self.look.memory(lua, key),
        }
    }
}

impl UserData for Seen {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            this.read(lua, &key)
        });
        methods.add_meta_method(MetaMethod::Pairs, |lua, this, ()| {
            let entries = lua.create_table()?;
            for name in this.names() {
                let name = Value::String(lua.create_string(name)?);
                entries.push(lua.create_sequence_from([name.clone(), this.read(lua, &name)?])?)?;
            }
            let mut next = 0;
            let step = lua.create_function_mut(move |_, _: mlua::Variadic<Value>| {
                next += 1;
                let entry = entries.raw_get::<Option<Table>>(next)?;
                let Some(entry) = entry else {
                    return Ok((Value::Nil, Value::Nil));
                };
                Ok((entry.raw_get(1)?, entry.raw_get(2)?))
            })?;
            Ok::<Function, _>(step)
        });
    }
}
