//! `model`: one model as of the moment the view was made.

use mlua::{Lua, Value};

use super::super::ModelView;
use super::super::stage::Stage;
use super::{
    Getter, View, bytes, integer, optional_string, seconds, settings, string, userdata, whole,
};

/// The userdata.
pub(in crate::policy) struct Model {
    call: u64,
    view: ModelView,
}

impl Model {
    /// The model of that name or path for the running call, or nil.
    pub(in crate::policy) fn find(lua: &Lua, stage: &Stage, name: &str) -> mlua::Result<Value> {
        match Self::view(stage, name)? {
            Some(view) => userdata(lua, view),
            None => Ok(Value::Nil),
        }
    }

    pub(in crate::policy) fn view(stage: &Stage, name: &str) -> mlua::Result<Option<Self>> {
        let call = stage.enter("model")?;
        let found = stage.world.model(name);
        Ok(found.map(|view| Self { call, view }))
    }
}

impl View for Model {
    const NAME: &'static str = "model";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("name", |lua, _, this| string(lua, &this.view.facts.name)),
        ("path", |lua, _, this| {
            string(lua, &this.view.facts.model_path)
        }),
        ("type", |lua, _, this| {
            string(lua, this.view.facts.model_type)
        }),
        ("group", |lua, _, this| {
            optional_string(lua, this.view.facts.group.as_deref())
        }),
        ("process_state", |lua, _, this| {
            string(lua, this.view.facts.process_state.as_str())
        }),
        ("memory_state", |lua, _, this| {
            string(lua, this.view.facts.memory_state.as_str())
        }),
        ("active", |_, _, this| {
            Ok(integer(this.view.activity.active_requests))
        }),
        ("waiting", |_, _, this| {
            Ok(integer(this.view.activity.waiting_requests))
        }),
        ("parked", |_, _, this| {
            Ok(integer(this.view.activity.parked_requests))
        }),
        ("idle_seconds", |_, _, this| {
            Ok(Value::Number(this.view.idle_seconds))
        }),
        ("loaded_seconds", |_, _, this| {
            Ok(seconds(this.view.loaded_seconds))
        }),
        ("load_seconds", |_, _, this| {
            Ok(seconds(this.view.facts.load_seconds))
        }),
        ("memory_bytes", |_, _, this| {
            Ok(bytes(this.view.memory_bytes))
        }),
        ("peak_bytes", |_, _, this| Ok(bytes(this.view.peak_bytes))),
        ("default", |_, _, this| {
            Ok(Value::Boolean(this.view.facts.default))
        }),
        ("jit_enabled", |_, _, this| {
            Ok(Value::Boolean(this.view.facts.jit_enabled))
        }),
        ("auto_unload_minutes", |_, _, this| {
            Ok(whole(this.view.facts.auto_unload_minutes))
        }),
        ("settings", |lua, _, this| {
            settings(lua, &this.view.settings)
        }),
    ];

    fn call(&self) -> u64 {
        self.call
    }
}
