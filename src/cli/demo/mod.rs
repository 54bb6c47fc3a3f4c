//! `demo`: a hub in the foreground on simulated models, in a temporary folder of its own.
//!
//! [`folder`] writes the hub's files, [`guide`] acts as its user: it talks to the hub over HTTP and prints the
//! results. The hub itself is the one that `serve` runs.

use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use super::render::Out;
use crate::daemon;

mod folder;
mod guide;

/// Try the hub without a model: simulated workers, gone with Ctrl+C
///
/// Runs a hub with three simulated models in the foreground, in a temporary folder, on port 8000 or a
/// free one. It shows a chat completion, the dashboard's address, commands to try and a small policy,
/// and then says what the models do until you press Ctrl+C. Nothing of yours is read or changed.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// The hub's port, instead of 8000 or a free one
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

impl Demo {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<ExitCode> {
        let folder = folder::Folder::create(self.port)?;
        guide::introduce(&folder, out);
        let over = CancellationToken::new();
        let ran = std::thread::scope(|scope| {
            let guide = scope.spawn(|| guide::run(&folder, &over));
            let ran = daemon::run(&folder.config(), false);
            over.cancel();
            // A guide that panicked has reported it on stderr; the hub has stopped all the same.
            let _ = guide.join();
            ran
        });
        folder.remove()?;
        ran?;
        out.line("");
        out.ok("The demo is over: every simulated model has ended, its folder is gone.");
        Ok(ExitCode::SUCCESS)
    }
}
