//! mlx-openai-server-hub: many MLX models behind one OpenAI-compatible port.
//!
//! ```text
//! client ──HTTP──▶ gateway ──request view──▶ policy (Lua on_request) ──verdict──▶ gateway
//!                     │ acquire(model)
//!                     ▼
//!                 lifecycle ──▶ policy (Lua on_load, on_idle)
//!                     │ launch, signal
//!                     ▼
//!                  worker   one process group: argv, health, log
//!                     │ port
//! client ◀─stream── gateway ◀──HTTP── worker
//!
//! CLI ──HTTP──▶ control ──▶ lifecycle ──publishes──▶ status ◀── dashboard, CLI, Lua
//! ```
//!
//! One lifecycle service serves the command line, the control API, the dashboard, the gateway and
//! the idle timer alike; one status snapshot with one builder feeds them all. Nothing else starts,
//! stops, loads or counts models.
//!
//! | module | may import |
//! | --- | --- |
//! | `api_error`, `files`, `memory`, `upstream`, `telemetry` | nothing of ours; anyone may use the last |
//! | `config`, `runtime_file` | `files` |
//! | `status` | `config`, `memory` |
//! | `worker` | `config`, `memory`, `runtime_file`, `upstream` |
//! | `policy` | `core` (whose questions it answers), `api_error`, `config`, `memory`, `status` |
//! | `core` | `policy` (its questions and verdicts), `status`, `memory` (its figures), `config`, `api_error` |
//! | `simulation` | `core`, `policy`, `status`, `memory`, `config`, `api_error` |
//! | `hub::published` | `core`, `policy` (what it sees of the hub), `worker` (its programs and routes), `upstream`, `status`, `memory`, `config`, `api_error`, `files`, `runtime_file` |
//! | `hub::supervisor` | `core`, `hub::published`, `worker`, `upstream`, `policy`, `status`, `memory`, `config`, `api_error`, `runtime_file` |
//! | `hub::lifecycle` | `core`, `hub::published`, `hub::supervisor`, `worker` (its command), `policy`, `status`, `config`, `api_error`, and for its tests `upstream`, `memory`, `runtime_file` |
//! | `hub::decimal` | nothing of ours |
//! | `hub::gateway` | `core`, `policy`, `hub::lifecycle`, `upstream`, `status`, `config`, `api_error`, `hub::decimal` |
//! | `hub::control` | `hub::dashboard`, `hub::lifecycle` (its handle), `status`, `api_error` |
//! | `hub::dashboard` | `status` |
//! | `hub::server` | `hub::gateway`, `config` (whom it lets in), `hub::decimal`, `api_error` |
//! | `cli` | `status`, `config`, `files`, `runtime_file`, `policy` (to check files), `worker` (its command and dialect, and what an earlier hub left), `simulation`, `daemon` (to serve and for the demo), `stub` |
//! | `daemon` | everything |
//! | `stub` | nothing of ours: it stands in for another program |

pub mod api_error;
pub mod cli;
pub mod config;
mod core;
#[cfg(test)]
#[path = "../tests/support/corpus.rs"]
mod corpus;
pub mod daemon;
mod files;
pub mod hub;
pub mod memory;
pub mod policy;
pub mod runtime_file;
pub mod simulation;
pub mod status;
pub mod stub;
pub mod telemetry;
pub mod upstream;
pub mod worker;
