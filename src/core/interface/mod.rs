//! What decides is asked by these words: what policies see of the hub, the questions they are asked, the
//! verdicts they may give, and the events that their observers hear of. Nothing here knows of Lua.

pub(crate) mod event;
pub(crate) mod local_time;
pub(crate) mod plain;
pub(crate) mod questions;
pub(crate) mod world;
