//! What hooks are asked, what they see and what they may answer, without a word of Lua: the questions and
//! verdicts of policies as the rest of the hub knows them.

pub(super) mod event;
pub(super) mod hook;
pub(super) mod local_time;
pub(super) mod plain;
pub(super) mod questions;
pub(super) mod unstarted;
pub(super) mod wording;
pub(super) mod world;
