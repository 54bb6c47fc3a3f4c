//! `service`: has launchd or systemd run the hub.
//!
//! A [`Manager`] knows the files of its service manager and the commands to give it; it runs and writes
//! nothing itself. Only files with the [`MARK`] are overwritten and removed, and only those of the same hub.yaml.
//! `start` and `stop` ask [`Service::installed`], and go through the manager where a service has their hub.yaml.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Subcommand, ValueEnum};
use nix::unistd::{Uid, User};

use super::background::START_LIMIT;
use super::client::{Client, Probe};
use super::completions::PROGRAM;
use super::find::HubAddress;
use super::hub_yaml::HubYaml;
use super::progress;
use super::render::Out;
use super::wait_for;
use crate::clients::shell_words;
use crate::config::{self, Config, is_same};
use crate::telemetry;
pub(super) use installed::{Installed, Told};
use plan::ServicePlan;
pub(super) use plan::VARIABLES;
use step::{Rule, Step};

mod installed;
mod launchd;
mod plan;
mod step;
mod systemd;

/// Stands in every file of ours.
const MARK: &str = "Written by `mlx-openai-server-hub service install`, and removed by `service uninstall`. Without this line it is yours.";

const POLL: Duration = Duration::from_millis(20);

/// Have launchd or systemd run the hub
///
/// A service starts when you log in (or, with --system, when the machine starts), and again after a crash.
/// `start`, `stop` and `restart` know of it. --config names the hub.yaml, each of which may have its service.
///
/// Example: mlx-openai-server-hub service install
#[derive(Debug, clap::Args)]
pub(super) struct ServiceVerbs {
    #[command(subcommand)]
    verb: ServiceCommand,
    /// A service of the machine rather than yours; it needs sudo
    #[arg(long, global = true)]
    system: bool,
    /// The service manager; this system's own unless you want to see what another would get
    #[arg(long, global = true, value_name = "NAME")]
    manager: Option<Kind>,
}

#[derive(Debug, Subcommand)]
enum ServiceCommand {
    /// Install the service and start it
    ///
    /// Writes a property list into ~/Library/LaunchAgents, or a systemd unit into ~/.config/systemd/user, with
    /// a PATH that has the worker programs. One that this command has written is replaced; any other file in
    /// its place is left alone, and nothing is changed.
    ///
    /// Exit status: 0 when the hub runs; 1 when it cannot be installed or does not start.
    Install {
        /// Have the service manager hold the port, so that not even a crash refuses a connection
        #[arg(long)]
        socket: bool,
        /// Show what would be written, and write nothing
        #[arg(long)]
        print: bool,
    },
    /// Stop the service and remove its files
    ///
    /// Exit status: 0; 1 when no service of this program is installed, or it cannot be stopped.
    Uninstall,
    /// Start the service
    ///
    /// Exit status: 0 when the hub runs; 1 when not.
    Start,
    /// Stop the service until the next login, or `service start`
    ///
    /// Exit status: 0; 1 when it cannot be stopped.
    Stop,
    /// Show whether the service is installed and runs
    ///
    /// Exit status: 0 when it runs; 1 when not.
    Status,
    /// Print what the service manager has of the hub's output
    ///
    /// With launchd that is what was said outside of the hub's log: why it did not start, and crashes. See
    /// `logs` for the rest.
    ///
    /// Exit status: that of `journalctl` or `tail`.
    Logs {
        /// Go on with what is added, until Ctrl+C
        #[arg(short, long)]
        follow: bool,
        /// Begin with the last N lines
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
    },
}

/// A service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Launchd,
    Systemd,
}

const THIS: Kind = match cfg!(target_os = "macos") {
    true => Kind::Launchd,
    false => Kind::Systemd,
};

/// Whose service it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    User,
    System,
}

/// A file of a service.
struct NewFile {
    path: PathBuf,
    text: String,
}

/// An order for a service manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// The files are there: have them in force, and start the hub.
    Install,
    Start,
    Stop,
    /// The files are about to be removed.
    Uninstall,
    /// They are removed.
    Forget,
}

/// The state of a service, as its manager reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It does not know the service.
    Unknown,
    /// It knows it, and no process runs.
    Loaded,
    Running(u32),
}

/// The files and commands of a service manager, for one service.
trait Manager {
    /// The name of the service.
    fn name(&self) -> &str;
    /// Every file that it may have; the first is there if the service is installed.
    fn files(&self) -> Vec<PathBuf>;
    /// The files of a service to be.
    fn new_files(&self, plan: &ServicePlan) -> anyhow::Result<Vec<NewFile>>;
    /// Reads a file that is there, whoever has written it.
    fn read(&self, text: &str) -> Option<Told>;
    fn steps(&self, act: Act) -> Vec<Step>;
    /// The command whose answer tells the state.
    fn question(&self) -> Step;
    fn state(&self, answer: &Output) -> State;
    fn logs(&self, stderr_log: &Path, lines: usize, follow: bool) -> Step;
    /// True if a user's service ends with the user's last session, without further ado.
    fn ends_at_logout(&self) -> bool;
}

/// The service of a hub.yaml, be it installed or not.
pub(super) struct Service {
    manager: Box<dyn Manager>,
    scope: Scope,
    config_path: PathBuf,
}

impl Service {
    fn new(kind: Kind, scope: Scope, config_path: &Path) -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        let name = name(config_path);
        let manager: Box<dyn Manager> = match kind {
            Kind::Launchd => Box::new(launchd::Launchd {
                label: format!("local.{name}"),
                scope,
                home,
            }),
            Kind::Systemd => {
                let config_home = std::env::var_os("XDG_CONFIG_HOME")
                    .map(PathBuf::from)
                    .filter(|folder| folder.is_absolute());
                Box::new(systemd::Systemd {
                    name,
                    scope,
                    config_home: config_home.unwrap_or_else(|| home.join(".config")),
                })
            }
        };
        Self {
            manager,
            scope,
            config_path: config_path.to_owned(),
        }
    }

    /// The one that this program has installed for a hub.yaml, for the user or for the machine.
    pub(super) fn installed(config_path: &Path) -> Option<Self> {
        Self::installed_in(&[Scope::User, Scope::System], THIS, config_path)
    }

    /// The one that is installed for a hub.yaml, if its manager runs the hub now.
    pub(super) async fn running(config_path: &Path) -> Option<Self> {
        let service = Self::installed(config_path)?;
        service.is_running().await.then_some(service)
    }

    fn installed_in(scopes: &[Scope], kind: Kind, config_path: &Path) -> Option<Self> {
        let mut services = scopes
            .iter()
            .map(|scope| Self::new(kind, *scope, config_path));
        services.find(|service| {
            let hub_yaml = service.hub_yaml();
            hub_yaml.is_some_and(|its| is_same(&its, config_path))
        })
    }

    /// The hub.yaml of the service that this program has installed under this name.
    fn hub_yaml(&self) -> Option<PathBuf> {
        let file = &self.manager.files()[0];
        let text = std::fs::read_to_string(file).ok()?;
        let told = self.manager.read(&text);
        text.contains(MARK)
            .then(|| told.map_or_else(|| self.config_path.clone(), |told| told.config_path()))
    }

    pub(super) fn name(&self) -> &str {
        self.manager.name()
    }

    /// True if the service manager runs its hub.
    async fn is_running(&self) -> bool {
        matches!(self.state().await, State::Running(_))
    }

    async fn state(&self) -> State {
        match self.manager.question().output().await {
            Ok(answer) => self.manager.state(&answer),
            Err(_) => State::Unknown,
        }
    }

    /// Tells the service manager to start it.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub(super) async fn start(&self) -> anyhow::Result<()> {
        self.act(Act::Start).await
    }

    /// Stops it, and keeps its sockets from starting it again. Requests in flight may end first.
    ///
    /// # Errors
    /// When the service manager refuses.
    pub(super) async fn stop(&self) -> anyhow::Result<()> {
        self.act(Act::Stop).await
    }

    async fn act(&self, act: Act) -> anyhow::Result<()> {
        for step in self.manager.steps(act) {
            let output = step.run().await?;
            match (output.status.success(), step.rule) {
                (true, Rule::Suffices) => break,
                (true, _) | (false, Rule::Suffices) => {}
                (false, Rule::Ends) if self.has_ended(&output).await => {}
                (false, _) => return Err(self.refused(act, &step, &output)),
            }
        }
        Ok(())
    }

    /// True if nothing runs after a step that was to end it, and failed.
    async fn has_ended(&self, output: &Output) -> bool {
        // launchd kills what does not end in its ExitTimeOut.
        while output.status.code() == Some(step::IN_PROGRESS) && self.is_running().await {
            tokio::time::sleep(step::AGAIN.1).await;
        }
        !self.is_running().await
    }

    /// The error for a step that the service manager refuses.
    fn refused(&self, act: Act, step: &Step, output: &Output) -> anyhow::Error {
        let said = String::from_utf8_lossy(&output.stderr);
        let hint = match self.scope == Scope::System && !Uid::effective().is_root() {
            true => step::as_root(act, &self.config_path),
            false => String::new(),
        };
        anyhow::anyhow!(
            "`{}` failed ({}): {}{hint}",
            shell_words(&step.words),
            output.status,
            said.trim()
        )
    }

    /// Writes its files in the place of older ones; says which.
    async fn install(&self, plan: &ServicePlan) -> anyhow::Result<Vec<PathBuf>> {
        let files = self.manager.new_files(plan)?;
        let mut there = self.manager.files();
        there.retain(|file| file.exists());
        if let Some(file) = there.iter().find(|file| !is_marked(file)) {
            anyhow::bail!(
                "`{}` already exists, and was not written by this command; nothing was changed\n\
                 hint: move it away, or keep it and do without `service install`",
                file.display()
            );
        }
        let other = self.hub_yaml();
        if let Some(other) = other.filter(|its| !is_same(its, &self.config_path)) {
            anyhow::bail!(
                "the service {} is that of `{}`, whose path gives it the same name; nothing was changed\n\
                 hint: rename this hub.yaml, or remove that service with `service uninstall` and its --config",
                self.name(),
                other.display()
            );
        }
        if !there.is_empty() {
            // Its manager knows what the older ones are called, and may hold a socket for them.
            self.act(Act::Uninstall).await?;
            self.remove_files()?;
        }
        for NewFile { path, text } in &files {
            write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        Ok(files.into_iter().map(|file| file.path).collect())
    }

    /// Removes the files of ours; says which.
    fn remove_files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut files = self.manager.files();
        files.retain(|file| is_marked(file));
        for file in &files {
            std::fs::remove_file(file)
                .with_context(|| format!("cannot remove `{}`", file.display()))?;
        }
        Ok(files)
    }
}

/// Names a service: the default hub.yaml has the shortest name, any other one that of its path. Paths that differ in
/// odd letters alone have one name, and so have the default ones of two users: what the file runs tells whose it is.
fn name(config_path: &Path) -> String {
    if config_path == config::default_path() {
        return PROGRAM.to_owned();
    }
    let path = config_path.display().to_string();
    let of_name = |letter: char| letter.is_ascii_alphanumeric() || "._".contains(letter);
    let path = path.replace(|letter| !of_name(letter), "-");
    format!("{PROGRAM}.{}", path.trim_matches('-'))
}

/// True for a file that this program has written.
fn is_marked(file: &Path) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.contains(MARK))
}

/// launchd loads no file that others may write.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

/// Finds the user who runs a service of the machine: the one who called `sudo`.
fn owner() -> anyhow::Result<User> {
    let name = std::env::var("SUDO_USER").ok();
    let user = match &name {
        Some(name) => User::from_name(name)?,
        None => User::from_uid(Uid::current())?,
    };
    user.context("the user who is to run the service is not known here")
}

impl ServiceVerbs {
    pub(super) fn run(self, given: Option<&Path>, out: &mut Out) -> anyhow::Result<ExitCode> {
        let owner = match self.system {
            true => Some(owner()?),
            false => None,
        };
        if let Some(owner) = &owner {
            let home = std::env::home_dir().unwrap_or_default();
            ensure!(
                home == owner.dir,
                "the service is to be {}'s, and the home folder here is `{}`\n\
                 hint: `sudo HOME={} {PROGRAM} service …`",
                owner.name,
                home.display(),
                owner.dir.display()
            );
        }
        let path = config::locate(given);
        let kind = self.manager.unwrap_or(THIS);
        let scopes: &[Scope] = match self.system {
            true => &[Scope::System],
            false => &[Scope::User, Scope::System],
        };
        let installed = || {
            let service = Service::installed_in(scopes, kind, &path);
            service.with_context(|| {
                format!(
                    "no service is installed for `{}`\n\
                     hint: install one with `mlx-openai-server-hub service install`",
                    path.display()
                )
            })
        };
        match self.verb {
            ServiceCommand::Install { socket, print } => {
                let config = Config::load(&path)?;
                let plan = ServicePlan::of(&config, owner.as_ref(), socket)?;
                let service = Service::new(kind, scopes[0], &path);
                if print {
                    return service.print(&plan, out);
                }
                ensure!(
                    !self.system || Uid::effective().is_root(),
                    "a service of the machine is installed by root\n\
                     hint: `sudo {PROGRAM} service install --system`"
                );
                wait_for(install(&service, &config, &plan, owner.as_ref(), out))
            }
            ServiceCommand::Uninstall => wait_for(uninstall(&installed()?, out)),
            ServiceCommand::Start => {
                let service = installed()?;
                let config = Config::load(&path)?;
                wait_for(async {
                    service.start().await?;
                    runs(&service, &config, out).await
                })
            }
            ServiceCommand::Stop => {
                let service = installed()?;
                wait_for(async {
                    progress::show("stopping the service", service.stop()).await?;
                    out.ok(format_args!("Service {} stopped", service.name()));
                    Ok(ExitCode::SUCCESS)
                })
            }
            ServiceCommand::Status => wait_for(status(installed()?, out)),
            ServiceCommand::Logs { follow, lines } => {
                let log_path = HubYaml::read(&path).hub_address().log_path;
                let stderr_log = telemetry::stderr_log(&log_path);
                wait_for(logs(&installed()?, &stderr_log, lines, follow))
            }
        }
    }
}

impl Service {
    fn print(&self, plan: &ServicePlan, out: &mut Out) -> anyhow::Result<ExitCode> {
        for NewFile { path, text } in self.manager.new_files(plan)? {
            out.line(format_args!("# {}", path.display()));
            out.text(&text);
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn install(
    service: &Service,
    config: &Config,
    plan: &ServicePlan,
    owner: Option<&User>,
    out: &mut Out,
) -> anyhow::Result<ExitCode> {
    let hub = HubAddress::of(config).hub().await?;
    ensure!(
        hub.is_none() || service.is_running().await,
        "a hub of this hub.yaml runs already, and not as a service; nothing was changed\n\
         hint: `{PROGRAM} stop`, then install the service again"
    );
    telemetry::create_log_folder(&config.log_path)?;
    if let Some(owner) = owner {
        let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
        std::os::unix::fs::chown(&config.log_path, Some(uid), Some(gid))?;
    }
    let files = progress::show("installing the service", service.install(plan)).await?;
    for file in files {
        out.ok(format_args!("Wrote {}", file.display()));
    }
    progress::show("starting the service", service.act(Act::Install)).await?;
    let done = runs(service, config, out).await;
    if plan.user.is_none() && service.manager.ends_at_logout() {
        out.info("It ends when you log out, unless you run `loginctl enable-linger` once");
    }
    done
}

/// Waits until the hub answers.
pub(super) async fn answers(config: &Config) -> bool {
    let client = Client::new(&config.host, config.port, &config.path);
    let answering = async {
        while client.probe().await != Probe::Hub {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(START_LIMIT, answering).await.is_ok()
}

/// The error for a service whose hub does not answer.
pub(super) fn silent(service: &Service) -> anyhow::Error {
    anyhow::anyhow!(
        "the service {} was started, and its hub does not answer within {} seconds\n\
         hint: `{PROGRAM} service logs` shows what it said",
        service.name(),
        START_LIMIT.as_secs()
    )
}

async fn runs(service: &Service, config: &Config, out: &mut Out) -> anyhow::Result<ExitCode> {
    if !progress::show("waiting for the hub", answers(config)).await {
        return Err(silent(service));
    }
    out.ok(format_args!("Service {} runs", service.name()));
    Ok(ExitCode::SUCCESS)
}

async fn uninstall(service: &Service, out: &mut Out) -> anyhow::Result<ExitCode> {
    progress::show("stopping the service", service.act(Act::Uninstall)).await?;
    for file in service.remove_files()? {
        out.ok(format_args!("Removed {}", file.display()));
    }
    service.act(Act::Forget).await?;
    Ok(ExitCode::SUCCESS)
}

async fn status(service: Service, out: &mut Out) -> anyhow::Result<ExitCode> {
    let (name, file) = (service.name(), &service.manager.files()[0]);
    let (says, code) = match service.state().await {
        State::Running(pid) => (format!("runs (PID: {pid})"), ExitCode::SUCCESS),
        State::Loaded => ("is stopped".to_owned(), ExitCode::FAILURE),
        State::Unknown => ("is not loaded".to_owned(), ExitCode::FAILURE),
    };
    out.line(format_args!("Service {name} {says}"));
    out.line(format_args!("  {}", file.display()));
    Ok(code)
}

async fn logs(
    service: &Service,
    stderr_log: &Path,
    lines: usize,
    follow: bool,
) -> anyhow::Result<ExitCode> {
    let step = service.manager.logs(stderr_log, lines, follow);
    let status = step.command().status().await;
    let status = status.with_context(|| format!("cannot run `{}`", step.words[0]))?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
