//! The services that are installed for a hub.yaml, whoever has written them, and what their files say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Kind, Scope, Service, State, THIS};
use crate::cli::completions::PROGRAM;
use crate::config::{self, is_same};

/// The command that a service manager is told to run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::cli) struct Told {
    /// The program and its arguments.
    pub(in crate::cli) command: Vec<String>,
    pub(in crate::cli) environment: BTreeMap<String, String>,
}

/// A service that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Installed {
    pub(in crate::cli) file: PathBuf,
    pub(in crate::cli) told: Told,
    /// True if this program has written the file.
    pub(in crate::cli) is_ours: bool,
    /// False for one of ours that its manager does not know.
    pub(in crate::cli) is_known: bool,
}

impl Installed {
    /// The user's and the machine's services that run the hub of a hub.yaml.
    pub(in crate::cli) async fn all(config_path: &Path) -> Vec<Self> {
        let mut all = Vec::new();
        for scope in [Scope::User, Scope::System] {
            let service = Service::new(THIS, scope, config_path);
            let own = service.manager.files().swap_remove(0);
            for file in beside(&own) {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                let told = service.manager.read(&text);
                let Some(told) = told.filter(|told| told.runs_hub_of(config_path)) else {
                    continue;
                };
                let is_ours = file == own && super::is_marked(&file);
                all.push(Self {
                    file,
                    told,
                    is_ours,
                    is_known: !is_ours || service.state().await != State::Unknown,
                });
            }
        }
        all
    }
}

impl Installed {
    /// Those that this program has not written: `start` and `stop` cannot go through them.
    pub(in crate::cli) async fn foreign(config_path: &Path) -> Vec<Self> {
        let mut all = Self::all(config_path).await;
        all.retain(|service| !service.is_ours);
        all
    }

    /// The commands that start it and that stop it.
    pub(in crate::cli) fn commands(&self) -> [String; 2] {
        let name = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let is_users = std::env::home_dir().is_some_and(|home| self.file.starts_with(home));
        if name.starts_with("homebrew.mxcl.") {
            return ["start", "stop"].map(|verb| format!("brew services {verb} {PROGRAM}"));
        }
        match (THIS, is_users) {
            (Kind::Launchd, is_users) => {
                let (sudo, domain) = match is_users {
                    true => ("", "gui/$(id -u)"),
                    false => ("sudo ", "system"),
                };
                [
                    format!("{sudo}launchctl bootstrap {domain} {}", self.file.display()),
                    format!("{sudo}launchctl bootout {domain}/{name}"),
                ]
            }
            (Kind::Systemd, true) => {
                ["start", "stop"].map(|verb| format!("systemctl --user {verb} {name}"))
            }
            (Kind::Systemd, false) => {
                ["start", "stop"].map(|verb| format!("sudo systemctl {verb} {name}"))
            }
        }
    }
}

/// The files of that kind in its folder, by name.
fn beside(file: &Path) -> Vec<PathBuf> {
    let entries = file
        .parent()
        .and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.extension() == file.extension())
        .collect();
    paths.sort();
    paths
}

impl Told {
    /// True if that is `serve` of this program with that hub.yaml.
    fn runs_hub_of(&self, config_path: &Path) -> bool {
        let Some((program, arguments)) = self.command.split_first() else {
            return false;
        };
        let is_hub = Path::new(program)
            .file_name()
            .is_some_and(|name| name == PROGRAM);
        is_hub
            && arguments.iter().any(|word| word == "serve")
            && is_same(&self.config_path(), config_path)
    }

    /// The hub.yaml that the command names, or the default one.
    pub(super) fn config_path(&self) -> PathBuf {
        let words = self.command.iter();
        let mut after = words.skip_while(|word| *word != "--config").skip(1);
        after
            .next()
            .map_or_else(config::default_path, PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_those_of_its_manager() {
        let service = |file: &str| Installed {
            file: file.into(),
            told: Told::default(),
            is_ours: false,
            is_known: true,
        };
        let brew = service("/opt/homebrew.mxcl.mlx-openai-server-hub.plist");
        assert_eq!(
            brew.commands()[1],
            "brew services stop mlx-openai-server-hub"
        );
        let [_, stop] = service("/etc/mine.service").commands();
        match THIS {
            Kind::Launchd => assert_eq!(stop, "sudo launchctl bootout system/mine"),
            Kind::Systemd => assert_eq!(stop, "sudo systemctl stop mine"),
        }
    }

    #[test]
    fn a_service_is_of_the_hub_yaml_that_it_names() {
        let runs = |words: &str, path: &str| {
            let told = Told {
                command: words.split(' ').map(str::to_owned).collect(),
                ..Told::default()
            };
            told.runs_hub_of(Path::new(path))
        };
        let command = "/opt/bin/mlx-openai-server-hub --config /etc/hub.yaml serve";
        assert!(runs(command, "/etc/hub.yaml"));
        assert!(!runs(command, "/etc/other.yaml"));
        assert!(!runs(&command.replace("serve", "start"), "/etc/hub.yaml"));
        assert!(!runs(&command.replace("hub ", "hubs "), "/etc/hub.yaml"));
        let default = config::default_path().display().to_string();
        assert!(runs("mlx-openai-server-hub serve", &default));
    }
}
