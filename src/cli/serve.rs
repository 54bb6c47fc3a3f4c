//! `serve`: the daemon itself, in the foreground. `start` runs it too, with a hidden flag.

use std::path::Path;
use std::process::ExitCode;

use crate::daemon;

/// Run the hub in the foreground
///
/// The same hub that `start` puts into the background, for launchd, systemd and containers: it logs to
/// stderr as well as to LOG_PATH/app.log, and ends with Ctrl+C or SIGTERM. A second signal skips the
/// wait for requests in flight. Where systemd or launchd listens for it (socket activation), it serves on
/// their sockets.
///
/// Exit status: 0 after a clean stop, 1 when it cannot start.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Log to app.log only: stderr is not read
    #[arg(long, hide = true)]
    background: bool,
    /// Take the place of the hub that is at the other end of stdin
    #[arg(long, hide = true)]
    take_over: bool,
}

impl Serve {
    pub(super) fn run(self, config_path: &Path) -> anyhow::Result<ExitCode> {
        match self.take_over {
            true => daemon::take_over(config_path, !self.background),
            false => daemon::run(config_path, !self.background),
        }
    }
}
