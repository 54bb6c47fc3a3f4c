//! `remove`: an entry leaves hub.yaml.

use std::process::ExitCode;

use anyhow::Context as _;

use super::editing;
use super::hub_yaml::HubYaml;
use super::render::Out;
use crate::api::nearest;
use crate::config::edit::{Edit, EditError, remove};

/// Remove a model from hub.yaml
///
/// Takes the lines of its entry out and leaves all others as they are, comments above it too. The change is
/// shown first, and a running hub reloads, which stops the model. Files of the model stay on the disk. The
/// only model is removed while no hub runs.
///
/// Example: mlx-openai-server-hub remove gemma3-27b
///
/// Exit status: 0, also when you decline; 1 when there is no such model, or hub.yaml cannot be edited.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "rm")]
pub(super) struct Remove {
    /// The model by its name in hub.yaml
    name: String,
    /// Change hub.yaml without asking
    #[arg(long, short)]
    yes: bool,
}

impl Remove {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let path = &hub_yaml.path;
        let config = hub_yaml.config()?;
        let text = editing::text_of(path)?.context("hub.yaml is gone")?;
        let name = self.name.trim();
        let edit = remove(&text, name).map_err(|error| {
            let names = config.models.iter().map(|model| model.name.as_str());
            let hint = match (&error, nearest(name, names)) {
                (EditError::Unknown(_), Some(near)) => format!("\nhint: did you mean `{near}`?"),
                (EditError::Unknown(_), None) => String::new(),
                _ => format!("\nhint: take the entry of `{name}` out by hand"),
            };
            anyhow::anyhow!("`{}` was left as it is: {error}{hint}", path.display())
        })?;
        if config.models.len() == 1 {
            return self.last(hub_yaml, &text, &edit, out).await;
        }
        editing::after(path, &text, &edit)?;
        if editing::make(hub_yaml, Some(&text), &edit, self.yes, out).await? {
            out.ok(format_args!("Removed {name}"));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Removes the only model, without which no hub can run.
    async fn last(
        &self,
        hub_yaml: &HubYaml,
        text: &str,
        edit: &Edit,
        out: &mut Out,
    ) -> anyhow::Result<ExitCode> {
        let (path, name) = (&hub_yaml.path, self.name.trim());
        anyhow::ensure!(
            hub_yaml.hub_address().hub().await?.is_none(),
            "`{name}` is the only model of hub.yaml, and its hub runs\n\
             hint: `add` another one first, or `stop` the hub"
        );
        if editing::agreed(path, Some(text), edit, self.yes, out)? {
            editing::write(path, Some(text), edit)?;
            out.ok(format_args!("Removed {name}"));
            out.warn("hub.yaml has no model now: `add` one before the next `start`");
        }
        Ok(ExitCode::SUCCESS)
    }
}
