//! The contract, line by line: the real program in a home folder of its own, with its own
//! `mlx-openai-server` on PATH, as a user of Create-hub would run it.
//!
//! One file per section, one test per promise. What another test file guards in full is not
//! repeated: the texts of configuration errors (tests/config), those of the command line against a
//! scripted hub (tests/cli), the page (tests/browser).

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod command_line;
mod config;
mod control_api;
mod examples;
mod files;
mod lifecycle;
mod openai;
mod status_json;
mod strangers;

use support::home::{self, Home};
