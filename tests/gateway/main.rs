//! The OpenAI port of a real daemon with simulated workers, from the first request to the last
//! signal: what arrives at the worker, what comes back, and what is left when somebody leaves or dies.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod accounts;
mod cancelled;
mod captured;
mod cold_start;
mod count_tokens;
mod deaths;
mod decisions;
mod disconnects;
mod doors;
mod doors_wait;
mod drain;
mod echoes;
mod endpoints;
mod ends;
mod error_bodies;
mod lacking;
mod large_bodies;
mod lists;
mod load_errors;
mod loading;
mod messages;
mod nameless;
mod ollama;
mod override_default;
mod passes_on;
mod policies;
mod queue;
mod recordings;
mod refusals;
mod responses;
mod routes;
mod shutdown;
mod slow_policies;
#[path = "../support/mod.rs"]
mod support;
mod traces;
mod watch;

use support::alpha::{
    CHAT, DIALECTS, ENDLESS, active, alpha, alpha_in, ask_and_wait, ask_as, assert_error,
    begin_stream, error_of, wait_for_active, wait_for_event,
};
