//! Finds the daemon of a hub.yaml: by the runtime files it may have left first, then at the address that
//! hub.yaml gives.
//!
//! A runtime file alone proves nothing, since a killed daemon leaves it behind: a hub runs if `/health`
//! answers, and it is the right one if it names this hub.yaml. The address of hub.yaml finds a daemon whose
//! logs were deleted; the trail beside hub.yaml one whose `log_path` was edited while it runs.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use super::client::{Client, ClientError, HubIdentity, Probe};
use crate::api::Status;
use crate::config::{self, Config, is_same};
use crate::runtime_file::{RuntimeFile, Trail, is_locked};

/// The places to look for a hub.yaml's daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubAddress {
    /// The daemon's hub.yaml.
    pub(super) config_path: PathBuf,
    pub(super) log_path: PathBuf,
    pub(super) host: String,
    pub(super) port: u16,
}

/// An answering daemon.
#[derive(Debug, Clone)]
pub(super) struct Hub {
    pub(super) client: Client,
    /// The daemon's runtime file, unless it is lost.
    pub(super) runtime: Option<RuntimeFile>,
    /// Its process id, unless the file is lost and the hub too old to send it.
    pub(super) pid: Option<u32>,
}

/// The daemon of another hub.yaml.
#[derive(Debug)]
pub(super) struct Stranger {
    address: String,
    told: HubIdentity,
    wanted: PathBuf,
    /// The key of hub.yaml in which they conflict.
    shared: &'static str,
}

/// The answer to a search.
#[derive(Debug)]
pub(super) enum Found {
    /// Its daemon.
    Hub(Hub),
    /// The daemon of another hub.yaml, on the port of this one.
    Stranger(Stranger),
    /// A hub that this command has no key for, with what to do.
    Closed(String),
    /// Another program on the port of hub.yaml, with its answer.
    Other(String),
    /// Nothing answers.
    Nothing,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (address, wanted) = (&self.address, self.wanted.display());
        match &self.told.config_path {
            Some(its) => write!(
                f,
                "the hub at {address} is that of another hub.yaml, `{}`, not of `{wanted}`; nothing was changed",
                its.display()
            )?,
            None => write!(
                f,
                "the hub at {address} is an older one, and not that of `{wanted}`; nothing was changed",
            )?,
        }
        if let Some(log_path) = &self.told.log_path {
            write!(f, "\nits logs are in `{}`", log_path.display())?;
        }
        let its = self.told.config_path.as_ref();
        let its = its.map_or_else(
            || "ITS_HUB_YAML".to_owned(),
            |its| its.display().to_string(),
        );
        write!(
            f,
            "\nhint: add `--config {its}` to speak to that one, or set another `{}` in {wanted}",
            self.shared
        )
    }
}

impl HubAddress {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            config_path: config.path.clone(),
            log_path: config.log_path.clone(),
            host: config.host.clone(),
            port: config.port,
        }
    }

    /// The address for a broken or missing hub.yaml: the `log_path`, `host` and `port` that can be read, and the
    /// defaults for the rest.
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
            config_path: config_path.to_owned(),
            log_path: string("log_path").map_or_else(config::default_log_path, |written| {
                config::beside(written, folder)
            }),
            host: string("host").unwrap_or(config::DEFAULT_HOST).to_owned(),
            port: port.unwrap_or(config::DEFAULT_PORT),
        }
    }

    /// Searches for the daemon.
    pub(super) async fn look(&self) -> Found {
        let configured = Client::new(&self.host, self.port, &self.config_path);
        for (folder, runtime) in self.runtime_files() {
            let client = Client::new(&runtime.host, runtime.port, &self.config_path);
            let is_configured = client == configured;
            match client.probe().await {
                Probe::Hub => match self.meet(client, Some((&folder, runtime))).await {
                    // Another hub counts if it uses this hub.yaml's port or log folder, unless the folder is
                    // a copy.
                    Found::Stranger(_) if !is_configured && !self.is_taken(&folder) => {}
                    Found::Stranger(stranger) if !is_configured => {
                        return Found::Stranger(Stranger {
                            shared: "log_path",
                            ..stranger
                        });
                    }
                    found => return found,
                },
                // A silent lock holder is waited for only once.
                Probe::Other(what) if is_configured => return Found::Other(what),
                Probe::Other(_) | Probe::Nothing => {}
            }
        }
        match configured.probe().await {
            // A hub that has just started wrote its file after the first read and before it answered.
            Probe::Hub => {
                let of = |file: &RuntimeFile| Client::new(&file.host, file.port, &self.config_path);
                let is_its = |file: &RuntimeFile| of(file) == configured;
                let files = self.runtime_files();
                let file = files.iter().find(|(_, file)| is_its(file));
                let file = file.map(|(folder, file)| (folder.as_path(), file.clone()));
                self.meet(configured, file).await
            }
            Probe::Other(what) => Found::Other(what),
            Probe::Nothing => Found::Nothing,
        }
    }

    /// The log folder of that hub; that of hub.yaml for an older one, which does not send it.
    pub(super) fn logs_of<'a>(&'a self, status: &'a Status) -> &'a Path {
        status.log_path.as_deref().map_or(&self.log_path, Path::new)
    }

    /// The runtime files that daemons of this hub.yaml may have written, with their folders.
    pub(super) fn runtime_files(&self) -> Vec<(PathBuf, RuntimeFile)> {
        let trail = Trail::read(&self.config_path).map(|trail| trail.log_path);
        let trail = trail.filter(|folder| !is_same(folder, &self.log_path));
        let folders = [Some(self.log_path.clone()), trail].into_iter().flatten();
        folders
            .filter_map(|folder| RuntimeFile::read(&folder).map(|file| (folder, file)))
            .collect()
    }

    /// The process of a hub in the foreground that has not ended cleanly, once [`Self::hub`] has found none.
    pub(super) fn lost_in_foreground(&self) -> Option<u32> {
        // Its log folder may still be locked: a service's process dies before the hub beside it.
        let mut files = self.runtime_files().into_iter();
        let lost = files.find(|(_, file)| file.foreground);
        lost.map(|(_, file)| file.also.first().copied().unwrap_or(file.pid))
    }

    /// True if it is the log folder that hub.yaml names, and a hub holds its lock.
    fn is_taken(&self, folder: &Path) -> bool {
        is_same(folder, &self.log_path) && is_locked(folder)
    }

    /// Asks a hub for its hub.yaml.
    async fn meet(&self, client: Client, runtime: Option<(&Path, RuntimeFile)>) -> Found {
        let told = match client.identity().await {
            Ok(told) => told,
            // It ended meanwhile.
            Err(ClientError::Connect { .. } | ClientError::Lost { .. }) => return Found::Nothing,
            Err(ClientError::Silent { .. }) => {
                return Found::Other("it does not answer GET /hub/status".to_owned());
            }
            Err(error @ (ClientError::Unauthorized { .. } | ClientError::Key(_))) => {
                return Found::Closed(error.to_string());
            }
            Err(_) => HubIdentity::default(),
        };
        let its = told.config_path.as_deref();
        let is_named = its.is_some_and(|its| is_same(its, &self.config_path));
        let is_proved = || {
            runtime
                .as_ref()
                .is_some_and(|(folder, file)| proves(folder, file, its))
        };
        if !is_named && !is_proved() {
            return Found::Stranger(Stranger {
                address: client.address(),
                told,
                wanted: self.config_path.clone(),
                shared: "port",
            });
        }
        let elsewhere = || RuntimeFile::read(told.log_path.as_deref()?);
        let runtime = runtime.map(|(_, file)| file);
        let runtime = runtime
            .filter(|file| told.pid.is_none_or(|pid| pid == file.pid))
            .or_else(elsewhere);
        let pid = told.pid.or_else(|| runtime.as_ref().map(|file| file.pid));
        Found::Hub(Hub {
            client,
            runtime,
            pid,
        })
    }

    /// The daemon, if one answers.
    ///
    /// # Errors
    /// When the daemon of another hub.yaml does; when it wants a key that this command does not have.
    pub(super) async fn hub(&self) -> anyhow::Result<Option<Hub>> {
        match self.look().await {
            Found::Hub(hub) => Ok(Some(hub)),
            Found::Stranger(stranger) => Err(anyhow::anyhow!(stranger.to_string())),
            Found::Closed(why) => Err(anyhow::anyhow!(why)),
            Found::Other(_) | Found::Nothing => Ok(None),
        }
    }
}

/// True if the runtime file in a folder belongs to the hub that names `its` as its hub.yaml, although that is
/// another than the wanted one: an older hub names none, and one whose folder was moved names the old path. A
/// hub keeps its folder locked, a copy of the folder is unlocked.
fn proves(folder: &Path, file: &RuntimeFile, its: Option<&Path>) -> bool {
    let is_its = match (&file.config_path, its) {
        (None, None) => true,
        (Some(written), Some(its)) => !its.exists() && is_same(Path::new(written), its),
        _ => false,
    };
    is_its && is_locked(folder)
}

/// The lines of invalid YAML that still give the daemon's address.
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

    fn guess(text: &str) -> HubAddress {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.yaml");
        std::fs::write(&path, text).unwrap();
        HubAddress::guess(&path)
    }

    #[test]
    fn a_daemon_can_be_found_with_a_configuration_that_breaks_the_rules() {
        let hub_address =
            guess("host: 127.0.0.1\nport: '8124'\nlog_path: /var/log/hub\nmodels: []\n");
        assert_eq!(
            hub_address,
            HubAddress {
                config_path: hub_address.config_path.clone(),
                log_path: "/var/log/hub".into(),
                host: "127.0.0.1".to_owned(),
                port: 8124
            }
        );
    }

    #[test]
    fn a_daemon_can_be_found_with_a_configuration_that_is_no_yaml() {
        let hub_address = guess("port: 8124\nlog_path: '/var/log/hub'\nmodels: [\n  - name: {\n");
        assert_eq!(hub_address.log_path, Path::new("/var/log/hub"));
        assert_eq!(hub_address.port, 8124);
    }

    #[test]
    fn a_missing_configuration_means_the_defaults() {
        let hub_address = HubAddress::guess(Path::new("/nowhere/hub.yaml"));
        assert!(hub_address.log_path.ends_with("mlx-openai-server-hub/logs"));
        assert_eq!(
            (hub_address.host.as_str(), hub_address.port),
            ("0.0.0.0", 8000)
        );
    }

    #[test]
    fn whose_hub_it_is_and_what_to_do_is_told() {
        let stranger = |told| Stranger {
            address: "127.0.0.1:8000".to_owned(),
            told,
            wanted: "/home/b/hub.yaml".into(),
            shared: "port",
        };
        let new = HubIdentity {
            pid: Some(7),
            config_path: Some("/home/a/hub.yaml".into()),
            log_path: Some("/home/a/logs".into()),
        };
        let told =
            [stranger(new), stranger(HubIdentity::default())].map(|stranger| stranger.to_string());
        insta::assert_snapshot!(told.join("\n"), @"
        the hub at 127.0.0.1:8000 is that of another hub.yaml, `/home/a/hub.yaml`, not of `/home/b/hub.yaml`; nothing was changed
        its logs are in `/home/a/logs`
        hint: add `--config /home/a/hub.yaml` to speak to that one, or set another `port` in /home/b/hub.yaml
        the hub at 127.0.0.1:8000 is an older one, and not that of `/home/b/hub.yaml`; nothing was changed
        hint: add `--config ITS_HUB_YAML` to speak to that one, or set another `port` in /home/b/hub.yaml
        ");
    }
}
