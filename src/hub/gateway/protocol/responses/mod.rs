//! OpenAI's Responses API, over workers that speak chat completions only.
//!
//! Its form is the same as that of the other adapters: `request` reads what a client sends, `answer` and
//! `stream` write what it gets. Its errors are those of OpenAI's API.

mod answer;
mod request;
mod stream;
#[cfg(test)]
mod tests;

pub(in crate::hub::gateway) use answer::Echoed;
pub(super) use answer::response;
pub(super) use request::to_chat;
pub(super) use stream::Events;
