//! hub.yaml as a command finds it. It may be broken: that hinders only what would start something from it,
//! and what asks it because no hub answers.

use std::path::{Path, PathBuf};

use super::NOT_RUNNING;
use super::find::{Hub, Place};
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

    /// What it says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn config(&self) -> anyhow::Result<&Config> {
        self.read.as_ref().map_err(|error| error.clone().into())
    }

    /// Where its hub is, or would be.
    pub(super) fn place(&self) -> Place {
        match &self.read {
            Ok(config) => Place::of(config),
            Err(_) => Place::guess(&self.path),
        }
    }

    /// Its hub, if one runs; what hub.yaml says, if not.
    ///
    /// # Errors
    /// When the hub of another hub.yaml is there; when none is, and hub.yaml is not valid.
    pub(super) async fn hub(&self) -> anyhow::Result<Result<Hub, &Config>> {
        match self.place().hub().await? {
            Some(hub) => Ok(Ok(hub)),
            None => self.config().map(Err),
        }
    }

    /// Its hub.
    ///
    /// # Errors
    /// As [`HubYaml::hub`]; when none runs, with how to start one.
    pub(super) async fn running_hub(&self) -> anyhow::Result<Hub> {
        let hub = self.hub().await?;
        hub.map_err(|_| anyhow::anyhow!(NOT_RUNNING))
    }
}
