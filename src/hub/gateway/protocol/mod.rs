//! The APIs that clients speak, one folder each.
//!
//! The gateway passes requests and answers through and reads of them as little as it can. Each API
//! has its own form for the parts that the gateway must read or write itself: [`Protocol`] knows them.
//!
//! A [`Door`] translates there and back if a worker lacks the route that a client asks for. All of them
//! meet in one form, the chat completion of [`chat`]; policies see no other. A new API is a folder with
//! pure adapters, a `Protocol`, and an arm in each `match` of [`Door`].

use std::collections::VecDeque;

use bytes::Bytes;
use http::{Response, request};

use super::answer::body::Body;
use crate::api::ApiError;

pub(super) mod anthropic;
pub(super) mod chat;
mod door;
mod fields;
pub(super) mod lm_studio;
pub(super) mod ollama;
pub(super) mod openai;
pub(super) mod responses;
mod translation;

#[cfg(any(test, fuzzing))]
pub(super) use door::fuzz;
pub(super) use door::{Answering, AsChat, Door, Translating, counted, read, to_count};
pub(crate) use translation::Translation;

/// One API's form of the parts that the gateway reads and writes itself.
#[derive(Debug)]
pub(crate) struct Protocol {
    /// Its name for policies.
    pub(crate) name: &'static str,
    /// True if a request, whose body begins with these chunks, asks for a stream.
    pub(crate) asks_for_stream: fn(&VecDeque<Bytes>) -> bool,
    /// The answer to a request that failed in the hub.
    pub(crate) error: fn(&ApiError) -> Response<Body>,
    /// The same as an event of a stream that has begun.
    pub(crate) error_event: fn(&ApiError) -> Bytes,
    /// The same as all of a stream in which nothing has been said.
    pub(crate) only_event: fn(&ApiError) -> Bytes,
    /// The notice in a stream while its model loads, which no client takes for content.
    pub(crate) notice: fn(&str) -> Bytes,
    /// The content type of its streams.
    pub(crate) stream_type: &'static str,
}

/// The answer to a request for `path` that nothing behind the server has seen, in the form of the API that its
/// client speaks.
pub(crate) fn error_at(path: &str, error: &ApiError) -> Response<Body> {
    (Protocol::of(path).error)(error)
}

/// The same for a request whose head is known.
pub(crate) fn error_to(parts: &request::Parts, error: &ApiError) -> Response<Body> {
    (Protocol::spoken(parts).error)(error)
}

/// True for Anthropic's routes, those that no hub has among them.
fn is_message(path: &str) -> bool {
    is_under(path, "/v1/messages")
}

/// True for those of the Responses API.
fn is_response(path: &str) -> bool {
    is_under(path, "/v1/responses")
}

fn is_under(path: &str, root: &str) -> bool {
    let below = path.strip_prefix(root);
    below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
}

/// A stream of server-sent events.
const EVENTS: &str = "text/event-stream; charset=utf-8";

impl Protocol {
    /// Spoken where no other is.
    pub(super) const DEFAULT: &Self = &openai::OPENAI;

    /// The one that a request speaks. OpenAI's and Anthropic's list of models have one path: only clients of the
    /// latter name the version of their API.
    pub(super) fn spoken(parts: &request::Parts) -> &'static Self {
        let path = parts.uri.path();
        let is_list = path == "/v1/models" || path.starts_with("/v1/models/");
        match is_list && parts.headers.contains_key("anthropic-version") {
            true => &anthropic::ANTHROPIC,
            false => Self::of(path),
        }
    }

    /// True for Anthropic's.
    pub(super) fn is_anthropic(&self) -> bool {
        self.name == anthropic::ANTHROPIC.name
    }

    /// The one that is spoken on a path.
    pub(super) fn of(path: &str) -> &'static Self {
        match path {
            path if is_message(path) => &anthropic::ANTHROPIC,
            path if is_response(path) => &responses::RESPONSES,
            path if path.starts_with(lm_studio::ROOT) => &lm_studio::LM_STUDIO,
            path if path.starts_with("/api/") => &ollama::OLLAMA,
            _ => Self::DEFAULT,
        }
    }
}
