//! The one port of a real daemon: who is let in, what gateways are told, what cannot be read, and what happens when connections have
//! no descriptors left.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod configuration;
mod descriptors;
mod door;
mod fleet;
mod history;
mod keys;
mod login;
mod plan;
mod prometheus;
mod proxies;
mod responses;
#[path = "../support/mod.rs"]
mod support;
mod told;
mod unreadable;

use support::alpha::{CHAT, alpha, alpha_in, assert_error, error_of, wait_for_active};
