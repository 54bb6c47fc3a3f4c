//! The project itself: its documents are held to the program.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod documents;
#[path = "../support/mod.rs"]
mod support;
