//! Finds the daemon: by its runtime file first, then at the address hub.yaml gives.
//!
//! A runtime file alone proves nothing, since a daemon that was killed leaves it behind: a hub is there
//! when `/health` says so. The address of hub.yaml catches a daemon whose logs were deleted or whose
//! `log_path` was edited while it runs.

use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::NOT_RUNNING;
use super::client::{Client, Probe};
use crate::config::{self, Config};
use crate::runtime_file::RuntimeFile;

/// Where to look for a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) log_path: PathBuf,
    pub(super) host: String,
    pub(super) port: u16,
}

/// A daemon that answers.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    pub(super) client: Client,
    /// What the daemon wrote about itself, unless that is lost.
    pub(super) runtime: Option<RuntimeFile>,
}

/// What is at a [`Place`].
#[derive(Debug)]
pub(super) enum Found {
    /// A daemon.
    Hub(Hub),
    /// Another program on the port of hub.yaml; the text says what it answered.
    Other(String),
    /// Nobody.
    Nothing,
}

impl Place {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            log_path: config.log_path.clone(),
            host: config.host.clone(),
            port: config.port,
        }
    }

    /// Makes the best of a hub.yaml that is broken or missing: what can be read of `log_path`, `host`
    /// and `port`, and the defaults for the rest.
    pub(super) fn guess(config_path: &Path) -> Self {
        let text = std::fs::read_to_string(config_path).unwrap_or_default();
        let keys = serde_yaml::from_str::<Value>(&text)
            .ok()
            .filter(Value::is_mapping)
            .or_else(|| serde_yaml::from_str(&lines_that_matter(&text)).ok())
            .unwrap_or_default();
        let string = |key| keys.get(key).and_then(Value::as_str);
        let port = keys.get("port").and_then(|port| match port {
            Value::String(text) => text.trim().parse().ok(),
            other => u16::try_from(other.as_u64()?).ok(),
        });
        let folder = config_path.parent().unwrap_or(Path::new("/"));
        Self {
            log_path: string("log_path").map_or_else(config::default_log_path, |written| {
                config::beside(written, folder)
            }),
            host: string("host").unwrap_or(config::DEFAULT_HOST).to_owned(),
            port: port.unwrap_or(config::DEFAULT_PORT),
        }
    }

    /// Looks who is there.
    pub(super) async fn look(&self) -> Found {
        let configured = Client::new(&self.host, self.port);
        let runtime = RuntimeFile::read(&self.log_path);
        if let Some(runtime) = runtime {
            let client = Client::new(&runtime.host, runtime.port);
            match client.probe().await {
                Probe::Hub => {
                    let runtime = Some(runtime);
                    return Found::Hub(Hub { client, runtime });
                }
                // A holder that keeps silent is not waited for twice.
                Probe::Other(what) if client == configured => return Found::Other(what),
                Probe::Other(_) | Probe::Nothing => {}
            }
        }
        match configured.probe().await {
            Probe::Hub => {
                // A hub that has just come up wrote its file after it was looked for, and before it answered.
                let runtime = RuntimeFile::read(&self.log_path)
                    .filter(|runtime| Client::new(&runtime.host, runtime.port) == configured);
                Found::Hub(Hub {
                    client: configured,
                    runtime,
                })
            }
            Probe::Other(what) => Found::Other(what),
            Probe::Nothing => Found::Nothing,
        }
    }

    /// The daemon, if one answers.
    pub(super) async fn hub(&self) -> Option<Hub> {
        match self.look().await {
            Found::Hub(hub) => Some(hub),
            Found::Other(_) | Found::Nothing => None,
        }
    }

    /// The daemon, or an error that says how to start one.
    pub(super) async fn running_hub(&self) -> anyhow::Result<Hub> {
        self.hub().await.ok_or_else(|| anyhow::anyhow!(NOT_RUNNING))
    }
}

/// The lines of a text that is no YAML which still say where the daemon is.
fn lines_that_matter(text: &str) -> String {
    text.lines()
        .filter(|line| {
            ["log_path:", "host:", "port:"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .fold(String::new(), |kept, line| kept + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(text: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.yaml");
        std::fs::write(&path, text).unwrap();
        Place::guess(&path)
    }

    #[test]
    fn a_daemon_can_be_found_with_a_configuration_that_breaks_the_rules() {
        let place = guess("host: 127.0.0.1\nport: '8124'\nlog_path: /var/log/hub\nmodels: []\n");
        assert_eq!(
            place,
            Place {
                log_path: "/var/log/hub".into(),
                host: "127.0.0.1".to_owned(),
                port: 8124
            }
        );
    }

    #[test]
    fn a_daemon_can_be_found_with_a_configuration_that_is_no_yaml() {
        let place = guess("port: 8124\nlog_path: '/var/log/hub'\nmodels: [\n  - name: {\n");
        assert_eq!(place.log_path, Path::new("/var/log/hub"));
        assert_eq!(place.port, 8124);
    }

    #[test]
    fn a_missing_configuration_means_the_defaults() {
        let place = Place::guess(Path::new("/nowhere/hub.yaml"));
        assert!(place.log_path.ends_with("mlx-openai-server-hub/logs"));
        assert_eq!((place.host.as_str(), place.port), ("0.0.0.0", 8000));
    }
}
