//! One worker: the program `mlx-openai-server launch` with its process group, its log and its HTTP port.
//!
//! [`launch::run`] is a worker's whole life, one task per launch: it finds the dialect, spawns, waits
//! for readiness, loads, ends, and reports each step. It decides nothing; the lifecycle gives it its
//! goal and tells it when to end. It knows nothing of models other than its own, of leases or policies.

pub mod command;
pub mod dialect;
pub mod earlier;
pub mod group;
pub mod identity;
pub mod launch;
mod leader;
mod leftovers;
pub mod mark;
mod output;
mod processes;
pub mod routes;
mod signs_of_life;

pub use output::keep_below;
