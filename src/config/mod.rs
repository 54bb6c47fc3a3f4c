//! hub.yaml: from the text to a checked [`Config`].
//!
//! [`Config::load`] is the only way in. It reads the whole file, reports every problem at once as
//! [`ConfigError`] and starts, binds and creates nothing. Ports of models without one are given out
//! later, by the daemon alone ([`ports`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::api::{ConfigFinding, HostFacts};
use crate::engine::{Engine, KeyType};

mod allow_lists;
mod capture;
mod diagnose;
pub mod edit;
mod engines;
mod facts;
mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod group;
mod host;
mod hosts;
mod hub;
mod keys;
mod limits;
mod locate;
mod log_files;
mod lookalikes;
mod missing;
mod model;
mod options;
pub mod ports;
mod problem;
mod proxies;
mod raw;
mod reserved;
mod scalar;
pub(crate) mod schema;
mod slug;
pub mod stored;
pub(crate) mod web;
mod yaml;

pub use crate::engine::{LaunchOption, ModelType};
pub use capture::CaptureLimits;
pub use fleet::FleetConfig;
pub(crate) use hub::{DEFAULT_HOST, DEFAULT_PORT, DEFAULT_STOP_TIMEOUT};
pub use keys::{ApiKey, KeyDigest, KeySource};
pub use limits::Limits;
pub(crate) use locate::beside;
pub use locate::{
    CONFIG_VARIABLE, base_folder, canonical, default_log_path, default_path, is_same, locate,
};
pub(crate) use options::words as command_words;
pub use proxies::{Proxies, Source};
pub(crate) use reserved::instead_of;
pub use schema::schema;
pub(crate) use slug::slug_of;

/// hub.yaml is written by hand; a larger file is refused.
const MAX_BYTES: u64 = 1 << 20;

/// The JSON mapping a `policy:` key holds, as Lua sees it.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// A checked hub.yaml. Every path in it is absolute.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// hub.yaml itself, absolute.
    pub path: PathBuf,
    /// Modification time of hub.yaml, Unix seconds.
    pub modified_at: u64,
    /// Bind address of the one hub port.
    pub host: String,
    /// The hub port; 0 only in the demo, for a free one.
    pub port: u16,
    /// First port of the search for free worker ports.
    pub model_starting_port: u16,
    /// The hub's log level.
    pub log_level: LogLevel,
    /// Folder of all logs and of `hub_runtime.json`.
    pub log_path: PathBuf,
    /// True if `GET /hub` serves the dashboard.
    pub enable_status_page: bool,
    /// True if the dashboard may change hub.yaml, from this machine.
    pub edit_config: bool,
    /// At least one, in file order; names are unique, also when case is ignored.
    pub models: Vec<ModelConfig>,
    /// In file order.
    pub groups: Vec<GroupConfig>,
    /// A load fails after this long without a sign of life.
    pub load_timeout: Duration,
    /// Longest wait of unload, stop and shutdown for requests in flight.
    pub drain_timeout: Duration,
    /// From SIGTERM to SIGKILL; SIGINT at half of it.
    pub stop_timeout: Duration,
    /// A loaded worker is ended when for this long its requests get no byte and its processes use no CPU;
    /// zero for never.
    pub stall_timeout: Duration,
    /// Size in bytes at which a worker's log is rotated; zero for never.
    pub worker_log_max: u64,
    /// Longest silence towards a client that waits for a stream while its model loads: then a comment is
    /// sent, and again at this interval. Zero for no comments.
    pub loading_notice: Duration,
    /// Number of spare processes that are kept for the next loads; zero for none.
    pub spares: usize,
    /// See [`Limits`].
    pub limits: Limits,
    /// The bounds of the bodies of requests that are kept; none where no bodies are.
    pub capture: Option<CaptureLimits>,
    /// Web origins besides the hub's own whose pages have full access, as browsers write them.
    pub allowed_origins: Vec<String>,
    /// Host names besides the usual ones that the hub answers to; lower case, without port.
    pub allowed_hosts: Vec<String>,
    /// The proxies that are believed about their clients.
    pub proxies: Proxies,
    /// The keys that may use and control the hub; empty for a hub that is open to everybody who reaches it.
    pub api_keys: Vec<Arc<ApiKey>>,
    /// The gateway in front of this hub and others; none for a hub that is on its own.
    pub fleet: Option<Arc<FleetConfig>>,
    /// Folders in which commands look for models, besides the caches of other programs.
    pub model_folders: Vec<PathBuf>,
    /// Bundled policies to switch on, by name.
    pub policies: Vec<String>,
    /// Settings for all Lua policies (`hub.settings`).
    pub policy: Settings,
    /// Warnings about things that are legal, one sentence each.
    pub warnings: Vec<String>,
}

/// One entry of `models`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    /// Unique slug, trimmed.
    pub name: String,
    /// As written in hub.yaml: requests may use it in place of the name.
    pub model_path: String,
    /// `model_path` as the worker gets it: an absolute path, or a repository id as written.
    pub resolved_path: String,
    /// The model's type.
    pub model_type: ModelType,
    /// What the worker is.
    #[serde(
        serialize_with = "engine_setting",
        skip_serializing_if = "is_default_engine"
    )]
    pub engine: Arc<Engine>,
    /// Start the model when the hub starts.
    #[serde(skip)]
    pub default: bool,
    /// The group it belongs to.
    #[serde(skip)]
    pub group: Option<String>,
    /// The worker's bind address.
    pub host: String,
    /// The worker's port when hub.yaml sets one.
    pub port: Option<u16>,
    /// Tokens; the contract's default when unset.
    pub context_length: u32,
    /// Number of requests that may queue for the model at once.
    #[serde(skip)]
    pub queue_size: usize,
    /// Longest time that a request may queue.
    #[serde(skip)]
    pub queue_timeout: Duration,
    /// Load on the first request, not at the start.
    pub jit_enabled: bool,
    /// Minutes without a request after which the model is unloaded.
    #[serde(skip)]
    pub auto_unload_minutes: Option<u32>,
    /// The worker's output goes to a file that the status does not name.
    pub no_log_file: bool,
    /// The file for the worker's output; `<log_path>/<name>.log` when unset.
    pub log_file: Option<PathBuf>,
    /// The worker's log level: its own, else the hub's.
    pub log_level: LogLevel,
    /// The program before `launch`, with its own arguments.
    pub worker_command: Vec<String>,
    /// The engine's own keys that the user set (or that the engine sets for want of them), in the engine's
    /// order; without those that every model has (`host`, `port`, `model_path`, …).
    pub options: Vec<LaunchOption>,
    /// Appended to the worker's command line as they are.
    pub extra_args: Vec<String>,
    /// Environment for this worker.
    pub env: BTreeMap<String, String>,
    /// Settings for Lua policies (`model.settings`).
    #[serde(skip)]
    pub policy: Settings,
    /// What its processes on other machines are known by: no other model has it, of whatever hub.
    #[serde(skip)]
    pub mark: String,
}

/// One entry of `groups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// Unique slug.
    pub name: String,
    /// Number of members that may hold memory at once; no cap when unset.
    pub max_loaded: Option<u32>,
    /// Minutes after which an idle member is unloaded.
    pub idle_unload_trigger_min: Option<u32>,
}

/// `log_level` in hub.yaml.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[allow(missing_docs, reason = "the words of hub.yaml")]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
    Critical,
}

impl LogLevel {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 5] = [
        Self::Debug,
        Self::Info,
        Self::Warning,
        Self::Error,
        Self::Critical,
    ];

    /// The word in hub.yaml and on the worker's command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Everything that is wrong with a hub.yaml; its text is what the user sees after `Error: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct ConfigError {
    /// The whole message: `PATH:LINE:COL: …`, with an excerpt and hints where there are any.
    pub text: String,
    /// The same, each at its place; of very many the first.
    pub findings: Vec<ConfigFinding>,
}

impl ConfigError {
    /// An error of the file as a whole.
    fn of_file(text: String) -> Self {
        let finding = ConfigFinding {
            message: text.clone(),
            ..ConfigFinding::default()
        };
        Self {
            text,
            findings: vec![finding],
        }
    }
}

impl Config {
    /// Reads and checks the hub.yaml at `path` (absolute or relative to the working directory).
    ///
    /// # Errors
    /// When the file cannot be read, is not YAML, or breaks a rule of the contract; the error names
    /// all problems found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let path = &locate::absolute(path);
        let (bytes, modified_at) = read_file(path)?;
        let (config, _) = Self::read(path, &bytes, modified_at)?;
        Ok(config)
    }

    /// Reads and checks `text` as if it stood in a hub.yaml at `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let (config, _) = Self::read(&locate::absolute(path), text.as_bytes(), 0)?;
        Ok(config)
    }

    /// [`Config::parse`] for an editor: the warnings stand beside it at their places too.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse_for_editor(
        path: &Path,
        text: &str,
    ) -> Result<(Self, Vec<ConfigFinding>), ConfigError> {
        let (config, warnings) = Self::read(&locate::absolute(path), text.as_bytes(), 0)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Ok((config, diagnose::placed(text, &warnings)))
    }

    fn read(
        path: &Path,
        bytes: &[u8],
        modified_at: u64,
    ) -> Result<(Self, Vec<problem::Problem>), ConfigError> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => return Err(diagnose::not_utf8(path, bytes, &error)),
        };
        let root = yaml::parse(text).map_err(|error| diagnose::syntax_error(path, text, &error))?;
        if let Some(lookalike) = lookalikes::in_values(text) {
            return Err(diagnose::lookalike(path, text, &lookalike));
        }
        let mut findings = problem::Findings::default();
        let mut config = hub::read(&root, path, modified_at, &mut findings);
        if !findings.problems.is_empty() {
            let problem::Findings {
                problems, unnamed, ..
            } = findings;
            return Err(diagnose::problems(path, text, &problems, unnamed));
        }
        let warnings = findings.warnings;
        config.warnings = (warnings.iter())
            .map(|warning| warning.message.clone())
            .collect();
        Ok((config, warnings))
    }

    /// The folder of hub.yaml: relative paths start here, and user policies live here.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The model of that name.
    pub fn model(&self, name: &str) -> Option<&ModelConfig> {
        self.models.iter().find(|model| model.name == name)
    }

    /// The model of that name, or else the first with that `model_path`, as requests find them.
    pub fn find(&self, name_or_path: &str) -> Option<&ModelConfig> {
        let by_path = || {
            let mut models = self.models.iter();
            models.find(|model| {
                model.model_path == name_or_path || model.resolved_path == name_or_path
            })
        };
        self.model(name_or_path).or_else(by_path)
    }

    /// The key with that hash, which may have expired.
    pub fn api_key(&self, digest: &KeyDigest) -> Option<&Arc<ApiKey>> {
        keys::find(&self.api_keys, digest)
    }

    /// True if only this machine reaches the hub.
    pub fn listens_on_loopback(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        let address = host.parse::<IpAddr>();
        address.map_or(host == "localhost", |address| address.is_loopback())
    }

    /// The models of that group, in file order.
    pub fn members(&self, group: &str) -> impl Iterator<Item = &ModelConfig> {
        let models = self.models.iter();
        models.filter(move |model| model.group.as_deref() == Some(group))
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&GroupConfig> {
        self.groups.iter().find(|group| group.name == name)
    }
}

impl ModelConfig {
    /// The file for the worker's output.
    pub fn log_file(&self, log_path: &Path) -> PathBuf {
        if self.no_log_file {
            return log_path.join(format!(".{}.private.log", self.name));
        }
        self.log_file.clone().unwrap_or_else(|| {
            // The hub's own logs begin with `app.`, in any case where the file system ignores it. No
            // name begins with an underscore.
            let first = self.name.split('.').next().unwrap_or_default();
            let is_the_hubs = first.eq_ignore_ascii_case("app");
            let mark = if is_the_hubs { "_" } else { "" };
            log_path.join(format!("{mark}{}.log", self.name))
        })
    }

    /// True if `self` and `other` launch the same worker: everything that reaches its process is compared,
    /// and nothing that the hub can change while it runs (`default`, `group`, `auto_unload_minutes`,
    /// `policy`).
    pub fn same_launch(&self, other: &Self) -> bool {
        self.launch_settings() == other.launch_settings()
    }

    /// The model as its engine sees it, on that port.
    pub fn for_engine(&self, port: u16) -> crate::engine::Model<'_> {
        crate::engine::Model {
            name: &self.name,
            path: &self.resolved_path,
            model_type: self.model_type,
            host: &self.host,
            port,
            log_level: self.log_level.as_str(),
            jit_enabled: self.jit_enabled,
            mark: &self.mark,
            options: &self.options,
        }
    }

    /// The machines that it spans, this one first; none for a model of this machine alone.
    pub fn hosts(&self) -> Vec<HostFacts> {
        let names_hosts = |option: &&LaunchOption| {
            let kind = self.engine.key(&option.key).map(|key| key.kind);
            matches!(kind, Some(KeyType::Hosts | KeyType::Hostfile))
        };
        let option = self.options.iter().find(names_hosts);
        let value = option.and_then(|option| option.value.as_deref());
        value.map_or_else(Vec::new, hosts::facts)
    }

    /// True if it has processes on other machines too.
    pub fn spans_machines(&self) -> bool {
        !self.hosts().is_empty()
    }

    /// The settings that [`ModelConfig::same_launch`] compares, to be kept while the worker runs.
    pub fn launch_settings(&self) -> serde_json::Value {
        // Serialising fails only for maps whose keys are no strings, and there are none.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A worker of a hub that knew no engines fits the default one: its settings do not name it.
fn is_default_engine(engine: &Arc<Engine>) -> bool {
    engine.is_default()
}

fn engine_setting<S: serde::Serializer>(
    engine: &Arc<Engine>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    engine.serialize(serializer)
}

/// The file that a worker's full log is renamed to.
pub(crate) fn older_log(log_file: &Path) -> PathBuf {
    let mut name = log_file.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The keys that hub.yaml may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKeys {
    /// At the top level.
    pub hub: BTreeSet<String>,
    /// In an entry of `models`.
    pub model: BTreeSet<String>,
    /// In an entry of `groups`.
    pub group: BTreeSet<String>,
    /// In an entry of `api_keys`.
    pub api_key: BTreeSet<String>,
    /// In `fleet`.
    pub fleet: BTreeSet<String>,
}

/// All keys that the readers ask for; everything else is reported as unknown.
pub fn known_keys() -> KnownKeys {
    KnownKeys {
        hub: hub::shapes().into_keys().collect(),
        model: model::shapes(&crate::engine::default_engine())
            .into_keys()
            .collect(),
        group: group::shapes().into_keys().collect(),
        api_key: keys::shapes().into_keys().collect(),
        fleet: fleet::shapes().into_keys().collect(),
    }
}

/// The error for a link whose target does not exist.
pub(crate) fn dangling(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    (!path.exists()).then(|| {
        format!(
            "{} is a link to `{}`, which is not there\n\
             hint: put the file there, or remove the link",
            path.display(),
            target.display()
        )
    })
}

/// hub.yaml's bytes and its modification time in Unix seconds.
fn read_file(path: &Path) -> Result<(Vec<u8>, u64), ConfigError> {
    let fail = |text: String| Err(ConfigError::of_file(text));
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        let modified = file.metadata()?.modified()?;
        // One byte more than allowed, so that a longer file is noticed and an endless one ends.
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(modified)
    });
    let modified = match read {
        Ok(modified) => modified,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if let Some(text) = dangling(path) {
                return fail(text);
            }
            return fail(format!(
                "Hub config file not found: {shown}\n\
                 hint: create it with `mlx-openai-server-hub init`, or name another with `--config PATH` or `{CONFIG_VARIABLE}`"
            ));
        }
        Err(error) => return fail(format!("{shown}: cannot read hub config: {error}")),
    };
    if bytes.len() as u64 > MAX_BYTES {
        return fail(format!("{shown}: hub config must not be larger than 1 MiB"));
    }
    let modified_at = modified
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    Ok((bytes, modified_at))
}

/// The configuration of a hub.yaml with that text, for tests of other parts.
#[cfg(test)]
pub(crate) fn from_yaml(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hub.yaml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_log_is_not_one_of_the_hubs_own_files() {
        let names = [
            ("app", "_app.log"),
            ("App", "_App.log"),
            ("app.stderr", "_app.stderr.log"),
            ("app.log.1", "_app.log.1.log"),
            ("apple", "apple.log"),
            ("ports.json", "ports.json.log"),
        ];
        for (name, log) in names {
            let config = from_yaml(&format!("models: [{{name: {name}, model_path: x}}]"));
            let file = config.models[0].log_file(Path::new("/logs"));
            assert_eq!(file, Path::new("/logs").join(log));
        }
    }
}
