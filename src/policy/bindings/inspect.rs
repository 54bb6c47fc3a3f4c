//! The views of policies for who is no hook: a test that looks at its simulated hub sees what a policy
//! would see at that moment, under the same names.

use std::sync::Arc;

use mlua::{Lua, Value};

use super::stage::Stage;
use super::views::group::Group;
use super::views::memory::Memory;
use super::views::{View, model, read};
use crate::policy::World;

/// Eyes on one world.
pub(crate) struct Inspect {
    stage: Stage,
}

impl Inspect {
    /// On that world.
    pub(crate) fn new(world: Arc<dyn World>) -> Self {
        let stage = Stage::new(world, Arc::default(), Arc::default());
        stage.open();
        Self { stage }
    }

    /// A field of a model that there is.
    ///
    /// # Errors
    /// When models have no such field; the error names the nearest one.
    pub(crate) fn model(&self, lua: &Lua, name: &str, field: &Value) -> mlua::Result<Value> {
        model::read(lua, &self.stage, name, field)
    }

    /// The same of a group.
    ///
    /// # Errors
    /// As above.
    pub(crate) fn group(&self, lua: &Lua, name: &str, field: &Value) -> mlua::Result<Value> {
        self.read(lua, Group::view(&self.stage, name)?, field)
    }

    /// The same of `hub.memory`.
    ///
    /// # Errors
    /// As above.
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
