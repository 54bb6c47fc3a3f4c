//! The Lua value of `req`, its headers and models: a light userdata with the number of a call and a place on the
//! [`Stage`], which holds the values to show.
//!
//! It takes no memory and is never collected; two views of one model are equal; and one that a policy has kept
//! is recognised by the number of an earlier call.

use std::ptr;
use std::sync::Arc;

use mlua::{Function, LightUserData, Lua, LuaString, MetaMethod, Value};

use super::super::stage::{Stage, StagedModel};
use super::request::{self, RequestHandle};
use super::{Getter, Light as _, Text, View as _, all_names, assigned, hub, quoted, unknown_field};
use crate::policy::bindings::interned::Tables;
use crate::sandbox::errors::SANDBOX;

/// Bits of a place. The rest is the number of the call, which 64 bits hold for longer than hubs run.
const PLACE_BITS: u32 = 16;

/// The numbers in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) struct Handle {
    call: u64,
    place: usize,
}

/// The object that it stands for.
#[derive(Clone, Copy)]
enum HandleKind {
    Request,
    /// `req.headers`.
    Headers,
    /// The model at that place on stage.
    Model(usize),
}

impl Handle {
    /// The place of the request, that of its headers, and that of the first model.
    const REQUEST: usize = 0;
    const HEADERS: usize = 1;
    const MODELS: usize = 2;

    /// The request of that call.
    pub(in crate::policy) fn of_request(call: u64) -> Self {
        let place = Self::REQUEST;
        Self { call, place }
    }

    /// Its headers.
    pub(super) fn of_headers(call: u64) -> Self {
        let place = Self::HEADERS;
        Self { call, place }
    }

    /// The model at that place on stage in that call.
    ///
    /// # Errors
    /// When a call looks at too many models.
    pub(in crate::policy) fn of_model(call: u64, place: usize) -> mlua::Result<Self> {
        let place = Self::MODELS + place;
        if place >> PLACE_BITS != 0 {
            let most = (1 << PLACE_BITS) - Self::MODELS;
            let text = format!("a hook may look at {most} models, and looked at more");
            return Err(mlua::Error::runtime(text));
        }
        Ok(Self { call, place })
    }

    /// Its Lua value.
    pub(in crate::policy) fn value(self) -> Value {
        let address = (self.call as usize) << PLACE_BITS | self.place;
        Value::LightUserData(LightUserData(ptr::without_provenance_mut(address)))
    }

    fn of(userdata: LightUserData) -> Self {
        let address = userdata.0.addr();
        Self {
            call: (address >> PLACE_BITS) as u64,
            place: address & ((1 << PLACE_BITS) - 1),
        }
    }

    fn kind(self) -> HandleKind {
        match self.place {
            Self::REQUEST => HandleKind::Request,
            Self::HEADERS => HandleKind::Headers,
            place => HandleKind::Model(place - Self::MODELS),
        }
    }

    /// Its name in error messages.
    fn name(self) -> &'static str {
        match self.kind() {
            HandleKind::Request => RequestHandle::NAME,
            HandleKind::Headers => request::HEADERS,
            HandleKind::Model(_) => StagedModel::NAME,
        }
    }

    /// The value of a key that is not a field: a header, or nil.
    fn other(self, lua: &Lua, stage: &Stage, key: &str) -> mlua::Result<Value> {
        if let HandleKind::Headers = self.kind() {
            stage.check(request::HEADERS, self.call)?;
            return request::header(lua, stage, key);
        }
        Err(self.unknown(&Value::String(lua.create_string(key)?)))
    }

    fn unknown(self, key: &Value) -> mlua::Error {
        match self.kind() {
            HandleKind::Request => {
                unknown_field(RequestHandle::NAME, key, all_names::<RequestHandle>())
            }
            HandleKind::Headers => {
                let text = format!("{} has names, not {}", request::HEADERS, quoted(key));
                mlua::Error::runtime(text)
            }
            HandleKind::Model(_) => {
                unknown_field(StagedModel::NAME, key, all_names::<StagedModel>())
            }
        }
    }
}

/// One field of both kinds: a name may stand for something in each.
#[derive(Clone, Copy)]
struct Field<R, M> {
    name: &'static str,
    of_request: Option<R>,
    of_model: Option<M>,
}

/// The fields that are in one of the lists, or in both.
fn fields<R: Copy, M: Copy>(
    of_request: &'static [(&'static str, R)],
    of_model: &'static [(&'static str, M)],
) -> impl Iterator<Item = Field<R, M>> {
    let names = of_request.iter().map(|(name, _)| *name);
    let more = of_model.iter().map(|(name, _)| *name);
    let more = more.filter(|name| of_request.iter().all(|(known, _)| known != name));
    names.chain(more).map(|name| Field {
        name,
        of_request: find(of_request, name),
        of_model: find(of_model, name),
    })
}

fn find<T: Copy>(list: &[(&str, T)], name: &str) -> Option<T> {
    let found = list.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}

/// Makes all kinds known to `lua`, where no other light userdata has fields.
pub(super) fn register(lua: &Lua, stage: &Arc<Stage>, known: &Tables) -> mlua::Result<()> {
    let texts = lua.create_table()?;
    for field in fields(RequestHandle::TEXTS, StagedModel::TEXTS) {
        texts.set(field.name, text(lua, stage, field)?)?;
    }
    let getters = lua.create_table()?;
    for field in fields(RequestHandle::FIELDS, StagedModel::FIELDS) {
        getters.set(field.name, getter(lua, stage, field)?)?;
    }
    let others = (by_number(lua, stage)?, by_key(lua, stage)?);
    let index = lua
        .load(INDEX)
        .set_name(format!("={SANDBOX}"))
        .call::<Function>((
            texts,
            getters,
            &known.texts,
            &known.numbers,
            others.0,
            others.1,
        ))?;
    let refuse = lua.create_function(|_, (userdata, key, _): (LightUserData, Value, Value)| {
        Err::<(), _>(assigned(Handle::of(userdata).name(), &key))
    })?;
    let shown = lua.create_function(|_, userdata: LightUserData| {
        let handle = Handle::of(userdata);
        Ok(format!("{}: {:#x}", handle.name(), userdata.0.addr()))
    })?;
    let metatable = lua.create_table()?;
    metatable.set(MetaMethod::Index.name(), index)?;
    metatable.set(MetaMethod::NewIndex.name(), refuse)?;
    metatable.set(MetaMethod::Pairs.name(), pairs(lua, stage)?)?;
    metatable.set(MetaMethod::ToString.name(), shown)?;
    metatable.set(MetaMethod::Type.name(), "view")?;
    metatable.set("__metatable", false)?;
    lua.set_type_metatable::<LightUserData>(Some(metatable));
    Ok(())
}

/// Finds the getter of a field, and the text of a number, which costs less in Lua than in Rust. A key that is
/// not a field may be the name of a header, which costs less as its number.
const INDEX: &str = "local texts, getters, known, numbers, by_number, by_key = ...
return function(self, key)
  local get = texts[key]
  if get then
    local text = get(self)
    return known[text] or text
  end
  get = getters[key]
  if get then return get(self) end
  local number = numbers[key]
  if number then return by_number(self, number) end
  return by_key(self, key)
end";

/// The function that reads a text: its number if Lua keeps it.
fn text(
    lua: &Lua,
    stage: &Arc<Stage>,
    field: Field<Text<RequestHandle>, Text<StagedModel>>,
) -> mlua::Result<Function> {
    let stage = Arc::clone(stage);
    lua.create_function(move |lua, userdata: LightUserData| {
        let handle = Handle::of(userdata);
        stage.check(handle.name(), handle.call)?;
        match (handle.kind(), field.of_request, field.of_model) {
            (HandleKind::Request, Some(read), _) => stage.request_text(lua, read),
            (HandleKind::Model(place), _, Some(read)) => stage.model_text(lua, place, read),
            _ => handle.other(lua, &stage, field.name),
        }
    })
}

/// The function that reads any other field.
fn getter(
    lua: &Lua,
    stage: &Arc<Stage>,
    field: Field<Getter<RequestHandle>, Getter<StagedModel>>,
) -> mlua::Result<Function> {
    let stage = Arc::clone(stage);
    lua.create_function(move |lua, userdata: LightUserData| {
        let handle = Handle::of(userdata);
        stage.check(handle.name(), handle.call)?;
        match (handle.kind(), field.of_request, field.of_model) {
            (HandleKind::Request, Some(get), _) => {
                get(lua, &stage, &RequestHandle { call: handle.call })
            }
            (HandleKind::Model(place), _, Some(get)) => {
                stage.model(place, |model| get(lua, &stage, model))
            }
            _ => handle.other(lua, &stage, field.name),
        }
    })
}

/// The function that reads a key that is not a field and has a number.
fn by_number(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<Function> {
    let stage = Arc::clone(stage);
    lua.create_function(move |lua, (userdata, number): (LightUserData, i64)| {
        let name = stage.text(number).unwrap_or_default();
        Handle::of(userdata).other(lua, &stage, &name)
    })
}

/// The function that reads a key that is not a field; the name of a header has a number from then on.
fn by_key(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<Function> {
    let stage = Arc::clone(stage);
    lua.create_function(move |lua, (userdata, key): (LightUserData, Value)| {
        let handle = Handle::of(userdata);
        let HandleKind::Headers = handle.kind() else {
            return Err(handle.unknown(&key));
        };
        stage.check(request::HEADERS, handle.call)?;
        match key.as_string().map(LuaString::to_str) {
            Some(Ok(name)) => {
                stage.keep(lua, &name)?;
                request::header(lua, &stage, &name)
            }
            Some(Err(_)) => Ok(Value::Nil),
            None => Err(handle.unknown(&key)),
        }
    })
}

/// The function that lists headers; the other kinds have fields and no list of them.
fn pairs(lua: &Lua, stage: &Arc<Stage>) -> mlua::Result<Function> {
    let stage = Arc::clone(stage);
    lua.create_function(move |lua, userdata: LightUserData| {
        let handle = Handle::of(userdata);
        let HandleKind::Headers = handle.kind() else {
            let name = handle.name();
            let text = format!("bad argument #1 to 'for iterator' (table expected, got {name})");
            return Err(mlua::Error::runtime(text));
        };
        stage.check(request::HEADERS, handle.call)?;
        hub::iterate(lua, request::headers(lua, &stage)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_what_lua_gave_back_and_a_place_too_many_is_refused() {
        let handles = [
            Handle::of_request(1),
            Handle::of_request(1 << 40),
            Handle::of_headers(7),
            Handle::of_model(7, 0).unwrap(),
            Handle::of_model(7, (1 << PLACE_BITS) - 3).unwrap(),
        ];
        for handle in handles {
            let Value::LightUserData(userdata) = handle.value() else {
                panic!("{handle:?}");
            };
            assert_eq!(Handle::of(userdata), handle);
        }
        let refused = Handle::of_model(7, (1 << PLACE_BITS) - 2).unwrap_err();
        insta::assert_snapshot!(refused, @"runtime error: a hook may look at 65534 models, and looked at more");
    }
}
