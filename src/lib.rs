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
//! | `api_error`, `decimal`, `files`, `memory`, `own_wakes`, `telemetry` | nothing of ours; anyone may use the last |
//! | `config`, `runtime_file` | `files` |
//! | `status` | `config`, `memory` |
//! | `worker` | `config`, `memory`, `own_wakes`, `runtime_file` |
//! | `policy` | `api_error`, `config`, `memory`, `status` |
//! | `core` | `policy` (its questions and verdicts), `status`, `memory` (its figures), `config`, `api_error` |
//! | `lifecycle` | `core`, `worker`, `policy`, `status`, `memory`, `config`, `api_error`, `files`, `runtime_file` |
//! | `gateway` | `core`, `policy`, `lifecycle`, `worker` (its upstream), `status`, `config`, `api_error`, `decimal` |
//! | `simulation` | `core`, `policy`, `lifecycle` (what it publishes), `gateway` (its texts), `status`, `memory`, `config`, `api_error` |
//! | `control` | `dashboard`, `lifecycle` (its handle), `status`, `config`, `api_error` |
//! | `dashboard` | `status` |
//! | `server` | `gateway`, `config` (whom it lets in), `own_wakes`, `decimal`, `api_error` |
//! | `cli` | `status`, `config`, `files`, `runtime_file`, `telemetry`, `policy` (for `check`), `worker` (its command and dialect, and what an earlier hub left), `simulation`, `daemon` (for `serve` and `demo`), `stub` |
//! | `daemon` | everything |
//! | `stub` | nothing of ours: it stands in for another program |

pub mod api_error;
pub mod cli;
pub mod config;
pub mod control;
mod core;
pub mod daemon;
pub mod dashboard;
mod decimal;
mod files;
pub mod gateway;
pub mod lifecycle;
pub mod memory;
mod own_wakes;
pub mod policy;
pub mod runtime_file;
pub mod server;
pub mod simulation;
pub mod status;
pub mod stub;
pub mod telemetry;
pub mod worker;
