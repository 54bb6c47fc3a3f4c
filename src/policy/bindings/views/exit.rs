//! `exit`: a worker that ended unasked.

use mlua::{Lua, Value};

use super::{Full, Getter, View, integer, model};
use crate::policy::Exit;

/// The userdata.
pub(in crate::policy) struct Ended {
    call: u64,
    model: String,
    exit: Exit,
}

impl Ended {
    /// The view for call number `call`.
    pub(in crate::policy) fn create(
        lua: &Lua,
        call: u64,
        model: &str,
        exit: Exit,
    ) -> mlua::Result<Value> {
        lua.create_any_userdata(Self {
            call,
            model: model.to_owned(),
            exit,
        })
        .map(Value::UserData)
    }
}

impl View for Ended {
    const NAME: &'static str = "exit";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("model", |_, stage, this| model::find(stage, &this.model)),
        ("exit_code", |_, _, this| {
            Ok(this
                .exit
                .exit_code
                .map_or(Value::Nil, |code| Value::Integer(code.into())))
        }),
        ("was_ready", |_, _, this| {
            Ok(Value::Boolean(this.exit.was_ready))
        }),
        ("uptime_seconds", |_, _, this| {
            Ok(Value::Number(this.exit.uptime_seconds))
        }),
        ("crashes", |_, _, this| Ok(integer(this.exit.crashes))),
    ];
}

impl Full for Ended {
    fn call(&self) -> u64 {
        self.call
    }
}
