//! The composition root: builds the parts, wires them, owns the signals and the order of shutdown.
//!
//! `serve` and `demo` call [`run`]; `start` runs it in a process of its own. Nothing here decides
//! about models.

use std::collections::HashSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::config::ports::{PortBook, PortError};
use crate::config::{self, Config};
use crate::gateway::{self, Gateway};
use crate::lifecycle::{Held, Learned, Legacy, Lifecycle, Models, Processes};
use crate::memory::ThisMachine;
use crate::runtime_file::{RuntimeFile, RuntimeModels, Trail, try_lock};
use crate::telemetry::Troubles;
use crate::worker::command;
use crate::worker::earlier::Earlier;
use crate::{control, files, policy, server, telemetry};

mod channel;
mod linger;
mod listen;
mod predecessor;
mod records;
mod service;
mod signals;
mod successor;

use channel::{Channel, Hello, Signalled, Word};
use linger::Lingering;
use predecessor::{Following, Handed, Predecessor};
use records::{Filing, Records};
use service::{Keeper, Service};
use signals::Signals;
pub(crate) use successor::program_file;
use successor::{Candidate, Raised, Recipe};

/// How long open connections may take to end once every model has.
const CONNECTIONS_END: Duration = Duration::from_secs(3);
/// How often a long shutdown says what it waits for.
const STILL_WAITING: Duration = Duration::from_secs(5);
/// macOS' OPEN_MAX.
const MAX_DESCRIPTORS: u64 = 10_240;
/// How long a hub waits for what a killed one still holds.
const KILLED_HUB: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);
const OPEN_FOLDER: &str =
    "other users may write into the log folder, and so to what the hub reads there";
/// The hub forwards bytes: more threads than this only cost memory.
const MAX_THREADS: usize = 4;
/// For all but connections.
const OTHER_THREADS: usize = 2;

/// Runs the hub of that hub.yaml until a signal or `POST /hub/shutdown` ends it. In the
/// `foreground` its log goes to stderr too, and the process stays when another hub takes its place.
///
/// # Errors
/// When hub.yaml is not valid, a worker command is missing, a port is taken, another hub uses the
/// log folder, or a folder cannot be written; nothing has been started then.
pub fn run(config_path: &Path, foreground: bool) -> anyhow::Result<ExitCode> {
    let recipe = recipe(config_path, foreground)?;
    let prepared = prepare(&recipe)?;
    runtime()?.block_on(serve(prepared, recipe, None))
}

/// The same in the place of the hub at the other end of stdin, which serves on if this one cannot.
///
/// # Errors
/// As [`run`]; the other hub has been told.
pub fn take_over(config_path: &Path, foreground: bool) -> anyhow::Result<ExitCode> {
    let recipe = recipe(config_path, foreground)?;
    runtime()?.block_on(async {
        let (mut predecessor, handed) = Predecessor::meet().await?;
        let prepared = match prepare_beside(&recipe, &mut predecessor, handed) {
            Ok(prepared) => prepared,
            Err(error) => {
                predecessor.refuse(&error).await;
                return Err(error);
            }
        };
        serve(prepared, recipe, Some(predecessor)).await
    })
}

/// How another hub is started in the place of this one.
fn recipe(config_path: &Path, foreground: bool) -> anyhow::Result<Recipe> {
    Ok(Recipe {
        // Now: later another program may have its place, which is the one to start then.
        program: std::env::current_exe()?,
        config_path: std::path::absolute(config_path)?,
        foreground,
    })
}

fn threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS)
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads().min(OTHER_THREADS))
        .enable_all()
        .build()
}

/// All that has to be there before a hub may serve.
struct Prepared {
    config: Config,
    listeners: Vec<StdListener>,
    lock: File,
    earlier: Earlier,
    found: RuntimeModels,
    ports: PortBook,
    begun: Instant,
    troubles: Troubles,
    connections: server::Threads,
    /// To the service's process, which is that one.
    service: Option<(Channel, u32)>,
    logging: telemetry::Guard,
}

fn prepare(recipe: &Recipe) -> anyhow::Result<Prepared> {
    let mut config = Config::load(&recipe.config_path)?;
    command::check(&config.models)?;
    telemetry::create_log_folder(&config.log_path)?;
    let listeners = listen::on_all_addresses(&mut config)?;
    let lock = lock(&config.log_path)?;
    let troubles = Troubles::default();
    let logging = log(&config, recipe, &troubles)?;
    let earlier = earlier(&config)?;
    let mut ports = PortBook::new(config.port, config.model_starting_port);
    ports.recall(&ports_file(&config.log_path));
    assign_ports(&mut ports, &config, earlier.models())?;
    raise_descriptor_limit();
    Ok(Prepared {
        config,
        listeners,
        lock,
        found: earlier.models().clone(),
        earlier,
        ports,
        begun: Instant::now(),
        troubles,
        connections: server::Threads::start(threads())?,
        service: None,
        logging,
    })
}

/// The same beside a hub that still serves.
fn prepare_beside(
    recipe: &Recipe,
    predecessor: &mut Predecessor,
    handed: Handed,
) -> anyhow::Result<Prepared> {
    let hello = &mut predecessor.hello;
    let mut config = Config::load(&recipe.config_path)?;
    command::check(&config.models)?;
    telemetry::create_log_folder(&config.log_path)?;
    let listeners = if (&config.host, config.port) == (&hello.host, hello.port) {
        handed.listeners
    } else {
        listen::beside(&mut config, &handed.listeners)?
    };
    let lock = match config.log_path == hello.log_path {
        true => handed.lock,
        false => lock(&config.log_path)?,
    };
    let troubles = Troubles::default();
    let logging = log(&config, recipe, &troubles)?;
    // The hub before knows better what there is; but what is left at the end is this one's to end.
    let earlier = Earlier::find(&config.path, &config.log_path);
    files::has_room(&config.log_path).map_err(|error| cannot_write(&config.log_path, &error))?;
    let found = std::mem::take(&mut hello.found);
    let mut ports = PortBook::new(config.port, config.model_starting_port);
    ports.restore(std::mem::take(&mut hello.ports));
    assign_ports(&mut ports, &config, &found)?;
    let now = Instant::now();
    Ok(Prepared {
        config,
        listeners,
        lock,
        earlier,
        found,
        ports,
        begun: now.checked_sub(hello.clock).unwrap_or(now),
        troubles,
        connections: server::Threads::start(threads())?,
        service: handed.service.zip(hello.service),
        logging,
    })
}

fn log(
    config: &Config,
    recipe: &Recipe,
    troubles: &Troubles,
) -> Result<telemetry::Guard, telemetry::TelemetryError> {
    if let Some(remedy) = telemetry::open_to_others(&config.log_path) {
        troubles.note(OPEN_FOLDER, Err(remedy));
    }
    let level = config.log_level.as_str();
    telemetry::init(&config.log_path, level, recipe.foreground, troubles.clone())
}

/// A stream takes two descriptors, and macOS gives a shell 256 to begin with.
fn raise_descriptor_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    // macOS refuses more than this, although it calls the hard limit endless.
    let wanted = hard.min(MAX_DESCRIPTORS);
    if soft < wanted
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard)
    {
        tracing::warn!(soft, wanted, %error, "the limit of open files stays as it is");
    }
}

/// Takes what may be held by a hub that was killed a moment ago: a worker that it was about to start has
/// its descriptors until its program is loaded.
fn once_free<T, E>(
    mut take: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + KILLED_HUB;
    loop {
        match take() {
            Err(error) if is_held(&error) && Instant::now() < deadline => std::thread::sleep(LOOK),
            taken => return taken,
        }
    }
}

/// What hubs of this hub.yaml which are no more left: their workers, as far as they still run. What else
/// there is of their processes is ended.
fn earlier(config: &Config) -> anyhow::Result<Earlier> {
    let earlier = Earlier::find(&config.path, &config.log_path);
    if let Some(log_path) = earlier.lives_in() {
        anyhow::bail!(
            "the hub of {} runs already, with the log folder `{}`\n\
             hint: `restart` replaces it",
            config.path.display(),
            log_path.display()
        );
    }
    // A hub that cannot come up ends nothing.
    files::has_room(&config.log_path).map_err(|error| cannot_write(&config.log_path, &error))?;
    earlier.end_strays();
    Ok(earlier)
}

/// Keeps the log folder to one hub at a time.
fn lock(log_path: &Path) -> anyhow::Result<File> {
    let taken = once_free(
        || match try_lock(log_path) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(None),
            Err(failed) => Err(Some(failed)),
        },
        Option::is_none,
    );
    taken.map_err(|failed| match failed {
        Some((path, error)) => cannot_write(&path, &error),
        None => anyhow::anyhow!(
            "another hub uses the log folder `{}`\nhint: stop it, or set another `log_path`",
            log_path.display()
        ),
    })
}

/// What is kept in the log folder beside the logs.
fn cannot_write(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let path = path.display();
    anyhow::anyhow!("`{path}` cannot be written: {error}\nhint: set another `log_path` in hub.yaml")
}

/// Where hub.yaml's folder cannot be written, hub.yaml itself says where the log folder is.
fn leave_trail(config_path: &Path, log_path: &Path) {
    let trail = Trail {
        log_path: log_path.to_owned(),
    };
    if let Err(error) = trail.write(config_path) {
        tracing::debug!(%error, "nothing beside hub.yaml says where the log folder is");
    }
}

/// Where the ports of all models are kept from one hub to the next.
fn ports_file(log_path: &Path) -> PathBuf {
    log_path.join("ports.json")
}

/// Every model's port; a worker that is still there keeps its own.
fn assign_ports(
    ports: &mut PortBook,
    config: &Config,
    found: &RuntimeModels,
) -> Result<(), PortError> {
    let workers = found.workers.iter();
    ports.restore(workers.map(|worker| (worker.model.clone(), worker.port)));
    ports.assign(&config.models, &|name| {
        found.workers.iter().any(|worker| worker.model == name)
    })
}

/// A hub that serves.
struct Serving {
    recipe: Recipe,
    host: String,
    port: u16,
    config_path: PathBuf,
    log_path: PathBuf,
    earlier: Earlier,
    lifecycle: Lifecycle,
    supervisor: JoinHandle<()>,
    /// Where its records are written.
    filing: Filing,
    /// The listeners again, for another hub.
    listeners: Vec<StdListener>,
    lock: File,
    ending: server::Ending,
    accepting: JoinHandle<()>,
    connections: TaskTracker,
    /// Who takes its place.
    successor: gateway::Successor,
    /// The hub whose place it took, and the service's process.
    before: Option<Following>,
    service: Option<Service>,
    service_pid: Option<u32>,
    watch: policy::Watch,
    tracker: TaskTracker,
}

async fn serve(
    prepared: Prepared,
    recipe: Recipe,
    predecessor: Option<Predecessor>,
) -> anyhow::Result<ExitCode> {
    let Prepared {
        config,
        listeners,
        lock,
        earlier,
        found,
        ports,
        begun,
        troubles,
        connections: threads,
        service,
        logging: _logging,
    } = prepared;
    let tracker = TaskTracker::new();
    let (signalled, of_service) = mpsc::unbounded_channel();
    let service_pid = service.as_ref().map(|(_, pid)| *pid);
    let service = service
        .map(|(channel, _)| Service::listen(channel, signalled, &tracker))
        .transpose()?;
    let mut signals = Signals::new(recipe.foreground, of_service)?;
    let spread = threads.spread();
    let (config_path, log_path) = (config.path.clone(), config.log_path.clone());
    let (host, port) = (config.host.clone(), config.port);
    let address = format!("{host}:{port}");
    let learned = Learned::recall(&log_path);
    let (lifecycle, running) = Lifecycle::new(config, ports, learned, troubles.clone(), begun);
    let gateway = Gateway::new(lifecycle.clone(), lifecycle.policies().clone());
    let successor = gateway.successor().clone();

    let taken = take(predecessor, found, &lifecycle, &successor).await;
    let (legacy, predecessor, held) = taken?;
    let known: HashSet<String> = legacy.models().collect();
    let (models_up, models_changed) = watch::channel(legacy.found.clone());
    let runtime_file = RuntimeFile {
        pid: std::process::id(),
        host: host.clone(),
        port,
        config_path: Some(config::canonical(&config_path).display().to_string()),
        // Six digits and an offset: what every parser of ISO 8601 reads.
        started_at: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00")
            .to_string(),
        also: service_pid.into_iter().collect(),
        models: legacy.found.clone(),
    };
    runtime_file
        .write(&log_path)
        .map_err(|error| cannot_write(&RuntimeFile::path(&log_path), &error))?;
    // What it took over stands in its own file from now on.
    earlier.forget_others();
    leave_trail(&config_path, &log_path);
    let supervisor = tracker.spawn(running.run(
        Processes::new(tracker.clone()),
        ThisMachine,
        models_up,
        legacy,
        tracker.clone(),
    ));
    // By the first healthy answer the default models are `starting`.
    lifecycle.start_defaults(known).await;
    let watch = lifecycle.watch_policies();

    let ending = server::Ending::default();
    let connections = spread.connections().clone();
    let again = listeners.iter().map(StdListener::try_clone);
    let again = again.collect::<std::io::Result<Vec<_>>>()?;
    let listeners = listeners.into_iter().map(TcpListener::from_std);
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>()?;
    let accepting = tracker.spawn(server::serve(
        listeners,
        gateway,
        control::router(lifecycle.clone()),
        troubles.clone(),
        ending.clone(),
        spread,
    ));
    let before = match (predecessor, held) {
        (Some(predecessor), Some(held)) => {
            predecessor
                .serving(listen::reached_at(&again)?, &log_path)
                .await?;
            Some(predecessor.follow(held, &tracker))
        }
        _ => None,
    };
    let gone = before.as_ref().map(Following::goes);
    let records = Records {
        file: runtime_file,
        before: before
            .iter()
            .flat_map(|before| &before.processes)
            .copied()
            .collect(),
        gone,
        log_path: log_path.clone(),
        models: models_changed,
        troubles,
    };
    let filing = Filing::begin(records, &tracker);
    tracing::info!(pid = std::process::id(), address, "the hub is up");

    let mut hub = Serving {
        recipe,
        host,
        port,
        config_path,
        log_path,
        earlier,
        lifecycle,
        supervisor,
        filing,
        listeners: again,
        lock,
        ending,
        accepting,
        connections,
        successor,
        before,
        service,
        service_pid,
        watch,
        tracker,
    };
    loop {
        tokio::select! {
            models = hub.lifecycle.shutdown_requested() => {
                tracing::info!("shutdown requested");
                return Ok(hub.end(models, signals).await);
            }
            wish = hub.lifecycle.restart_requested() => match hub.make_room().await {
                Ok((raised, keeper)) => {
                    let _ = wish.send(Ok(raised.pid));
                    return Ok(hub.linger(raised, keeper, signals).await);
                }
                Err(reason) => {
                    tracing::warn!("no other hub takes over: {reason}");
                    let _ = wish.send(Err(reason));
                }
            },
            (name, meaning) = signals.next() => match meaning {
                Signalled::Terminate => {
                    tracing::info!("{name}: shutting down");
                    return Ok(hub.end(Models::Stop, signals).await);
                }
                Signalled::Reload => hub.reload(name),
            },
        }
    }
}

/// Everything that the hub before knows, once this one could serve; without such a hub, what a killed one
/// has left.
async fn take(
    predecessor: Option<Predecessor>,
    found: RuntimeModels,
    lifecycle: &Lifecycle,
    successor: &gateway::Successor,
) -> anyhow::Result<(Legacy, Option<Predecessor>, Option<Held>)> {
    let Some(mut predecessor) = predecessor else {
        return Ok((Legacy::of_killed(found), None, None));
    };
    successor.prove_by(predecessor.hello.proof.clone());
    let legacy = predecessor.legacy().await?;
    let mut held = lifecycle.held();
    held.update(&legacy.in_flight);
    Ok((legacy, Some(predecessor), Some(held)))
}

impl Serving {
    /// Reads hub.yaml again.
    fn reload(&self, why: &'static str) {
        let lifecycle = self.lifecycle.clone();
        self.tracker.spawn(async move {
            match lifecycle.reload(true).await {
                Ok(_) => tracing::info!("{why}: hub.yaml read again"),
                Err(error) => tracing::error!("{why}: hub.yaml is not read again: {error}"),
            }
        });
    }

    /// Ends the hub.
    async fn end(self, models: Models, mut signals: Signals) -> ExitCode {
        self.connections.close();
        match models {
            Models::Stop => {
                stop_models(&self.lifecycle, self.supervisor, &mut signals).await;
                self.ending.full.cancel();
                self.ending.shutdown.cancel();
                if let Some(before) = &self.before {
                    before.say(Word::End);
                }
                wait_for_connections(&self.connections, CONNECTIONS_END, &mut signals).await;
                if let Some(before) = &self.before {
                    let _ = timeout(CONNECTIONS_END, before.gone()).await;
                }
            }
            Models::Keep => {
                // Requests in flight end before the hub that serves them does.
                self.ending.full.cancel();
                self.ending.shutdown.cancel();
                let limit = self.lifecycle.config().drain_timeout;
                wait_for_connections(&self.connections, limit, &mut signals).await;
                self.lifecycle.hand_over();
                let _ = self.supervisor.await;
            }
        }
        self.accepting.abort();
        self.lifecycle.policies().stop_recording();
        // The supervisor has dropped its end of the channel: the last write is over before the removal.
        self.filing.ended().await;
        self.lifecycle.remember_ports(&ports_file(&self.log_path));
        self.lifecycle.remember_learned();
        if models == Models::Stop {
            self.earlier.end_all();
            RuntimeFile::remove(&self.log_path);
            Trail::remove(&self.config_path);
        }
        tracing::info!("the hub has stopped");
        ExitCode::SUCCESS
    }

    /// Lets another hub take this one's place.
    ///
    /// # Errors
    /// Why it cannot. Then this one serves on as if nothing had been.
    async fn make_room(&mut self) -> Result<(Raised, Option<Keeper>), String> {
        let service = self.service.as_ref();
        // The process that was started by the service manager stays.
        let (keeping, kept) = match self.recipe.foreground && service.is_none() {
            true => Channel::pair().map(|(own, other)| (Some(own), Some(other))),
            false => service
                .map(Service::file)
                .transpose()
                .map(|file| (None, file)),
        }
        .map_err(|error| error.to_string())?;
        let mut candidate = Candidate::start(&self.recipe, &self.log_path, service).await?;
        let taken = self.offer(&mut candidate, kept.as_ref()).await;
        let (address, log_path) = match taken {
            Ok(taken) => taken,
            Err(reason) => {
                candidate.dismiss().await;
                return Err(reason);
            }
        };
        self.ending.full.cancel();
        let mut raised = candidate.raised(log_path);
        if let Some(service) = self.service.take() {
            service.follow(raised.pid).await;
        }
        if let Some(before) = &self.before {
            before.say(Word::Moved { address });
        }
        if raised.log_path != self.log_path {
            RuntimeFile::remove(&self.log_path);
        }
        let keeper = keeping.zip(raised.child.take()).map(|(channel, child)| {
            Keeper::new(channel, self.recipe.clone(), child, self.tracker.clone())
        });
        Ok((raised, keeper))
    }

    /// Offers all to the other hub, and gives it away once it serves.
    async fn offer(
        &mut self,
        candidate: &mut Candidate,
        kept: Option<&OwnedFd>,
    ) -> Result<(SocketAddr, PathBuf), String> {
        let listeners = self.listeners.iter().map(AsFd::as_fd);
        let files = listeners.chain([self.lock.as_fd()]);
        let files: Vec<_> = files.chain(kept.map(AsFd::as_fd)).collect();
        candidate.ready(self.hello(), &files).await?;
        self.filing.pause().await;
        let Some((legacy, frozen)) = self.lifecycle.freeze().await else {
            return Err("the hub is shutting down".to_owned());
        };
        match candidate.take_over(legacy).await {
            Ok((address, log_path)) => {
                // Before anybody is refused for want of a supervisor.
                self.successor.set(address);
                frozen.give_away();
                Ok((address, log_path))
            }
            Err(reason) => {
                drop(frozen);
                self.filing.resume(&self.tracker);
                leave_trail(&self.config_path, &self.log_path);
                Err(reason)
            }
        }
    }

    fn hello(&self) -> Hello {
        let before = self.before.iter().filter(|before| !before.is_gone());
        let before = before.flat_map(|before| before.processes.iter().copied());
        let keeps = self.recipe.foreground.then(std::process::id);
        let proof = uuid::Uuid::new_v4().simple().to_string();
        Hello {
            proof: self.successor.prove_by(proof).to_owned(),
            host: self.host.clone(),
            port: self.port,
            listeners: self.listeners.len(),
            log_path: self.log_path.clone(),
            clock: self.lifecycle.clock(),
            found: self.filing.models(),
            ports: self.lifecycle.ports(),
            service: self.service_pid.or(keeps),
            processes: before.chain([std::process::id()]).collect(),
        }
    }

    /// Serves what has been begun to its end.
    async fn linger(self, raised: Raised, keeper: Option<Keeper>, signals: Signals) -> ExitCode {
        // None of the listeners is open here any more: what the other hub does not accept is refused.
        let _ = self.accepting.await;
        drop(self.listeners);
        drop(self.lock);
        drop(self.watch);
        self.lifecycle.policies().stop_recording();
        tracing::info!(pid = raised.pid, "another hub has taken over");
        let lingering = Lingering {
            lifecycle: self.lifecycle,
            connections: self.connections,
            shutdown: self.ending.shutdown,
            successor: self.successor,
            before: self.before,
            raised,
            keeper,
            signals,
        };
        lingering.run().await
    }
}

/// Waits until the last answer has been sent, at most `limit`; a signal ends the wait.
async fn wait_for_connections(connections: &TaskTracker, limit: Duration, signals: &mut Signals) {
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, connections.wait()) => ended.is_ok(),
        _ = signals.end() => false,
    };
    if !ended {
        tracing::warn!(
            open = connections.len(),
            "connections are still open; they are cut"
        );
    }
}

/// Drains and ends every model; a second signal skips the drain.
async fn stop_models(
    lifecycle: &Lifecycle,
    supervisor: tokio::task::JoinHandle<()>,
    signals: &mut Signals,
) {
    lifecycle.stop_all(false);
    let mut ended = supervisor;
    let mut still_waiting = tokio::time::interval(STILL_WAITING);
    still_waiting.tick().await;
    loop {
        tokio::select! {
            _ = &mut ended => return,
            name = signals.end() => {
                tracing::warn!("{name} again: requests in flight are cut");
                lifecycle.stop_all(true);
            }
            _ = still_waiting.tick() => {
                for model in lifecycle.status().models {
                    if model.metadata.pid.is_some() {
                        let active = model.metadata.active_requests;
                        tracing::info!(hub_model = %model.id, active, "still waiting for it to end");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_hub_still_holds_is_waited_for_and_what_another_holds_is_not_for_long() {
        let mut tries = 0;
        let taken = once_free(
            || {
                tries += 1;
                if tries < 3 { Err("held") } else { Ok(tries) }
            },
            |_| true,
        );
        assert_eq!(taken, Ok(3));
        assert_eq!(once_free(|| Err::<(), _>("held"), |_| true), Err("held"));
        let mut asked = 0;
        let refused = once_free(
            || {
                asked += 1;
                Err::<(), _>("broken")
            },
            |error| *error == "held",
        );
        assert_eq!((refused, asked), (Err("broken"), 1));
    }
}
