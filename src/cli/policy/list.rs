//! `policy list`: the policies in the order in which they are asked.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::hub_yaml::HubYaml;
use crate::cli::render::Out;
use crate::cli::table::print_policies;
use crate::config::Config;
use crate::policy::{Policies, Unstarted};

/// Show the policies in the order in which they are asked
///
/// The first one that returns a verdict decides. For a running hub the table shows how often each was
/// asked, how often it decided and failed, and its last error. Without one it shows what the folder of
/// hub.yaml has.
///
/// Exit status: 0, whether or not the hub runs; 1 when it does not and hub.yaml is not
/// valid.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print it as GET /hub/policies answers it
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let (report, is_live) = match hub_yaml.hub().await? {
            Ok(hub) => (hub.client.policies().await?, true),
            Err(config) => (on_disk(config).report(), false),
        };
        if self.json {
            out.line(serde_json::to_string_pretty(&report)?);
            return Ok(ExitCode::SUCCESS);
        }
        if !is_live {
            out.warn("Hub daemon is not running: this is what it would load");
        }
        for warning in &report.warnings {
            out.warn(warning);
        }
        print_policies(out, &report.policies, is_live);
        Ok(ExitCode::SUCCESS)
    }
}

/// The policies of the folder, in a world in which nothing has been started.
pub(super) fn on_disk(config: &Config) -> Policies {
    let world = Arc::new(Unstarted::new(config.clone()));
    Policies::load(config.folder(), &config.policies, world)
}
