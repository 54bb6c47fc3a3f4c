//! `restart`: replaces the running daemon without interruption.

use std::path::Path;
use std::process::ExitCode;

use sysinfo::Pid;

use super::client::Client;
use super::find::{Hub, HubAddress};
use super::progress;
use super::render::Out;
use super::service::Service;
use super::start::Start;
use super::stop::gone;
use crate::config::Config;
use crate::daemon;
use crate::files;

/// Replace the hub by a new one before anybody notices
///
/// Starts a new hub beside the one that runs: for a new version, or a new `host`, `port`, `log_path` or
/// `log_level`. It checks hub.yaml, the policies, the worker programs, the log folder and the port, and
/// only then takes over the port and the workers as they are; if it cannot, the old hub serves on as if
/// nothing had been. No connection is refused and no request is cut: the old hub ends the requests it has
/// begun, however long they take, and then goes.
///
/// The new hub has the environment of the old one, and is the program that this command is. Models whose
/// own settings changed in hub.yaml are started anew. Without a running hub it is `start`, unless the last
/// one was killed in the foreground: whatever had started that one, launchd for example, may do so again.
///
/// Exit status: 0 when a new hub serves; 1 when it cannot, and the old one still does if there was one.
#[derive(Debug, clap::Args)]
pub(super) struct Restart {}

/// No hub to replace, nor one to start: a second one would have the port when the first comes back.
#[derive(Debug, thiserror::Error)]
#[error(
    "the hub (PID {pid}) is gone without a stop; it ran in the foreground, and what had started it may start it again\n\
     hint: `status` says if it has; `start` runs a hub in the background, with the models of that one"
)]
struct LostInForeground {
    pid: u32,
}

impl Restart {
    pub(super) async fn run(self, config: &Config, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub_address = HubAddress::of(config);
        let Some(hub) = hub_address.hub().await? else {
            // A service is started by its manager.
            let lost = hub_address.lost_in_foreground();
            if let Some(pid) = lost.filter(|_| Service::installed(&config.path).is_none()) {
                return Err(LostInForeground { pid }.into());
            }
            return Start::default().run(config, out).await;
        };
        let status = hub.client.status().await?;
        leave_program(hub_address.logs_of(&status));
        let replaced = progress::show("waiting for the new hub", hub.client.restart()).await?;
        match replaced {
            Some(pid) => {
                out.ok(format_args!("Hub restarted (PID: {pid}); its models stay"));
                let new = Client::new(&config.host, config.port, &config.path);
                Start::default().report(config, &new.status().await?, None, out);
                Ok(ExitCode::SUCCESS)
            }
            None => restart_in_turn(&hub, config, out).await,
        }
    }
}

/// Tells the hub which program replaces it; the default is its own.
fn leave_program(log_path: &Path) {
    if let Ok(program) = std::env::current_exe() {
        let _ = files::replace_private(&daemon::program_file(log_path), &program);
    }
}

/// Replaces a hub without support for a successor: it stops, then the new one starts.
async fn restart_in_turn(hub: &Hub, config: &Config, out: &mut Out) -> anyhow::Result<ExitCode> {
    hub.client.shutdown_keeping_models().await?;
    out.ok("Hub restart requested; its models stay");
    let daemon = hub.pid.map(Pid::from_u32);
    let waiting = gone(hub, daemon.into_iter().collect());
    progress::show("waiting for requests in flight", waiting).await?;
    Start::default().run(config, out).await
}
