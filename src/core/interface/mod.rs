//! The interface of the policies: their view of the hub, the questions put to them, their verdicts, and the
//! events for their observers. Nothing here knows of Lua.

pub(crate) mod event;
pub(crate) mod local_time;
pub(crate) mod plain;
pub(crate) mod questions;
pub(crate) mod world;
