//! hub.yaml as a command finds it. A broken one only stops commands that start something from it, or that read
//! it because no hub answers.

use std::path::{Path, PathBuf};

use super::NOT_RUNNING;
use super::find::{Hub, HubAddress};
use crate::config::{Config, ConfigError};

/// The hub.yaml of a command.
pub(super) struct HubYaml {
    pub(super) path: PathBuf,
    read: Result<Config, ConfigError>,
}

impl HubYaml {
    pub(super) fn read(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            read: Config::load(path),
        }
    }

    /// Its configuration.
    ///
    /// # Errors
    /// Its problems.
    pub(super) fn config(&self) -> anyhow::Result<&Config> {
        self.read.as_ref().map_err(|error| error.clone().into())
    }

    /// The address of its hub.
    pub(super) fn hub_address(&self) -> HubAddress {
        match &self.read {
            Ok(config) => HubAddress::of(config),
            Err(_) => HubAddress::guess(&self.path),
        }
    }

    /// Its hub, if one runs, else the configuration.
    ///
    /// # Errors
    /// When the hub of another hub.yaml answers; when no hub runs, and hub.yaml is not valid.
    pub(super) async fn hub(&self) -> anyhow::Result<Result<Hub, &Config>> {
        match self.hub_address().hub().await? {
            Some(hub) => Ok(Ok(hub)),
            None => self.config().map(Err),
        }
    }

    /// Its hub.
    ///
    /// # Errors
    /// As [`HubYaml::hub`]; when none runs, with the command that starts one.
    pub(super) async fn running_hub(&self) -> anyhow::Result<Hub> {
        let hub = self.hub().await?;
        hub.map_err(|_| anyhow::anyhow!(NOT_RUNNING))
    }
}
