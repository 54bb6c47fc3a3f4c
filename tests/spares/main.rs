//! Spare processes, with a worker in Python: what becomes of them, and that a load never goes worse with one.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail it")]

mod alike;
mod alone;
mod ends;
mod refused;
#[path = "../support/mod.rs"]
mod support;
mod survive;
mod swap;
mod worker;
