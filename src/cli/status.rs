//! `status`: shows the models of the running hub, or those of hub.yaml.

use std::process::ExitCode;
use std::sync::Arc;

use super::hub_yaml::HubYaml;
use super::render::Out;
use super::table::print_models;
use super::unknown::warn_of_unknown;
use crate::api::{Activity, GroupFacts, HubFacts, ModelFacts, Status, unix_now};
use crate::config::Config;
use crate::worker::earlier::Earlier;

/// Show the models and what they do
///
/// One row per model of hub.yaml, or per MODEL: the state of its process with pid and port, whether it is
/// in memory, and its settings. AUTO-UNLOAD is `auto_unload_minutes` of hub.yaml; a policy may unload a model
/// sooner. It works without a running hub too, and never loads a model.
///
/// Exit status: 0, whether or not the hub runs; 1 when it does not and hub.yaml is not valid.
#[derive(Debug, clap::Args)]
#[command(visible_aliases = ["list", "ls", "ps"])]
pub(super) struct ShowStatus {
    /// Show these models only
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Print the status as GET /hub/status answers it
    #[arg(long)]
    json: bool,
}

impl ShowStatus {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.hub().await?;
        let status = match &hub {
            Ok(hub) => hub.client.status().await?,
            Err(config) => with_leftovers(inactive(config), config),
        };
        if self.json {
            out.line(serde_json::to_string_pretty(&status)?);
            return Ok(ExitCode::SUCCESS);
        }
        if hub.is_err() {
            out.warn("Hub daemon is not running");
        }
        if status.status != "ok" {
            out.warn(format_args!("Hub status: {}", status.status));
        }
        for warning in &status.warnings {
            out.warn(warning);
        }
        out.log_path(hub_yaml.hub_address().logs_of(&status));
        let in_hub_yaml = || {
            hub_yaml
                .config()
                .map_or(true, |config| config.enable_status_page)
        };
        out.status_page(status.enable_status_page.unwrap_or_else(in_hub_yaml));
        print_spares(out, &status);
        print_models(out, &status, &self.models);
        warn_of_unknown(&status, &self.models, out);
        Ok(ExitCode::SUCCESS)
    }
}

/// One line, if there are any.
fn print_spares(out: &mut Out, status: &Status) {
    let making = status.spares.iter().filter(|spare| !spare.ready).count();
    let ready = status.spares.len() - making;
    let mut words = Vec::new();
    if ready > 0 {
        words.push(format!("{ready} ready"));
    }
    if making > 0 {
        words.push(format!("{making} being made"));
    }
    if status.memory.spares > 0 {
        words.push(format!("{} MB", status.memory.spares >> 20));
    }
    if !status.spares.is_empty() {
        out.line(format_args!("Spare processes: {}", words.join(", ")));
    }
}

/// The status with a warning about the leftovers of a killed hub.
fn with_leftovers(mut status: Status, config: &Config) -> Status {
    let earlier = Earlier::find(&config.path, &config.log_path);
    status.warnings.extend(left_by(&earlier));
    status
}

/// The warning about the workers that a killed hub has left, if there are any.
pub(super) fn left_by(earlier: &Earlier) -> Option<String> {
    let names = earlier.names();
    (!names.is_empty()).then(|| {
        format!(
            "a hub that was killed has left workers, which hold their memory: {}; `start` takes them over, `stop` ends them",
            names.join(", ")
        )
    })
}

/// The snapshot of a hub that does not run.
pub(super) fn inactive(config: &Config) -> Status {
    let hub = HubFacts {
        host: config.host.clone(),
        port: config.port,
        config_path: config.path.display().to_string(),
        log_path: config.log_path.display().to_string(),
        enable_status_page: config.enable_status_page,
        config_modified_at: config.modified_at,
        warnings: [&config.warnings[..], &config.missing_paths()].concat(),
        groups: config.groups.iter().map(GroupFacts::from).collect(),
        ..HubFacts::default()
    };
    let models: Vec<_> = config
        .models
        .iter()
        .map(|model| ModelFacts::configured(model, &config.log_path))
        .map(|facts| (Arc::new(facts), Activity::default()))
        .collect();
    let mut status = Status::build(&hub, &models, unix_now() as u64);
    status.controller_available = false;
    status
}
