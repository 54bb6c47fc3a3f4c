//! OpenAI's Responses API, over workers that speak chat completions only.
//!
//! Its form is the same as that of the other adapters: `request` reads what a client sends, `answer` and
//! `stream` write what it gets. `kept` has the responses that later requests continue, take items
//! from (`references`) or `retrieve`, and that the next hub is `handed`. Its errors are those of OpenAI's API.

use bytes::Bytes;

mod answer;
mod handed;
mod kept;
mod references;
mod request;
mod retrieve;
mod stream;
#[cfg(test)]
mod tests;

use super::Protocol;
use super::openai::OPENAI;
use crate::api::{ApiError, unix_now};

pub(in crate::hub::gateway) use answer::Echoed;
pub(super) use answer::response;
pub(in crate::hub::gateway) use handed::HandedKept;
pub(super) use kept::Conversation;
pub(in crate::hub::gateway) use kept::{FORGOTTEN, Kept};
pub(super) use references::resolved;
pub(super) use request::to_chat;
pub(in crate::hub::gateway) use retrieve::answer as retrieve;
pub(super) use stream::Events;

/// OpenAI's, but for the end of a stream that fails: its clients wait for an event that ends the response.
pub(super) const RESPONSES: Protocol = Protocol {
    name: "responses",
    error_event,
    only_event,
    ..OPENAI
};

fn error_event(error: &ApiError) -> Bytes {
    stream::failed(error, unix_now() as u64).into()
}

fn only_event(error: &ApiError) -> Bytes {
    stream::failed_at_once(error, unix_now() as u64).into()
}
