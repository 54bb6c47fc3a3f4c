//! `start`: a daemon in the background, unless there is one.

use std::cell::RefCell;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::background::{Background, Ready};
use super::client::Client;
use super::find::{Found, HubAddress};
use super::hub_yaml::HubYaml;
use super::notes;
use super::progress;
use super::render::{Out, api_url, dashboard_url, with_tilde};
use super::service::{self, Installed, Service};
use super::table::print_models;
use super::unknown::warn_of_unknown;
use crate::api::{MemoryState, ModelStatus, ProcessState, Status, is_all_addresses, unix_now};
use crate::config::Config;
use crate::runtime_file::RuntimeModels;
use crate::worker::command;
use crate::worker::earlier::Earlier;

/// Interval of the looks of `--wait`.
const POLL_EVERY: Duration = Duration::from_millis(250);
/// The warning about a `host` of all addresses.
pub(super) const OPEN: &str = "The control API is open to the network: whoever reaches this machine can start and stop models. \
     To close it, set `host: 127.0.0.1` in hub.yaml, or make a key with `mlx-openai-server-hub key add NAME`.";

/// Start the hub in the background
///
/// Checks hub.yaml and the worker commands, starts the hub in a session of its own and waits until it
/// answers (20 seconds at most). Models with `default: true` begin to load; it does not wait for them
/// without --wait: see `status` or `watch`. With a hub that runs already it only shows what runs. If a
/// service is installed for this hub.yaml, its manager starts the hub; a service that `service install`
/// has not written is only named.
///
/// Examples:
///   mlx-openai-server-hub start
///   mlx-openai-server-hub --config ~/work/hub.yaml start qwen
///
/// Exit status: 0 when the hub runs, also when a default model fails; 1 when hub.yaml is not valid, a
/// worker command is missing, another program has the port, or the hub ends at its start.
#[derive(Debug, Default, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Start {
    /// Show these models only
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    /// Wait until the models that begin to load are loaded; exit status 1 if one cannot be
    #[arg(long)]
    wait: bool,
}

impl Start {
    pub(super) async fn run(self, config: &Config, out: &mut Out) -> anyhow::Result<ExitCode> {
        let (status, left) = running(config, out).await?;
        self.report(config, &status, left.as_ref(), out);
        warn_of_unknown(&status, &self.models, out);
        self.tell_of_inactive(&status, out);
        match self.wait {
            true => {
                let client = Client::new(&status.host, status.port, &config.path);
                Box::pin(wait(&client, &status, out)).await
            }
            false => Ok(ExitCode::SUCCESS),
        }
    }

    /// Says how to start the named models that do not start with the hub.
    fn tell_of_inactive(&self, status: &Status, out: &mut Out) {
        let is_down = |state| matches!(state, ProcessState::Inactive | ProcessState::Stopped);
        for model in &status.models {
            let is_named = self.models.iter().any(|name| name.trim() == model.id);
            if is_named && is_down(model.metadata.facts.process_state) {
                let name = &model.id;
                out.info(format_args!(
                    "{name}: not started; `mlx-openai-server-hub start-model {name}` starts it"
                ));
            }
        }
    }

    /// Describes a new or running hub; a new one with the workers it has taken over.
    pub(super) fn report(
        &self,
        config: &Config,
        status: &Status,
        left: Option<&Left>,
        out: &mut Out,
    ) {
        for model in status
            .models
            .iter()
            .filter(|model| model.metadata.facts.default)
        {
            print_default_model(model, left, out);
        }
        for warning in &status.warnings {
            out.warn(warning);
        }
        let in_hub_yaml = config.enable_status_page;
        let has_page = status.enable_status_page.unwrap_or(in_hub_yaml);
        out.status_page(has_page);
        if has_page {
            let url = dashboard_url(&status.host, status.port);
            out.line(format_args!("Browse to {url} for the status dashboard"));
        }
        if is_all_addresses(&status.host) && config.api_keys.is_empty() {
            out.warn(OPEN);
        }
        out.log_path(HubAddress::of(config).logs_of(status));
        print_models(out, status, &self.models);
        out.line(format_args!("API: {}", api_url(&status.host, status.port)));
        // One with jit_enabled is on its way too, and loads nothing.
        let loads = |model: &&ModelStatus| {
            let facts = &model.metadata.facts;
            facts.memory_state == MemoryState::Loading
                || facts.is_on_its_way() && !facts.jit_enabled
        };
        let loading: Vec<_> = status.models.iter().filter(loads).collect();
        if !loading.is_empty() && !self.wait {
            let names: Vec<_> = loading.iter().map(|model| &*model.id).collect();
            let names = names.join(", ");
            out.sentence(format_args!("Loading {names}; see `watch`, or `logs -f`"));
        }
    }
}

/// The names of the models between two states.
fn on_their_way(status: &Status) -> Vec<&str> {
    let models = status.models.iter();
    let models = models.filter(|model| model.metadata.facts.is_on_its_way());
    models.map(|model| model.id.as_str()).collect()
}

/// Waits until none of the models that were on their way is any more, and prints a line for each.
async fn wait(client: &Client, status: &Status, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut names = on_their_way(status);
    // One that failed before the first look has failed all the same.
    let defaults = status.models.iter().filter(|model| {
        let facts = &model.metadata.facts;
        facts.default && facts.process_state == ProcessState::Failed
    });
    names.extend(defaults.map(|model| model.id.as_str()));
    let said = RefCell::new(String::new());
    let polling = async {
        loop {
            let now = client.status().await?;
            let left = on_their_way(&now);
            if !names.iter().any(|name| left.contains(name)) {
                return anyhow::Ok(now);
            }
            let notes = now
                .models
                .iter()
                .filter(|model| left.contains(&model.id.as_str()));
            let notes = notes.map(|model| {
                let note = notes::note(&now, model, unix_now());
                format!(
                    "{}: {}",
                    model.id,
                    note.unwrap_or_else(|| "starting".to_owned())
                )
            });
            *said.borrow_mut() = notes.collect::<Vec<_>>().join("; ");
            sleep(POLL_EVERY).await;
        }
    };
    let text = || said.borrow().clone();
    let now = progress::show_changing(Instant::now(), &text, polling).await?;
    let mut code = ExitCode::SUCCESS;
    for model in now
        .models
        .iter()
        .filter(|model| names.contains(&model.id.as_str()))
    {
        let name = &model.id;
        match model.metadata.facts.process_state {
            ProcessState::Running if model.metadata.facts.memory_state == MemoryState::Loaded => {
                out.ok(format_args!("{name}: {}", notes::loaded_in(model)));
            }
            ProcessState::Running => out.ok(format_args!("{name}: started")),
            state => {
                let why = notes::note(&now, model, unix_now());
                let why = why.unwrap_or_else(|| state.as_str().to_owned());
                out.err(format_args!("{name}: {why}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// The status of the hub of hub.yaml. One is started if there is none, which stderr tells: stdout is for what the
/// caller prints.
///
/// # Errors
/// When another hub or another program has its port; when it cannot be started.
pub(super) async fn hub_of(hub_yaml: &HubYaml) -> anyhow::Result<Status> {
    match hub_yaml.hub().await? {
        Ok(hub) => Ok(hub.client.status().await?),
        Err(config) => Ok(running(config, &mut Out::stderr()).await?.0),
    }
}

/// The status of the hub of `config`. One is started if there is none; then with what an earlier one left.
///
/// # Errors
/// When another hub or another program has its port; when it cannot be started.
pub(super) async fn running(
    config: &Config,
    out: &mut Out,
) -> anyhow::Result<(Status, Option<Left>)> {
    let hub_address = HubAddress::of(config);
    match hub_address.look().await {
        Found::Hub(hub) => {
            out.info(already_running(hub.pid));
            Ok((hub.client.status().await?, None))
        }
        Found::Stranger(stranger) => anyhow::bail!("{stranger}"),
        Found::Closed(why) => anyhow::bail!("{why}"),
        Found::Other(what) => anyhow::bail!(
            "port {} on {} is in use by another program ({what})\n\
             hint: stop it, or set `port` in {}",
            hub_address.port,
            hub_address.host,
            config.path.display()
        ),
        Found::Nothing => {
            let left = Left::find(config);
            let status = start(config, &hub_address, out).await?;
            Ok((status, Some(left)))
        }
    }
}

fn already_running(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("Hub manager is already running (PID: {pid})"),
        None => "Hub manager is already running".to_owned(),
    }
}

async fn start(config: &Config, hub_address: &HubAddress, out: &mut Out) -> anyhow::Result<Status> {
    command::check(&config.models)?;
    if let Some(service) = Service::installed(&config.path) {
        return start_service(&service, config, hub_address, out).await;
    }
    for service in Installed::foreign(&config.path).await {
        let file = with_tilde(&service.file.display().to_string());
        let [start, stop] = service.commands();
        out.warn(format_args!(
            "The service `{file}` runs this hub.yaml too, and `service install` has not written it: this starts a hub \
             beside it\nhint: `{start}` starts the service; to have that one, `stop` this hub first, and else \
             `{stop}` keeps the service away"
        ));
    }
    out.line("Starting hub manager...");
    let background = Background::spawn(config)?;
    let client = Client::new(&hub_address.host, hub_address.port, &config.path);
    let ready = background.ready(&client);
    match progress::show("waiting for the hub", ready).await? {
        Ready::Own(pid) => {
            out.line(format_args!("Hub manager process started (PID: {pid})"));
            out.line("Hub manager is now running.");
        }
        Ready::Another(pid) => out.info(already_running(pid)),
    }
    Ok(client.status().await?)
}

/// Has the service manager start the hub, which it is to keep up.
async fn start_service(
    service: &Service,
    config: &Config,
    hub_address: &HubAddress,
    out: &mut Out,
) -> anyhow::Result<Status> {
    out.line(format_args!("Starting the service {}...", service.name()));
    service.start().await?;
    if !progress::show("waiting for the hub", service::answers(config)).await {
        return Err(service::silent(service));
    }
    out.line("Hub manager is now running.");
    let client = Client::new(&hub_address.host, hub_address.port, &config.path);
    Ok(client.status().await?)
}

/// The models that an earlier hub left started, for a new one to take over.
pub(super) struct Left(RuntimeModels);

impl Left {
    fn find(config: &Config) -> Self {
        Self(
            Earlier::find(&config.path, &config.log_path)
                .models()
                .clone(),
        )
    }

    /// True if its state has not changed. A worker that is not known yet counts as unchanged.
    fn has(&self, model: &ModelStatus) -> bool {
        let facts = &model.metadata.facts;
        let is_same = |pid: u32| facts.pid.is_none_or(|now| now == pid);
        let mut workers = self.0.workers.iter();
        facts.process_state == ProcessState::Running
            && (self.0.standby.contains(&model.id)
                || workers.any(|worker| worker.model == model.id && is_same(worker.pid)))
    }
}

/// `left` is for a hub that was just started.
fn print_default_model(model: &ModelStatus, left: Option<&Left>, out: &mut Out) {
    let name = &model.id;
    let facts = &model.metadata.facts;
    match (facts.process_state, &facts.memory_last_error) {
        (ProcessState::Failed, None) => out.err(format_args!("{name}: its process ended")),
        // Inactive or stopped with an error: the start was refused.
        (ProcessState::Failed | ProcessState::Inactive | ProcessState::Stopped, Some(reason)) => {
            out.err(format_args!("{name}: start failed: {reason}"));
        }
        (state, _) => match left {
            Some(left) if left.has(model) => out.ok(format_args!("{name}: already running")),
            Some(_) => out.ok(format_args!("{name}: start requested")),
            // `stopped` too: a user may have stopped it on purpose, which is no failure.
            None => out.ok(format_args!("{name}: {}", state.as_str())),
        },
    }
}
