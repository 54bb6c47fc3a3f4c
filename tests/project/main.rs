//! The project itself: the shape of its tree, and its documents, which are held to the program.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod architecture;
mod documents;
#[path = "../support/mod.rs"]
mod support;
