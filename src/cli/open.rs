//! `open`: shows the status page in the user's browser.

use std::process::{ExitCode, Stdio};

use anyhow::ensure;
use tokio::process::Command;

use super::hub_yaml::HubYaml;
use super::render::{Out, dashboard_url};

/// The system's program that opens an address.
const OPENER: &str = match cfg!(target_os = "macos") {
    true => "open",
    false => "xdg-open",
};

/// Open the status page in your browser
///
/// Prints its address too, alone on stdout.
///
/// Exit status: 0, also where no browser can be opened; 1 when the hub does not run or has no status page.
#[derive(Debug, clap::Args)]
pub(super) struct Open {}

impl Open {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        let status = hub.client.status().await?;
        ensure!(
            status.enable_status_page.unwrap_or(true),
            "the hub has no status page\nhint: set `enable_status_page: true` in hub.yaml"
        );
        let url = dashboard_url(&status.host, status.port);
        out.line(&url);
        // It may stay as long as the browser does.
        let opened = Command::new(OPENER)
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Err(error) = opened {
            Out::stderr().warn(format_args!("`{OPENER}` cannot be run: {error}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}
