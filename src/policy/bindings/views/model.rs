//! `model`: one model as of the moment a policy first looked for it in this call.
//!
//! The model itself stays on the [`Stage`]; what Lua holds is a [`Handle`](super::handle::Handle).

use mlua::{Lua, Value};

use super::super::stage::{Stage, StagedModel};
use super::{
    Getter, Light, Text, View, all_names, bytes, integer, json, seconds, settings, string,
    unknown_field, whole,
};
use crate::api::ModelFacts;

/// The view of the model of that name or path for the running call, or nil.
pub(in crate::policy) fn find(stage: &Stage, name_or_path: &str) -> mlua::Result<Value> {
    let found = stage.find(name_or_path)?;
    Ok(found.map_or(Value::Nil, |handle| handle.value()))
}

/// A field of the model of that name or path as it is now, or nil without such a model.
pub(in crate::policy) fn read(
    lua: &Lua,
    stage: &Stage,
    name_or_path: &str,
    field: &Value,
) -> mlua::Result<Value> {
    let Some(facts) = stage.world.facts(name_or_path) else {
        return Ok(Value::Nil);
    };
    let name = field.as_string().map(|name| name.to_string_lossy());
    let is_it = |known: &str| name.as_deref() == Some(known);
    if let Some((_, text)) = StagedModel::TEXTS.iter().find(|(known, _)| is_it(known)) {
        return text(&facts).map_or(Ok(Value::Nil), |text| string(lua, text));
    }
    match StagedModel::FIELDS.iter().find(|(known, _)| is_it(known)) {
        Some((_, get)) => get(lua, stage, &StagedModel::new(facts)),
        None => Err(unknown_field(
            StagedModel::NAME,
            field,
            all_names::<StagedModel>(),
        )),
    }
}

impl View for StagedModel {
    const NAME: &'static str = "model";
    const FIELDS: &'static [(&'static str, Getter<Self>)] = &[
        ("active", |_, stage, this| {
            Ok(integer(this.now(&*stage.world).activity.active_requests))
        }),
        ("waiting", |_, stage, this| {
            Ok(integer(this.now(&*stage.world).activity.waiting_requests))
        }),
        ("parked", |_, stage, this| {
            Ok(integer(this.now(&*stage.world).activity.parked_requests))
        }),
        ("idle_seconds", |_, stage, this| {
            Ok(Value::Number(this.now(&*stage.world).idle_seconds))
        }),
        ("loaded_seconds", |_, stage, this| {
            Ok(seconds(this.now(&*stage.world).loaded_seconds))
        }),
        ("keep_alive", |_, stage, this| {
            Ok(seconds(this.now(&*stage.world).keep_alive))
        }),
        ("load_seconds", |_, _, this| {
            Ok(seconds(this.facts.load_seconds))
        }),
        ("memory_bytes", |_, stage, this| {
            Ok(bytes(this.now(&*stage.world).activity.memory_bytes))
        }),
        ("peak_bytes", |_, stage, this| {
            Ok(bytes(this.now(&*stage.world).activity.peak_bytes))
        }),
        ("default", |_, _, this| {
            Ok(Value::Boolean(this.facts.default))
        }),
        ("jit_enabled", |_, _, this| {
            Ok(Value::Boolean(this.facts.jit_enabled))
        }),
        ("auto_unload_minutes", |_, _, this| {
            Ok(whole(this.facts.auto_unload_minutes))
        }),
        ("hosts", |lua, _, this| match this.facts.hosts.is_empty() {
            true => Ok(Value::Nil),
            false => json(lua, &this.facts.hosts),
        }),
        ("settings", |lua, stage, this| {
            settings(lua, &this.now(&*stage.world).settings)
        }),
    ];
}

impl Light for StagedModel {
    type Shown = ModelFacts;
    const TEXTS: &'static [(&'static str, Text<Self>)] = &[
        ("name", |facts| Some(&facts.name)),
        ("path", |facts| Some(&facts.model_path)),
        ("type", |facts| Some(facts.model_type.as_ref())),
        ("engine", |facts| Some(&facts.engine)),
        ("group", |facts| facts.group.as_deref()),
        ("process_state", |facts| Some(facts.process_state.as_str())),
        ("memory_state", |facts| Some(facts.memory_state.as_str())),
    ];
}
