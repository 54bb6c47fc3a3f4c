//! The simulated worker: `mlx-openai-server launch` as the hub sees it, without MLX and without a
//! model.
//!
//! It is a hidden subcommand of the hub's own binary, started like the real program
//! (`worker_command: [BIN, stub-worker, --dialect, jit]`), and serves the demo and the tests. It
//! speaks both dialects of the real one: flags, process family, ports, `/health`, signals and exit
//! codes. What a real worker does only on a bad day is switched on by [`options::Knobs`].
//!
//! It stands in for another program, so it knows nothing of the hub and the hub nothing of it.

mod answers;
mod chat;
mod family;
mod http;
mod launch;
mod model;
mod options;
mod record;
mod responses;
mod script;
mod server;
mod signals;
mod story;
mod written;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use launch::Invocation;
use options::Knobs;

/// The subcommand that [`main`] is reached by; the stub starts its own children through it.
pub const SUBCOMMAND: &str = "stub-worker";

/// Runs the simulated worker on the arguments that follow [`SUBCOMMAND`], until it is told to end
/// or ends by itself. It does not return when it dies by a signal.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.peekable();
    if args.next_if(|first| first == family::ROLE).is_some() {
        return family::main(args);
    }
    let name = OsString::from(SUBCOMMAND);
    let knobs = match Knobs::try_parse_from(std::iter::once(name).chain(args)) {
        Ok(knobs) => knobs,
        Err(error) => return usage(&error),
    };
    match launch::parse(knobs.dialect, &knobs.command) {
        Ok(Invocation::Help(text)) => {
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Invocation::Launch(launch)) => server::main(knobs, launch),
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::from(2)
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
