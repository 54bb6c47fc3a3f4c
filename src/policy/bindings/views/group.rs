//! `group`: one group as of the moment the view was made.

use mlua::{Lua, Value};

use super::super::stage::Stage;
use super::{Full, Getter, View, list, string, whole};
use crate::policy::GroupView;

/// The userdata.
pub(in crate::policy) struct Group {
    call: u64,
    view: GroupView,
}

impl Group {
    /// The group of that name for the running call, or nil.
    pub(in crate::policy) fn find(lua: &Lua, stage: &Stage, name: &str) -> mlua::Result<Value> {
        match Self::view(stage, name)? {
            Some(view) => lua.create_any_userdata(view).map(Value::UserData),
            None => Ok(Value::Nil),
        }
    }

    pub(in crate::policy) fn view(stage: &Stage, name: &str) -> mlua::Result<Option<Self>> {
        let call = stage.enter("group")?;
        let found = stage.world.group(name);
        Ok(found.map(|view| Self { call, view }))
    }

    /// Number of further members that may be loaded; negative when the group is over its cap.
    fn free(&self) -> Value {
        let loaded = i64::try_from(self.view.loaded.len()).unwrap_or(i64::MAX);
        match self.view.facts.max_loaded {
            Some(most) => Value::Integer(i64::from(most) - loaded),
            None => Value::Number(f64::INFINITY),
        }
    }
}

impl View for Group {
    const NAME: &'static str = "group";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("name", |lua, _, this| string(lua, &this.view.facts.name)),
        ("max_loaded", |_, _, this| {
            Ok(whole(this.view.facts.max_loaded))
        }),
        ("idle_unload_trigger_min", |_, _, this| {
            Ok(whole(this.view.facts.idle_unload_trigger_min))
        }),
        ("members", |lua, _, this| list(lua, &this.view.members)),
        ("loaded", |lua, _, this| list(lua, &this.view.loaded)),
        ("free", |_, _, this| Ok(this.free())),
    ];
}

impl Full for Group {
    fn call(&self) -> u64 {
        self.call
    }
}
