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
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config;
use crate::hub::fleet;
use crate::hub::gateway;
use crate::hub::gateway::{Gateway, RememberedResponses};
use crate::hub::lifecycle::{Held, Learned, Legacy, Lifecycle, Models, Processes};
use crate::hub::{control, server};
use crate::memory::ThisMachine;
use crate::policy;
use crate::runtime_file::{RuntimeFile, RuntimeModels};
use crate::worker::earlier::Earlier;

mod activation;
mod channel;
mod linger;
mod listen;
mod predecessor;
mod records;
mod service;
mod shutdown;
mod signals;
mod startup;
mod successor;

use channel::{Channel, Everything, Hello, Signalled, Word};
use linger::Lingering;
use predecessor::{Following, Predecessor};
use records::{Filing, Records};
use service::{Keeper, Service};
use signals::Signals;
pub(crate) use startup::descriptor_limit;
use startup::{Prepared, cannot_write, leave_trail, prepare, prepare_beside};
pub(crate) use successor::program_file;
use successor::{Candidate, Raised, Recipe};

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

/// Start of another hub in the place of this one.
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
    /// Folder of its records.
    filing: Filing,
    /// The listeners again, for another hub.
    listeners: Vec<StdListener>,
    /// True if a service manager holds them too.
    activated: bool,
    lock: File,
    ending: server::Ending,
    accepting: JoinHandle<()>,
    connections: TaskTracker,
    /// The hub that takes its place.
    successor: gateway::Successor,
    /// The logins of the status page.
    sessions: Arc<server::Sessions>,
    remembered: RememberedResponses,
    /// The hub whose place it took, and the service's process.
    before: Option<Following>,
    service: Option<Service>,
    service_pid: Option<u32>,
    watch: policy::Watch,
    /// Dropped, the gateway of the fleet is told nothing more.
    fleet: DropGuard,
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
        activated,
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
    let mut signals = Signals::new(of_service)?;
    let spread = threads.spread();
    let (config_path, log_path) = (config.path.clone(), config.log_path.clone());
    let (host, port) = (config.host.clone(), config.port);
    let address = format!("{host}:{port}");
    let learned = Learned::recall(&log_path);
    let (lifecycle, running) = Lifecycle::new(config, ports, learned, troubles.clone(), begun);
    let gateway = Gateway::new(lifecycle.clone(), lifecycle.policies().clone());
    let successor = gateway.successor().clone();
    let remembered = gateway.remembered().clone();

    let sessions = Arc::<server::Sessions>::default();
    let taken = take(predecessor, found, &lifecycle, &gateway, &sessions).await;
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
        activated,
        foreground: recipe.foreground,
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
    let live = control::Live::new(tracker.clone(), ending.full.clone());
    let accepting = tracker.spawn(server::serve(
        listeners,
        gateway,
        control::router(lifecycle.clone(), live),
        Arc::clone(&sessions),
        troubles.clone(),
        ending.clone(),
        spread,
    ));
    let before = match (predecessor, held) {
        (Some(predecessor), Some(held)) => {
            predecessor
                .serving(listen::reached_at(&again)?, &log_path)
                .await;
            Some(predecessor.follow(held, lifecycle.clone(), &tracker))
        }
        _ => None,
    };
    let gone = before.as_ref().map(Following::goes);
    let fleet = CancellationToken::new();
    tracker.spawn(fleet::stay(
        lifecycle.clone(),
        troubles.clone(),
        fleet.clone(),
    ));
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
        activated,
        lock,
        ending,
        accepting,
        connections,
        successor,
        sessions,
        remembered,
        before,
        service,
        service_pid,
        watch,
        fleet: fleet.drop_guard(),
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
    gateway: &Gateway,
    sessions: &server::Sessions,
) -> anyhow::Result<(Legacy, Option<Predecessor>, Option<Held>)> {
    let Some(mut predecessor) = predecessor else {
        return Ok((Legacy::of_killed(found), None, None));
    };
    let proof = predecessor.hello.proof.clone();
    gateway.successor().prove_by(proof);
    let known = predecessor.legacy().await?;
    sessions.inherit(known.sessions);
    gateway.remembered().inherit(known.responses);
    let legacy = known.legacy;
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

    /// Lets another hub take this one's place.
    ///
    /// # Errors
    /// The reason why it cannot. Then this one serves on as if nothing had been.
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
        let everything = Everything {
            legacy,
            sessions: self.sessions.handed_on(),
            responses: self.remembered.handed_on(),
        };
        match candidate.take_over(everything).await {
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
            activated: self.activated,
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
        drop(self.fleet);
        self.lifecycle.policies().stop_recording();
        tracing::info!(pid = raised.pid, "another hub has taken over");
        // Commands that asked for a restart meanwhile are sent on to the other hub.
        self.lifecycle.close_restarts().await;
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
