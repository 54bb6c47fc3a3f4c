//! What a release is made of: the parts of its workflow that Linux can run are run, and what comes out is
//! installed.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

#[path = "../support/mod.rs"]
mod support;

mod crate_files;
mod installer;
mod release;
mod workflow;
