//! The children of a simulated worker: 1.8.1's resource tracker and model process, and the
//! grandchild that can be ordered.
//!
//! Each is this program again, under [`ROLE`]. They ignore SIGTERM and SIGINT, as the real ones do
//! while the worker lives, and leave by themselves some time after it has been reaped.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use nix::sys::signal;
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal as listen};

use super::model::Weights;
use super::options::{Dialect, Grandchild, Knobs, seconds};

/// The first argument of a child.
pub(super) const ROLE: &str = "relative";

/// Interval at which a child looks whether the worker is still there.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// A stubborn grandchild leaves too in the end, so that a failed test leaves nothing for ever.
const STUBBORNNESS: Duration = Duration::from_secs(300);

#[derive(Parser)]
struct Relative {
    #[arg(long)]
    parent: i32,
    #[arg(long, value_parser = seconds, default_value = "0")]
    linger: Duration,
    #[arg(long, value_parser = seconds, default_value = "0")]
    load: Duration,
    #[arg(long, default_value_t = 0)]
    memory_mb: usize,
}

/// Starts the children that are there from the beginning. They are not waited for: those that the
/// worker leaves behind are another's to reap.
pub(super) fn start(knobs: &Knobs) -> std::io::Result<Vec<Child>> {
    let mut children = Vec::new();
    if knobs.dialect == Dialect::V181 {
        children.push(relative(knobs.linger_seconds, &[])?);
    }
    match knobs.grandchild {
        None => {}
        Some(Grandchild::Ordinary) => children.push(relative(knobs.linger_seconds, &[])?),
        Some(Grandchild::Stubborn) => children.push(relative(STUBBORNNESS, &[])?),
    }
    Ok(children)
}

/// Starts 1.8.1's model process, which takes the memory of the model while it loads.
pub(super) fn start_model(knobs: &Knobs) -> std::io::Result<Child> {
    let load = knobs.load_seconds.as_secs_f64().to_string();
    let memory = knobs.memory_mb.to_string();
    relative(
        knobs.linger_seconds,
        &["--load", &load, "--memory-mb", &memory],
    )
}

/// Starts a child and waits until it ignores signals.
fn relative(linger: Duration, args: &[&str]) -> std::io::Result<Child> {
    let mut child = Command::new(std::env::current_exe()?)
        .args([super::SUBCOMMAND, ROLE])
        .args(["--parent", &std::process::id().to_string()])
        .args(["--linger", &linger.as_secs_f64().to_string()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut listens) = child.stdout.take() {
        listens.read_exact(&mut [0])?;
    }
    Ok(child)
}

/// Runs a child on the arguments that follow [`ROLE`].
pub(super) fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let relative = match Relative::try_parse_from(std::iter::once(ROLE.into()).chain(args)) {
        Ok(relative) => relative,
        Err(error) => return super::usage(&error),
    };
    match super::server::block_on(live(relative)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn live(relative: Relative) -> std::io::Result<()> {
    // To listen is to survive: what arrives is not read.
    let _term = listen(SignalKind::terminate())?;
    let _int = listen(SignalKind::interrupt())?;
    std::io::stdout().write_all(b"\n")?;
    let parent = Pid::from_raw(relative.parent);
    let mut weights = Weights::default();
    let grow = weights.grow_over(relative.memory_mb, relative.load);
    tokio::pin!(grow);
    let mut grown = false;
    // A zombie still takes signals: like the real children, this one waits until it is reaped.
    while signal::kill(parent, None).is_ok() {
        tokio::select! {
            () = &mut grow, if !grown => grown = true,
            () = tokio::time::sleep(POLL_EVERY) => {}
        }
    }
    tokio::time::sleep(relative.linger).await;
    Ok(())
}
