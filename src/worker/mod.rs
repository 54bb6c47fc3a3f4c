//! One worker: the program `mlx-openai-server launch`, its process group, its log, its HTTP port.
//!
//! [`launch::run`] is a worker's whole life, one task per launch: it finds the dialect, spawns, waits
//! for readiness, loads, ends, and reports each step. It decides nothing; the lifecycle tells it what
//! to aim at and when to end. It knows nothing of models other than its own, of leases or policies.

pub mod command;
pub mod dialect;
pub mod earlier;
pub mod group;
pub mod identity;
pub mod launch;
mod leader;
mod leftovers;
mod life;
pub mod mark;
mod output;
mod processes;
pub mod routes;

pub use output::keep_below;
