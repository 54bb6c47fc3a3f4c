//! Plans a service for any service manager: its program, files, environment and limits.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::unistd::User;

use crate::cli::completions::PROGRAM;
use crate::config::{Config, ModelConfig};
use crate::telemetry;
use crate::worker::command;

/// Folders of programs that workers run and do not bring along, such as the `ffmpeg` of whisper models.
const USUAL_FOLDERS: [&str; 6] = [
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
];
/// Variables that say where models are; none is a secret.
pub(in crate::cli) const VARIABLES: [&str; 4] =
    ["HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "XDG_CACHE_HOME"];
/// Time that a hub needs to end, beyond its own limits.
const MARGIN: Duration = Duration::from_secs(15);

/// A service to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServicePlan {
    pub(super) program: PathBuf,
    pub(super) config_path: PathBuf,
    /// By name, in the order of names; PATH is among them.
    pub(super) environment: BTreeMap<String, String>,
    /// The file for stderr: panics, and messages from before the log is open.
    pub(super) stderr_log: PathBuf,
    /// The longest time of a stop, in whole seconds.
    pub(super) stop_limit: Duration,
    /// The user who runs it, for a service of the machine.
    pub(super) user: Option<String>,
    /// Addresses at which the service manager listens in the hub's place, if it does.
    pub(super) listeners: Vec<SocketAddr>,
}

impl ServicePlan {
    /// The service of a hub.yaml.
    ///
    /// # Errors
    /// When a model's worker program is not there, or `host` is no address here.
    pub(super) fn of(config: &Config, user: Option<&User>, socket: bool) -> anyhow::Result<Self> {
        let mut environment = BTreeMap::new();
        for name in VARIABLES {
            if let Ok(value) = std::env::var(name) {
                environment.insert(name.to_owned(), value);
            }
        }
        environment.insert("PATH".to_owned(), search_path(&config.models, user)?);
        if let Some(user) = user {
            // launchd gives a service of the machine none.
            environment.insert("HOME".to_owned(), user.dir.display().to_string());
        }
        let listeners = match socket {
            true => addresses(&config.host, config.port)?,
            false => Vec::new(),
        };
        Ok(Self {
            program: own_program()?,
            config_path: config.path.clone(),
            environment,
            stderr_log: telemetry::stderr_log(&config.log_path),
            stop_limit: config.drain_timeout + config.stop_timeout + MARGIN,
            user: user.map(|user| user.name.clone()),
            listeners,
        })
    }
}

/// The hub's program by the path that a newer version will have too: installers link it into a folder of
/// PATH, and put each version into a folder of its own.
fn own_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the hub's own program")?;
    let real = program.canonicalize().ok();
    let search = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&search)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(PROGRAM))
        .find(|path| path.canonicalize().ok() == real);
    Ok(on_path.unwrap_or(program))
}

/// A PATH that has every model's worker program.
fn search_path(models: &[ModelConfig], user: Option<&User>) -> anyhow::Result<String> {
    let mut search = std::env::var_os("PATH").unwrap_or_default().into_vec();
    if let Some(user) = user {
        // `sudo` has a PATH of its own.
        search.extend(format!(":{}/.local/bin", user.dir.display()).into_bytes());
    }
    let search = OsString::from_vec(search).to_string_lossy().into_owned();
    let mut folders: Vec<PathBuf> = Vec::new();
    for model in models {
        let mut env = model.env.clone();
        let has_its_own = env.contains_key("PATH");
        env.entry("PATH".to_owned())
            .or_insert_with(|| search.clone());
        let found = command::find(&model.worker_command, &env)
            .with_context(|| format!("model `{}`", model.name))?;
        let is_named = model.worker_command[0].contains('/');
        if let Some(folder) = found.parent().filter(|_| !is_named && !has_its_own) {
            folders.push(std::path::absolute(folder)?);
        }
    }
    folders.extend(USUAL_FOLDERS.map(PathBuf::from));
    let mut unique: Vec<&Path> = Vec::new();
    for folder in &folders {
        if !unique.contains(&folder.as_path()) {
            unique.push(folder);
        }
    }
    let joined =
        std::env::join_paths(unique).context("a worker's folder has a colon in its name")?;
    joined
        .into_string()
        .map_err(|_| anyhow::anyhow!("a worker's folder has a name that is no text"))
}

fn addresses(host: &str, port: u16) -> anyhow::Result<Vec<SocketAddr>> {
    let found = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("`host` is `{host}`, which is no address of this machine"))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    ensure!(
        !addresses.is_empty(),
        "`host` is `{host}`, which has no address"
    );
    Ok(addresses)
}
