//! The views of policies without a hook: a test reads its simulated hub as a policy would read it at that
//! moment, under the same names.

use std::sync::Arc;

use mlua::{Lua, Value};

use super::stage::Stage;
use super::views::group::Group;
use super::views::memory::Memory;
use super::views::{View, model, read};
use crate::policy::World;

/// A reader of one world.
pub(crate) struct Inspect {
    stage: Stage,
}

impl Inspect {
    /// A reader of that world.
    pub(crate) fn new(world: Arc<dyn World>) -> Self {
        let stage = Stage::new(world, Arc::default(), Arc::default());
        stage.open();
        Self { stage }
    }

    /// A field of an existing model.
    ///
    /// # Errors
    /// When models have no such field; the error names the nearest one.
    pub(crate) fn model(&self, lua: &Lua, name: &str, field: &Value) -> mlua::Result<Value> {
        model::read(lua, &self.stage, name, field)
    }

    /// A field of an existing group.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub(crate) fn group(&self, lua: &Lua, name: &str, field: &Value) -> mlua::Result<Value> {
        self.read(lua, Group::view(&self.stage, name)?, field)
    }

    /// A field of `hub.memory`.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub(crate) fn memory(&self, lua: &Lua, field: &Value) -> mlua::Result<Value> {
        self.read(lua, Some(Memory::view(&self.stage)?), field)
    }

    fn read<V: View>(&self, lua: &Lua, view: Option<V>, field: &Value) -> mlua::Result<Value> {
        match view {
            Some(view) => read(lua, &self.stage, &view, field),
            None => Ok(Value::Nil),
        }
    }
}
