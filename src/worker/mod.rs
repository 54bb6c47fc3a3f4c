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
pub mod ranks;
pub mod routes;
mod signs_of_life;
pub mod spare;
pub mod version;

use std::collections::BTreeMap;

pub use output::keep_below;

/// Gives a command the environment of every process of a worker: the hub's own, without the variables of the
/// sockets of its service manager, and with those that hub.yaml sets.
fn environment(
    command: &mut tokio::process::Command,
    of_model: &BTreeMap<String, String>,
    owner: &mark::Owner,
    launch: &str,
) {
    command
        .env_remove("LISTEN_FDNAMES")
        // Without it the last lines of a dying worker's log are lost.
        .env("PYTHONUNBUFFERED", "1")
        .envs(of_model)
        // Even if hub.yaml sets them: a later hub recognises the worker by them.
        .envs(owner.marks(launch));
}
