//! `load`: a model that needs memory.

use mlua::{Lua, Value};

use super::group::Group;
use super::{Full, Getter, View, integer, model, string};
use crate::policy::PendingLoad;

/// The userdata.
pub(in crate::policy) struct Load {
    call: u64,
    model: String,
    pending: PendingLoad,
}

impl Load {
    /// The view for call number `call`.
    pub(in crate::policy) fn create(
        lua: &Lua,
        call: u64,
        model: &str,
        pending: PendingLoad,
    ) -> mlua::Result<Value> {
        lua.create_any_userdata(Self {
            call,
            model: model.to_owned(),
            pending,
        })
        .map(Value::UserData)
    }
}

impl View for Load {
    const NAME: &'static str = "load";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("model", |_, stage, this| model::find(stage, &this.model)),
        ("reason", |lua, _, this| {
            string(lua, this.pending.reason.as_str())
        }),
        ("waiting", |_, _, this| Ok(integer(this.pending.waiting))),
        ("waited_seconds", |_, _, this| {
            Ok(Value::Number(this.pending.waited_seconds))
        }),
        ("group", |lua, stage, this| {
            let facts = stage.world.facts(&this.model);
            match facts.as_ref().and_then(|facts| facts.group.as_deref()) {
                Some(group) => Group::find(lua, stage, group),
                None => Ok(Value::Nil),
            }
        }),
    ];
}

impl Full for Load {
    fn call(&self) -> u64 {
        self.call
    }
}
