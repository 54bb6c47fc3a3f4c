//! `start-model`, `stop-model`, `load-model` and `unload-model`: one action on several models.
//!
//! Each waits for the final states and prints a line per name, in the order given. A failure makes the exit
//! status 1 and does not stop the others.

use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use super::client::Client;
use super::hub_yaml::HubYaml;
use super::progress;
use super::render::Out;
use crate::api::{AllReport, MemoryState, ModelFacts, ModelStatus, Status, Verb};

/// Start models
///
/// Reloads hub.yaml first, then starts all of them and waits until each takes requests. A model with
/// jit_enabled stays out of memory until its first request; any other is loaded.
///
/// Example: mlx-openai-server-hub start-model qwen gemma
///
/// Exit status: 0; 1 when one could not be started or the hub does not run.
#[derive(Debug, clap::Args)]
pub(super) struct StartModel {
    #[command(flatten)]
    names: Names,
}

/// Stop models
///
/// Reloads hub.yaml first, then ends each model's process once its requests in flight are done
/// (drain_timeout at most). Other models go on.
///
/// Example: mlx-openai-server-hub stop-model qwen
///
/// Exit status: 0, also for a model that is stopped already; 1 when one could not be stopped or the hub
/// does not run.
#[derive(Debug, clap::Args)]
pub(super) struct StopModel {
    #[command(flatten)]
    names: Names,
}

/// Load started models into memory
///
/// Loads one after the other and waits until the weights are in memory. A group that is full refuses.
///
/// Example: mlx-openai-server-hub load-model qwen
///
/// Exit status: 0; 1 when one could not be loaded or the hub does not run.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "load")]
pub(super) struct LoadModel {
    #[command(flatten)]
    names: Names,
}

/// Free the memory of models and keep them started
///
/// Waits for requests in flight (drain_timeout at most). The next request loads the model again.
///
/// With --all, models with requests in flight stay loaded, unless --now is given too.
///
/// Example: mlx-openai-server-hub unload-model qwen
///
/// Exit status: 0; 1 when one could not be unloaded or the hub does not run.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "unload")]
pub(super) struct UnloadModel {
    #[command(flatten)]
    names: Names,
    /// With --all: models with requests in flight too, once these have ended
    #[arg(long, requires = "all", conflicts_with = "names")]
    now: bool,
}

#[derive(Debug, clap::Args)]
struct Names {
    /// Models by their names in hub.yaml
    #[arg(value_name = "MODEL_NAMES", required_unless_present = "all")]
    names: Vec<String>,
    /// All models that are not there yet, in hub.yaml's order
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl StartModel {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        hub_yaml.config()?;
        reload(&hub.client).await?;
        self.names.each(&hub.client, Verb::Start, false, out).await
    }
}

impl StopModel {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        // A broken hub.yaml must not keep a model running.
        if let Err(error) = reload(&hub.client).await {
            out.warn(format_args!("{error:#}"));
        }
        self.names.each(&hub.client, Verb::Stop, false, out).await
    }
}

impl LoadModel {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        self.names.each(&hub.client, Verb::Load, false, out).await
    }
}

impl UnloadModel {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        self.names
            .each(&hub.client, Verb::Unload, self.now, out)
            .await
    }
}

/// Reloads first, so that a model that was just added to hub.yaml can be started.
async fn reload(client: &Client) -> anyhow::Result<()> {
    progress::show("reloading", client.reload(true))
        .await
        .context("hub reload failed")?;
    Ok(())
}

impl Names {
    async fn each(
        &self,
        client: &Client,
        verb: Verb,
        is_now: bool,
        out: &mut Out,
    ) -> anyhow::Result<ExitCode> {
        let mut code = ExitCode::SUCCESS;
        let all = match (self.all, verb) {
            (true, Verb::Unload) => {
                let report = progress::show("all models: unloading", client.unload_all(is_now));
                return Ok(tell(verb, report.await?, out));
            }
            (true, Verb::Stop) => {
                let report = progress::show("all models: stopping", client.stop_all());
                return Ok(tell(verb, report.await?, out));
            }
            (true, Verb::Start) => {
                let status = Box::pin(client.status()).await?;
                all(&status, verb, |facts| !facts.is_started(), out)
            }
            (true, Verb::Load) => {
                let status = Box::pin(client.status()).await?;
                let lacks_memory = |facts: &ModelFacts| {
                    facts.is_started() && facts.memory_state != MemoryState::Loaded
                };
                all(&status, verb, lacks_memory, out)
            }
            (false, _) => self.names.clone(),
        };
        let names = || all.iter().map(|name| name.trim());
        let given = names().filter(|name| !name.is_empty());
        let acts = stream::iter(given.map(|name| client.act(name, verb)));
        let mut answers = pin!(acts.buffered(at_once(verb, all.len())));
        let mut begin = Instant::now();
        for name in names() {
            if name.is_empty() {
                out.warn("Skipping blank model name entry");
                continue;
            }
            let what = format!("{name}: {}", verb.under_way());
            match progress::show_since(begin, &what, answers.next()).await {
                Some(Ok(message)) => out.ok(format_args!("{name}: {}", about(name, &message))),
                Some(Err(error)) => {
                    let edited = edited(client, name).await;
                    let error = error.to_string() + &edited;
                    out.err(format_args!("{name}: {}", about(name, &error)));
                    code = ExitCode::FAILURE;
                }
                None => break,
            }
            if at_once(verb, all.len()) == 1 {
                begin = Instant::now();
            }
        }
        Ok(code)
    }
}

/// Number of names to work on at once, of so many. If memory is short, the first ones get it.
fn at_once(verb: Verb, names: usize) -> usize {
    match verb {
        Verb::Load => 1,
        // Buffers must have room for one.
        _ => names.max(1),
    }
}

/// The lines about a verb on all models, for which the hub has chosen them.
fn tell(verb: Verb, report: AllReport, out: &mut Out) -> ExitCode {
    if report == AllReport::default() {
        out.info(none(verb));
    }
    for name in &report.busy {
        out.info(format_args!(
            "{name}: stays loaded, for it has requests in flight"
        ));
    }
    for name in &report.done {
        out.ok(format_args!("{name}: {}", verb.done()));
    }
    for (name, error) in &report.failed {
        out.err(format_args!("{name}: {}", about(name, error)));
    }
    match report.failed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn none(verb: Verb) -> String {
    format!("No model to {}", verb.as_str())
}

/// The models for which it holds, told if there are none.
fn all(
    status: &Status,
    verb: Verb,
    holds: impl Fn(&ModelFacts) -> bool,
    out: &mut Out,
) -> Vec<String> {
    let is_meant = |model: &&ModelStatus| holds(&model.metadata.facts);
    let models = status.models.iter().filter(is_meant);
    let names: Vec<String> = models.map(|model| model.id.clone()).collect();
    if names.is_empty() {
        out.info(none(verb));
    }
    names
}

/// A line with an error; hub.yaml may have a model that the hub lacks.
async fn edited(client: &Client, name: &str) -> String {
    let Ok(status) = client.status().await else {
        return String::new();
    };
    let is_known = status.models.iter().any(|model| model.id == name);
    let edited = status.edited().filter(|_| !is_known);
    edited.map_or_else(String::new, |edited| format!("\nhint: {edited}"))
}

/// The hub's sentence without its subject, which the line begins with: of "Model 'a' is already started"
/// that is "already started". Any other sentence stays whole.
fn about<'m>(name: &str, message: &'m str) -> &'m str {
    let subjects = [
        format!("Model '{name}' "),
        format!("Model `{name}` "),
        format!("The model `{name}` "),
    ];
    let rest = subjects
        .iter()
        .find_map(|subject| message.strip_prefix(subject));
    rest.map_or(message, |rest| rest.strip_prefix("is ").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_model_once() {
        assert_eq!(about("a", "Model 'a' started"), "started");
        assert_eq!(
            about("a", "Model 'a' is already started"),
            "already started"
        );
        assert_eq!(about("a", "Model 'ab' started"), "Model 'ab' started");
        assert_eq!(
            about("a", "Model `a` failed to load: no"),
            "failed to load: no"
        );
        assert_eq!(
            about("a", "The model `a` does not exist in this hub."),
            "does not exist in this hub."
        );
        assert_eq!(about("a", "done"), "done");
    }
}
