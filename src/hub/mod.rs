//! The hub at work: what answers clients, users and browsers.
//!
//! Requests enter through `server`, which hands those below `/v1` to `gateway` and the rest to `control`;
//! `dashboard` draws the page that `control` serves.

pub mod control;
pub mod dashboard;
mod decimal;
pub mod gateway;
pub mod server;
