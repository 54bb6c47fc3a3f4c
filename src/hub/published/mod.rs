//! The data that all parts may read without waiting: the models with their gates and queues, their facts, and
//! the learned ones.
//!
//! Only the supervisor changes models; requests count themselves here, by holding a
//! [`Lease`](gate::Lease), an [`Arrival`](parking::Arrival) or a [`Ticket`](parking::Ticket). It knows no
//! messages and no processes.

pub(in crate::hub) mod captures;
pub(in crate::hub) mod ended;
pub(in crate::hub) mod fleet;
pub(in crate::hub) mod flights;
pub(in crate::hub) mod gate;
pub(in crate::hub) mod grant;
pub(in crate::hub) mod history;
pub(in crate::hub) mod learned;
pub(in crate::hub) mod legacy;
pub(in crate::hub) mod meters;
mod on_disk;
pub(in crate::hub) mod parking;
mod per_thread;
pub(in crate::hub) mod registry;
pub(in crate::hub) mod served;
mod usage;
