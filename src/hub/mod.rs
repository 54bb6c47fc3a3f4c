//! The hub at work: what answers clients, users and browsers, and what has the models run.
//!
//! [`lifecycle`] is the handle to the models: `supervisor`, the one task that changes them by what `core`
//! says, and `published`, what everybody may read of them meanwhile.
//!
//! Requests enter through `server`, which hands those below `/v1` to `gateway` and the rest to `control`;
//! `dashboard` draws the page that `control` serves. `fleet` keeps the hub known to a gateway of many hubs.

pub mod control;
pub mod dashboard;
mod decimal;
pub mod fleet;
pub mod gateway;
pub mod lifecycle;
mod published;
pub mod server;
mod supervisor;
