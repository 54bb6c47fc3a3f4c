//! `mlx-openai-server-hub`: arguments in, exit code out.

use std::process::ExitCode;

use mlx_openai_server_hub::stub;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next() {
        Some(command) if command == stub::SUBCOMMAND => stub::main(args),
        _ => ExitCode::FAILURE,
    }
}
