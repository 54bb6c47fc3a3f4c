//! Policies as a user writes them: files in a folder, a world, and the verdicts and texts that come
//! out.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bad_policy;
mod bundled;
mod create_hub;
mod hooks;
mod observers;
mod outcomes;
mod sandbox;
mod state;
mod types;
mod verdict_errors;
mod views;
mod waits;
mod world;
