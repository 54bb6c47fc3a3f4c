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
//! | `api`, `clients`, `files`, `tokenizer`, `upstream` | nothing of ours |
//! | `memory`, `sandbox` | `api` |
//! | `engine` | `sandbox`, `files`, `api` |
//! | `telemetry` | `files`; anyone may use it |
//! | `config` | `engine` (which keys and types it has), `api`, `files` |
//! | `model_files` | `config`, `files` |
//! | `download` | `model_files` (where the cache is), `files` |
//! | `runtime_file` | `files` |
//! | `worker` | `engine`, `config`, `files`, `memory`, `runtime_file`, `upstream` |
//! | `policy` | `core` (whose questions it answers), `sandbox`, `config`, `files`, `api` |
//! | `core` | `api`, `config` |
//! | `simulation` | `core`, `policy`, `engine`, `sandbox`, `api`, `config` |
//! | `hub::published` | `core`, `policy` (what it sees of the hub), `worker` (its programs and routes), `upstream`, `api`, `config`, `files`, `runtime_file` |
//! | `hub::supervisor` | `core`, `hub::published`, `worker`, `upstream`, `policy`, `api`, `memory`, `model_files` (how far a download is), `config`, `runtime_file` |
//! | `hub::lifecycle` | `core`, `hub::published`, `hub::supervisor`, `worker` (its command), `policy`, `api`, `config`, and for its tests `upstream`, `memory`, `runtime_file` |
//! | `hub::decimal` | nothing of ours |
//! | `hub::fleet` | `hub::lifecycle` (the models, and its place in the fleet), `api`, `config` |
//! | `hub::gateway` | `hub::gateway::protocol`, `core`, `policy`, `hub::lifecycle`, `upstream`, `api`, `config`, `model_files`, `tokenizer`, `hub::decimal` |
//! | `hub::gateway::protocol` | `hub::gateway` (its requests, lists and refusals), `core`, `api`, `config` |
//! | `hub::control` | `hub::dashboard`, `hub::lifecycle` (its handle), `api` |
//! | `hub::dashboard` | `clients`, `api` |
//! | `hub::server` | `hub::gateway`, `hub::dashboard` (the page of the login), `config` (whom it lets in), `hub::decimal`, `api` |
//! | `cli` | `api`, `clients`, `engine` (to show and check), `config`, `download`, `files`, `memory`, `model_files`, `runtime_file`, `policy` (to check files), `worker` (its command and dialect, and what an earlier hub left), `simulation`, `daemon` (to serve and for the demo), `tokenizer` (to count in a process of its own), `fake_worker` |
//! | `daemon` | everything |
//! | `fake_worker` | nothing of ours: it stands in for another program |

pub mod api;
#[cfg(test)]
#[path = "../tests/support/chat_streams.rs"]
mod chat_streams;
pub mod cli;
pub mod clients;
pub mod config;
mod core;
#[cfg(test)]
#[path = "../tests/support/corpus.rs"]
mod corpus;
pub mod daemon;
pub mod download;
pub mod engine;
pub mod fake_worker;
mod files;
pub mod hub;
pub mod memory;
pub mod model_files;
pub mod policy;
pub mod runtime_file;
mod sandbox;
pub mod simulation;
pub mod telemetry;
mod tokenizer;
pub mod upstream;
pub mod worker;
