//! `reload`: the daemon re-reads hub.yaml and its policies.

use std::process::ExitCode;

use anyhow::Context as _;

use super::find::{Found, Hub};
use super::hub_yaml::HubYaml;
use super::progress;
use super::render::Out;
use crate::api::{PolicyChanges, ReloadReport};
use crate::runtime_file::RuntimeFile;

/// Re-read hub.yaml and bring the running models in line with it
///
/// Models that are gone from hub.yaml are stopped, new default ones are started, and a running one whose
/// launch settings changed is restarted. All others are left alone. Prints
/// `started=… | stopped=… | unchanged=…`, and then which policies changed since it was read before, or which
/// of their settings.
///
/// Exit status: 0; 1 when hub.yaml is not valid (nothing changes then) or the hub does not run.
#[derive(Debug, clap::Args)]
pub(super) struct Reload {}

impl Reload {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        // The hub refuses it too, in the same words.
        hub_yaml.config()?;
        reload(&hub, out).await?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn reload(hub: &Hub, out: &mut Out) -> anyhow::Result<()> {
    let reloaded = progress::show("reloading", hub.client.reload(true))
        .await
        .context("hub reload failed")?;
    let text = format!("Hub reload complete: {}", summary(&reloaded));
    if reloaded.started.is_empty() && reloaded.stopped.is_empty() {
        out.info(text);
    } else {
        out.ok(text);
    }
    print_policies(&reloaded.policies, out);
    Ok(())
}

/// A line for each kind of change; none without one.
fn print_policies(changes: &PolicyChanges, out: &mut Out) {
    for problem in &changes.refused {
        out.warn(format_args!(
            "The policies were not reloaded, the old ones stay. {problem}"
        ));
    }
    if !changes.changed.is_empty() {
        out.ok(format_args!(
            "Changed policies: {}",
            changes.changed.join(", ")
        ));
    }
    if !changes.settings.is_empty() {
        out.ok(format_args!(
            "Changed settings of policies: {}",
            changes.settings.join(", ")
        ));
    }
}

/// Reloads the hub of hub.yaml if it runs. The hub of another hub.yaml is left alone.
pub(super) async fn reload_running(hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<()> {
    let hub_address = hub_yaml.hub_address();
    match hub_address.look().await {
        Found::Hub(hub) => reload(&hub, out).await,
        Found::Closed(why) => {
            let runtime = RuntimeFile::read(&hub_address.log_path);
            let pid = runtime.map_or_else(|| "PID".to_owned(), |file| file.pid.to_string());
            out.warn(format_args!(
                "The hub that runs was not told, since {why}\nhint: `kill -HUP {pid}` has it read hub.yaml"
            ));
            Ok(())
        }
        Found::Stranger(_) | Found::Other(_) | Found::Nothing => Ok(()),
    }
}

fn summary(reloaded: &ReloadReport) -> String {
    let names = |names: &[String]| match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    };
    format!(
        "started={} | stopped={} | unchanged={}",
        names(&reloaded.started),
        names(&reloaded.stopped),
        names(&reloaded.unchanged)
    )
}
