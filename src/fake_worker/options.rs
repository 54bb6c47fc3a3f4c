//! The options of a simulated worker: its speed and its misbehaviour.
//!
//! Every knob is an option before `launch` and a `STUB_*` variable, so that hub.yaml can set it in
//! `worker_command` as well as in a model's `env`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The two command lines of `mlx-openai-server launch` that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Dialect {
    /// Can stay up unloaded; one process.
    Jit,
    /// Loads at its start; three processes.
    #[value(name = "1.8.1")]
    V181,
}

/// A child besides those the dialect brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Grandchild {
    /// Leaves some time after the worker has gone.
    Ordinary,
    /// Ignores SIGTERM and SIGINT and stays when the worker has gone.
    Stubborn,
}

/// The options before `launch`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = super::SUBCOMMAND,
    about = "A simulated mlx-openai-server for the demo and the tests"
)]
pub(super) struct Knobs {
    /// Version of the worker whose command line and behaviour to imitate
    #[arg(long, env = "STUB_DIALECT", default_value = "1.8.1")]
    pub dialect: Dialect,
    /// From the start of the process until it could listen
    #[arg(long, env = "STUB_BOOT_SECONDS", value_parser = seconds, default_value = "0")]
    pub boot_seconds: Duration,
    /// Time that a load takes
    #[arg(long, env = "STUB_LOAD_SECONDS", value_parser = seconds, default_value = "0")]
    pub load_seconds: Duration,
    /// From SIGTERM to the end of an idle worker
    #[arg(long, env = "STUB_EXIT_SECONDS", value_parser = seconds, default_value = "0")]
    pub exit_seconds: Duration,
    /// Time that children stay when the worker has gone without ending them
    #[arg(long, env = "STUB_LINGER_SECONDS", value_parser = seconds, default_value = "2")]
    pub linger_seconds: Duration,
    /// From a request to the first token
    #[arg(long, env = "STUB_FIRST_TOKEN_SECONDS", value_parser = seconds, default_value = "0")]
    pub first_token_seconds: Duration,
    /// Tokens per answer, else one whole story; `max_tokens` of a request may lower it
    #[arg(long, env = "STUB_TOKENS")]
    pub tokens: Option<usize>,
    /// Milliseconds per token
    #[arg(long, env = "STUB_TOKEN_MS", default_value_t = 0)]
    pub token_ms: u64,
    /// Memory held while loaded; it grows during the load
    #[arg(long, env = "STUB_MEMORY_MB", default_value_t = 0)]
    pub memory_mb: usize,
    /// Write progress lines during a load, as a download does
    #[arg(long, env = "STUB_CHATTY_LOAD")]
    pub chatty_load: bool,
    /// A load ends in failure
    #[arg(long, env = "STUB_FAIL_LOAD")]
    pub fail_load: bool,
    /// End with `--exit-code` when the port would open
    #[arg(long, env = "STUB_CRASH_ON_START")]
    pub crash_on_start: bool,
    /// End with `--exit-code` when the n-th `POST` arrives
    #[arg(long, env = "STUB_CRASH_ON_REQUEST")]
    pub crash_on_request: Option<usize>,
    /// End with `--exit-code` after so many events of a stream
    #[arg(long, env = "STUB_CRASH_AFTER_EVENTS")]
    pub crash_after_events: Option<usize>,
    /// Answer every `POST` with 500
    #[arg(long, env = "STUB_FAIL_REQUESTS")]
    pub fail_requests: bool,
    /// Answer every `POST` with this status and body, in one text: `404 {"detail": "no"}`
    #[arg(long, env = "STUB_ANSWER")]
    pub answer: Option<String>,
    /// Stream what the file of this folder has that the last prompt names, as JSON: `pieces` of bytes, and `breaks_off`
    #[arg(long, env = "STUB_STREAMS")]
    pub streams: Option<PathBuf>,
    /// Answer no `POST`, and use a whole core from the first one on
    #[arg(long, env = "STUB_SPIN")]
    pub spin: bool,
    /// The exit code of a crash
    #[arg(long, env = "STUB_EXIT_CODE", default_value_t = 1)]
    pub exit_code: u8,
    /// Take no notice of SIGTERM
    #[arg(long, env = "STUB_IGNORE_SIGTERM")]
    pub ignore_sigterm: bool,
    /// Take no notice of SIGINT
    #[arg(long, env = "STUB_IGNORE_SIGINT")]
    pub ignore_sigint: bool,
    /// Answer nothing, `/health` included, during a load and a plain chat
    #[arg(long, env = "STUB_BLOCKING")]
    pub blocking: bool,
    /// One more path in `/openapi.json`, which is not served for that
    #[arg(long, env = "STUB_DESCRIBES")]
    pub describes: Option<String>,
    /// One more path to serve, as plain completions are
    #[arg(long, env = "STUB_SERVES")]
    pub serves: Option<String>,
    /// Do not describe the routes in `/openapi.json`
    #[arg(long, env = "STUB_UNDESCRIBED")]
    pub undescribed: bool,
    /// Start one more child
    #[arg(long, env = "STUB_GRANDCHILD")]
    pub grandchild: Option<Grandchild>,
    /// Append a JSON line per event and per request to this file
    #[arg(long, env = "STUB_RECORD")]
    pub record: Option<PathBuf>,
    /// `launch` and its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

impl Knobs {
    /// Lets time pass as the worker would: with `--blocking` nothing else happens meanwhile.
    pub(super) async fn pass(&self, time: Duration) {
        if time.is_zero() {
        } else if self.blocking {
            std::thread::sleep(time);
        } else {
            tokio::time::sleep(time).await;
        }
    }

    /// The time between two tokens.
    pub(super) fn per_token(&self) -> Duration {
        Duration::from_millis(self.token_ms)
    }
}

/// Reads `0.25` as a quarter of a second.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is no number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}
