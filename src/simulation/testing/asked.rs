//! The result of `hub:request` and of the verbs of a simulated hub: their progress.

use std::collections::BTreeMap;

use http::HeaderValue;
use mlua::{Lua, LuaSerdeExt as _, MetaMethod, Table, UserData, UserDataMethods, Value};

use super::super::{Asked, Number, Simulation, State};
use super::hub::Shared;
use super::options;
use crate::api::ApiError;
use crate::sandbox::wording::did_you_mean;

/// The fields, which are read at the moment.
pub(crate) const FIELDS: &[&str] = &[
    "state",
    "model",
    "status",
    "message",
    "type",
    "code",
    "param",
    "retry_after",
    "body",
    "headers",
    "waited_seconds",
    "seconds",
];

/// The functions.
pub(crate) const METHODS: &[&str] = &["finish", "cancel"];

/// A request or a verb.
pub(super) struct AskedNow {
    pub(super) hub: Shared,
    pub(super) number: Number,
}

impl UserData for AskedNow {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("finish", |_, this, finish: Option<Table>| {
            let finish = options::finish(finish)?;
            let mut hub = this.hub.lock();
            match hub.finish(this.number, finish) {
                true => Ok(()),
                false => Err(this.cannot(&hub, "finish")),
            }
        });
        methods.add_method("cancel", |_, this, ()| {
            let mut hub = this.hub.lock();
            match hub.cancel(this.number) {
                true => Ok(()),
                false => Err(this.cannot(&hub, "cancel")),
            }
        });
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: Value| {
            let name = key.as_string().map(|key| key.to_string_lossy());
            this.field(lua, name.as_deref().unwrap_or_default())
        });
    }
}

impl AskedNow {
    fn cannot(&self, hub: &Simulation, verb: &str) -> mlua::Error {
        let state = word(&hub.asked(self.number).state);
        mlua::Error::runtime(format!("request:{verb}: it is {state}"))
    }

    fn field(&self, lua: &Lua, name: &str) -> mlua::Result<Value> {
        let hub = self.hub.lock();
        let asked = hub.asked(self.number);
        let now = hub.world().now();
        let error = match &asked.state {
            State::Rejected(error) => Some(error),
            _ => None,
        };
        let of_error = |read: fn(&ApiError) -> Option<String>| lua.to_value(&error.and_then(read));
        let value = match name {
            "state" => lua.to_value(word(&asked.state)),
            "model" => lua.to_value(&asked.model),
            "status" => lua.to_value(&asked.status()),
            "message" => of_error(|error| Some(error.message.clone())),
            "type" => of_error(|error| Some(error.kind.clone())),
            "code" => of_error(|error| Some(error.code.clone())),
            "param" => of_error(|error| error.param.clone()),
            "retry_after" => lua.to_value(&error.and_then(|error| error.retry_after)),
            "body" => lua.to_value(&asked.body()),
            "headers" => lua.to_value(&headers(asked)),
            "waited_seconds" => lua.to_value(&asked.waited(now).as_secs_f64()),
            "seconds" => {
                let end = asked.ended.unwrap_or(now);
                lua.to_value(&(end - asked.begun).as_secs_f64())
            }
            _ => {
                let known = FIELDS.iter().chain(METHODS).copied();
                let hint = did_you_mean(name, known);
                return Err(mlua::Error::runtime(format!(
                    "a request has no `{name}`{hint}"
                )));
            }
        };
        Ok(match value? {
            value if value.is_null() => Value::Nil,
            value => value,
        })
    }
}

/// The word that tests use.
pub(in super::super) fn word(state: &State) -> &'static str {
    match state {
        State::Ordered | State::Parked(_) | State::Arriving(_) => "waiting",
        State::Running(..) => "running",
        State::Done => "done",
        State::Rejected(_) => "rejected",
        State::Cut => "cut",
        State::Cancelled => "cancelled",
    }
}

/// The headers as the worker gets them, by name.
fn headers(asked: &Asked) -> BTreeMap<String, String> {
    let view = asked.view.as_deref();
    let sent = view.into_iter().flat_map(|view| &view.parts.headers);
    let route = asked.route.as_deref();
    let added = route.into_iter().flat_map(|route| &route.headers);
    let all = sent.chain(added.map(|(name, value)| (name, value)));
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    all.map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}
