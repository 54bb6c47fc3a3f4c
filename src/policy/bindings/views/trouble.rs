//! `trouble`: a worker that runs and does not serve.

use mlua::{Lua, Value};

use super::{Full, Getter, View, integer, model, seconds, string};
use crate::policy::Trouble;

/// The userdata.
pub(in crate::policy) struct InTrouble {
    call: u64,
    model: String,
    trouble: Trouble,
}

impl InTrouble {
    /// The view for call number `call`.
    pub(in crate::policy) fn create(
        lua: &Lua,
        call: u64,
        model: &str,
        trouble: Trouble,
    ) -> mlua::Result<Value> {
        lua.create_any_userdata(Self {
            call,
            model: model.to_owned(),
            trouble,
        })
        .map(Value::UserData)
    }
}

impl View for InTrouble {
    const NAME: &'static str = "trouble";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("kind", |lua, _, this| {
            string(lua, this.trouble.kind.as_str())
        }),
        ("model", |_, stage, this| model::find(stage, &this.model)),
        ("silent_seconds", |_, _, this| {
            Ok(Value::Number(this.trouble.silent_seconds))
        }),
        ("still_seconds", |_, _, this| {
            Ok(Value::Number(this.trouble.still_seconds))
        }),
        ("cpu_seconds", |_, _, this| {
            Ok(seconds(this.trouble.cpu_seconds))
        }),
        ("prompt_chars", |_, _, this| {
            Ok(this.trouble.prompt_chars.map_or(Value::Nil, integer))
        }),
        ("expected_seconds", |_, _, this| {
            Ok(seconds(this.trouble.expected_seconds))
        }),
        ("errors", |_, _, this| Ok(integer(this.trouble.errors))),
        ("recent_errors", |_, _, this| {
            Ok(integer(this.trouble.recent_errors))
        }),
        ("last_status", |_, _, this| {
            let status = this.trouble.last_status;
            Ok(status.map_or(Value::Nil, |status| Value::Integer(status.into())))
        }),
        ("requests", |_, _, this| Ok(integer(this.trouble.requests))),
        ("crashes", |_, _, this| Ok(integer(this.trouble.crashes))),
        ("stall_timeout", |_, _, this| {
            Ok(seconds(this.trouble.stall_timeout))
        }),
    ];
}

impl Full for InTrouble {
    fn call(&self) -> u64 {
        self.call
    }
}
