//! `logs`: prints the log of the hub or of a model, and follows it.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::hub_yaml::HubYaml;
use super::render::Out;
use super::status::inactive;
use super::unknown::unknown;
use crate::telemetry::{self, Followed, POLL_EVERY};

/// Print the log of the hub, or of a model
///
/// Without MODEL it is the hub's own, app.log. It works without a running hub too.
///
/// Examples:
///   mlx-openai-server-hub logs -n 100
///   mlx-openai-server-hub logs qwen -f
///
/// Exit status: 0, also after Ctrl+C; 1 when there is no such model or its log cannot be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Logs {
    /// The model; without it the hub
    model: Option<String>,
    /// Go on with what is added, until Ctrl+C
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: usize,
}

impl Logs {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let path = self.path(hub_yaml).await?;
        let mut log = Followed::open(&path, self.lines).map_err(|error| {
            anyhow::anyhow!("the log `{}` cannot be read: {error}", path.display())
        })?;
        if !log.is_there() {
            out.info(format_args!("There is no log yet: {}", path.display()));
        }
        if !self.follow {
            print(&mut log, out)?;
            return Ok(ExitCode::SUCCESS);
        }
        // Before anything is shown: whoever sees a line may press Ctrl+C.
        let mut interrupt = signal(SignalKind::interrupt())?;
        print(&mut log, out)?;
        while !out.is_closed() {
            tokio::select! {
                () = tokio::time::sleep(POLL_EVERY) => print(&mut log, out)?,
                _ = interrupt.recv() => break,
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The log's path.
    async fn path(&self, hub_yaml: &HubYaml) -> anyhow::Result<PathBuf> {
        let hub_address = hub_yaml.hub_address();
        let status = match hub_address.hub().await? {
            Some(hub) => hub.client.status().await?,
            // The hub's own log is found with a broken hub.yaml too: it may name the problem.
            None if self.model.is_none() => return Ok(telemetry::app_log(&hub_address.log_path)),
            None => inactive(hub_yaml.config()?),
        };
        let Some(name) = &self.model else {
            return Ok(telemetry::app_log(hub_address.logs_of(&status)));
        };
        if let Some(hint) = unknown(&status, name) {
            anyhow::bail!("the hub has no model called `{name}`\nhint: {hint}");
        }
        let mut models = status.models.into_iter();
        let path = models
            .find(|model| model.id == *name)
            .and_then(|model| model.metadata.facts.log_path);
        path.map(PathBuf::from).ok_or_else(|| {
            anyhow::anyhow!("model `{name}` has `no_log_file: true`\nhint: remove that from its entry, and start it again")
        })
    }
}

/// Prints what is new.
fn print(log: &mut Followed, out: &mut Out) -> anyhow::Result<()> {
    while !out.is_closed()
        && let Some(text) = log.read()?
    {
        out.text(&text);
    }
    Ok(())
}
