//! A request on its way to the worker: its body is read no further than it must be, searched for the
//! model's name, and changed only where the worker or a policy wants it.
//!
//! [`intake::Intake`] holds the body; the rest serves it. It knows nothing of leases or answers.

pub(super) mod budget;
pub(super) mod coding;
pub(super) mod intake;
pub(super) mod query;
pub(super) mod read_pause;
pub(super) mod rest;
pub(super) mod rewrite;
pub(super) mod scan;
pub(super) mod stream_flag;
