//! Anthropic's Messages API, over workers that speak chat completions only.
//!
//! `request` reads what a client sends, `answer` and `stream` write what it gets, `errors` say what went
//! wrong in its own words. They are pure: no I/O, no models, no policies.

use super::{EVENTS, Protocol};
use crate::hub::gateway::request::stream_flag::asks_for_stream;

mod answer;
mod errors;
pub(in crate::hub::gateway) mod models;
mod request;
mod stream;
#[cfg(test)]
mod tests;
mod tools;

pub(super) use answer::message;
pub(super) use request::to_chat;
pub(super) use stream::Events;

pub(super) const ANTHROPIC: Protocol = Protocol {
    name: "anthropic",
    asks_for_stream,
    error: errors::error,
    error_event: errors::error_event,
    only_event: errors::error_event,
    notice: errors::ping,
    stream_type: EVENTS,
};
