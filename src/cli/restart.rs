//! `restart`: another daemon in place of the one that runs; the models stay as they are.

use std::process::ExitCode;

use sysinfo::Pid;

use super::find::Place;
use super::progress;
use super::render::Out;
use super::start::Start;
use super::stop::gone;
use crate::config::Config;

/// Replace the hub and keep its models loaded
///
/// Lets requests in flight end (drain_timeout at most), ends the hub, and starts a new one that takes
/// over the workers as they are: for a new version of the hub, or a new `host`, `port` or `log_level`.
/// Models whose own settings changed in hub.yaml are started anew. Without a running hub it is `start`.
///
/// Exit status: as `start`.
#[derive(Debug, clap::Args)]
pub(super) struct Restart {}

impl Restart {
    pub(super) async fn run(self, config: &Config, out: &mut Out) -> anyhow::Result<ExitCode> {
        let place = Place::of(config);
        if let Some(hub) = place.hub().await? {
            hub.client.shutdown_keeping_models().await?;
            out.ok("Hub manager restart requested; its models stay");
            let daemon = hub.pid.map(Pid::from_u32);
            let waiting = gone(&hub, daemon.into_iter().collect());
            progress::show("waiting for requests in flight", waiting).await?;
        }
        Start::default().run(config, out).await
    }
}
