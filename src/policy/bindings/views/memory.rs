//! `hub.memory`: the machine's memory as last measured.

use mlua::{Lua, Value};

use super::super::stage::Stage;
use super::{Full, Getter, View, bytes, string};
use crate::api::SystemMemory;

/// The userdata.
pub(in crate::policy) struct Memory {
    call: u64,
    system: SystemMemory,
}

impl Memory {
    /// The view for the running call.
    pub(in crate::policy) fn create(lua: &Lua, stage: &Stage) -> mlua::Result<Value> {
        lua.create_any_userdata(Self::view(stage)?)
            .map(Value::UserData)
    }

    pub(in crate::policy) fn view(stage: &Stage) -> mlua::Result<Self> {
        let call = stage.enter(Self::NAME)?;
        let system = stage.world.memory();
        Ok(Self { call, system })
    }
}

impl View for Memory {
    const NAME: &'static str = "hub.memory";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("total", |_, _, this| Ok(bytes(this.system.total))),
        ("available", |_, _, this| Ok(bytes(this.system.available))),
        ("returning", |_, _, this| {
            Ok(bytes(Some(this.system.returning)))
        }),
        ("spares", |_, _, this| Ok(bytes(Some(this.system.spares)))),
        ("pressure", |lua, _, this| {
            string(lua, this.system.pressure.as_str())
        }),
    ];
}

impl Full for Memory {
    fn call(&self) -> u64 {
        self.call
    }
}
