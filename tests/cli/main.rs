//! The command line as its users see it: the real program, in a home folder of its own, without a
//! daemon or with one that answers from a table.

#![expect(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod fake_hub;
mod home;

mod colour;
mod help;
mod logs;
mod messages;
mod policy;
mod prepare;
mod progress;
mod with_hub;
mod without_hub;
