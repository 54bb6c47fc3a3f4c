//! Lua's side of the hub: read-only views of models, requests and the machine, the functions of `hub`, and the
//! constructors of verdicts.

pub(super) mod inspect;
pub(super) mod interned;
pub(super) mod options;
mod plain;
pub(super) mod stage;
pub(super) mod state;
pub(super) mod verdicts;
pub(super) mod views;
