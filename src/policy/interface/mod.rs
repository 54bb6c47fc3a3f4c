//! The hooks, and a world for files that are only looked at. What hooks are asked, what they see and what they
//! may answer stands in `core/interface`: it is the hub that asks.

pub(super) mod declared;
pub(super) mod hook;
pub(super) mod unstarted;
