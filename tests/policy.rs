//! Policies as a user writes them: files in a folder, a world, and the verdicts and texts that come
//! out.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "policy/world.rs"]
mod world;

#[path = "policy/bad_policy.rs"]
mod bad_policy;
#[path = "policy/create_hub.rs"]
mod create_hub;

#[path = "policy/hooks.rs"]
mod hooks;
#[path = "policy/observers.rs"]
mod observers;
#[path = "policy/outcomes.rs"]
mod outcomes;
#[path = "policy/sandbox.rs"]
mod sandbox;
#[path = "policy/state.rs"]
mod state;
#[path = "policy/types.rs"]
mod types;
#[path = "policy/verdict_errors.rs"]
mod verdict_errors;
#[path = "policy/views.rs"]
mod views;
#[path = "policy/waits.rs"]
mod waits;
