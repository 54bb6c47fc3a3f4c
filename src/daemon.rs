//! The composition root: builds the parts, wires them, owns the signals and the order of shutdown.
//!
//! `serve` and `demo` call [`run`]; `start` runs it in a process of its own. Nothing here decides
//! about models.

use std::fs::File;
use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ports::PortBook;
use crate::config::{self, Config};
use crate::control;
use crate::gateway::Gateway;
use crate::lifecycle::{Learned, Lifecycle, Models, Processes};
use crate::memory::ThisMachine;
use crate::runtime_file::{RuntimeFile, RuntimeModels, Trail, try_lock};
use crate::telemetry::Troubles;
use crate::worker::command;
use crate::worker::earlier::Earlier;
use crate::{files, server, telemetry};

mod listen;

/// How long open connections may take to end once every model has.
const CONNECTIONS_END: Duration = Duration::from_secs(3);
/// How often a long shutdown says what it waits for.
const STILL_WAITING: Duration = Duration::from_secs(5);
/// macOS' OPEN_MAX.
const MAX_DESCRIPTORS: u64 = 10_240;
/// How soon `hub_runtime.json` is written again when it could not be.
const WRITE_AGAIN: Duration = Duration::from_secs(2);
/// How long a hub waits for what a killed one still holds.
const KILLED_HUB: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(10);
const UNWRITTEN: &str = "`hub_runtime.json` cannot be written: a hub that is killed now would lose sight of its workers";
const OPEN_FOLDER: &str =
    "other users may write into the log folder, and so to what the hub reads there";
/// The hub forwards bytes: more threads than this only cost memory.
const MAX_THREADS: usize = 4;
/// For all but connections.
const OTHER_THREADS: usize = 2;

/// Runs the hub of that hub.yaml until a signal or `POST /hub/shutdown` ends it. In the
/// `foreground` its log goes to stderr too.
///
/// # Errors
/// When hub.yaml is not valid, a worker command is missing, a port is taken, another hub uses the
/// log folder, or a folder cannot be written; nothing has been started then.
pub fn run(config_path: &Path, foreground: bool) -> anyhow::Result<()> {
    let mut config = Config::load(config_path)?;
    command::check(&config.models)?;
    telemetry::create_log_folder(&config.log_path)?;
    let listeners = listen::on_all_addresses(&mut config)?;
    let _lock = lock(&config.log_path)?;
    let troubles = Troubles::default();
    if let Some(remedy) = telemetry::open_to_others(&config.log_path) {
        troubles.note(OPEN_FOLDER, Err(remedy));
    }
    let level = config.log_level.as_str();
    let _logging = telemetry::init(&config.log_path, level, foreground, troubles.clone())?;
    let found = earlier(&config)?;
    let ports = assign_ports(&config, found.models())?;
    raise_descriptor_limit();
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let connections = server::Threads::start(threads)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(OTHER_THREADS))
        .enable_all()
        .build()?;
    let spread = connections.spread();
    runtime.block_on(serve(config, ports, listeners, found, troubles, spread))
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
fn assign_ports(config: &Config, found: &RuntimeModels) -> anyhow::Result<PortBook> {
    let mut ports = PortBook::new(config.port, config.model_starting_port);
    ports.recall(&ports_file(&config.log_path));
    ports.restore(
        found
            .workers
            .iter()
            .map(|worker| (worker.model.clone(), worker.port)),
    );
    ports.assign(&config.models, &|name| {
        found.workers.iter().any(|worker| worker.model == name)
    })?;
    Ok(ports)
}

async fn serve(
    config: Config,
    ports: PortBook,
    listeners: Vec<StdListener>,
    earlier: Earlier,
    troubles: Troubles,
    spread: server::Spread,
) -> anyhow::Result<()> {
    let listeners = listeners.into_iter().map(TcpListener::from_std);
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>()?;
    let mut signals = Signals::new()?;
    let (config_path, log_path) = (config.path.clone(), config.log_path.clone());
    let found = earlier.models().clone();
    let drain_timeout = config.drain_timeout;
    let address = format!("{}:{}", config.host, config.port);
    let runtime_file = RuntimeFile {
        pid: std::process::id(),
        host: config.host.clone(),
        port: config.port,
        config_path: Some(config::canonical(&config_path).display().to_string()),
        // Six digits and an offset: what every parser of ISO 8601 reads.
        started_at: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00")
            .to_string(),
        models: found.clone(),
    };

    let tracker = TaskTracker::new();
    let learned = Learned::recall(&log_path);
    let (lifecycle, running) = Lifecycle::new(config, ports, learned, troubles.clone());
    let (models_up, models_changed) = watch::channel(found);
    runtime_file
        .write(&log_path)
        .map_err(|error| cannot_write(&RuntimeFile::path(&log_path), &error))?;
    // What it took over stands in its own file from now on.
    earlier.forget_others();
    leave_trail(&config_path, &log_path);
    let keeper = tracker.spawn(keep_runtime_file(
        runtime_file,
        log_path.clone(),
        models_changed,
        troubles.clone(),
    ));
    let supervisor = tracker.spawn(running.run(
        Processes::new(tracker.clone()),
        ThisMachine,
        models_up,
        tracker.clone(),
    ));
    // By the first healthy answer the default models are `starting`.
    lifecycle.start_defaults().await;
    let _watch = lifecycle.watch_policies();

    let connections = spread.connections().clone();
    let stop_serving = CancellationToken::new();
    let serving = tracker.spawn(server::serve(
        listeners,
        Gateway::new(lifecycle.clone(), lifecycle.policies().clone()),
        control::router(lifecycle.clone()),
        troubles,
        stop_serving.clone(),
        spread,
    ));
    tracing::info!(pid = std::process::id(), address, "the hub is up");

    let models = tokio::select! {
        models = lifecycle.shutdown_requested() => {
            tracing::info!("shutdown requested");
            models
        }
        name = signals.next() => {
            tracing::info!("{name}: shutting down");
            Models::Stop
        }
    };
    connections.close();
    match models {
        Models::Stop => {
            stop_models(&lifecycle, supervisor, &mut signals).await;
            stop_serving.cancel();
            wait_for_connections(&connections, CONNECTIONS_END, &mut signals).await;
        }
        Models::Keep => {
            // Requests in flight end before the hub that serves them does.
            stop_serving.cancel();
            wait_for_connections(&connections, drain_timeout, &mut signals).await;
            lifecycle.hand_over();
            let _ = supervisor.await;
        }
    }
    serving.abort();
    lifecycle.policies().stop_recording();
    // The supervisor has dropped its end of the channel: the last write is over before the removal.
    let _ = keeper.await;
    lifecycle.remember_ports(&ports_file(&log_path));
    lifecycle.remember_learned();
    if models == Models::Stop {
        earlier.end_all();
        RuntimeFile::remove(&log_path);
        Trail::remove(&config_path);
    }
    tracing::info!("the hub has stopped");
    Ok(())
}

/// Waits until the last answer has been sent, at most `limit`; a signal ends the wait.
async fn wait_for_connections(connections: &TaskTracker, limit: Duration, signals: &mut Signals) {
    let ended = tokio::select! {
        ended = tokio::time::timeout(limit, connections.wait()) => ended.is_ok(),
        _ = signals.next() => false,
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
            name = signals.next() => {
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

/// Writes `hub_runtime.json` whenever a worker comes or goes, and again while it cannot be written.
async fn keep_runtime_file(
    mut file: RuntimeFile,
    log_path: PathBuf,
    mut models: watch::Receiver<RuntimeModels>,
    troubles: Troubles,
) {
    let mut is_written = true;
    loop {
        tokio::select! {
            changed = models.changed() => if changed.is_err() {
                return;
            },
            () = tokio::time::sleep(WRITE_AGAIN), if !is_written => {}
        }
        file.models = models.borrow_and_update().clone();
        let (copy, folder) = (file.clone(), log_path.clone());
        let written = tokio::task::spawn_blocking(move || copy.write(&folder)).await;
        let written = written.unwrap_or_else(|panicked| Err(panicked.into()));
        is_written = written.is_ok();
        if troubles.note(UNWRITTEN, written.as_ref().copied()) {
            match written {
                Ok(()) => tracing::info!("hub_runtime.json is written again"),
                Err(error) => tracing::warn!(%error, "hub_runtime.json cannot be written"),
            }
        }
    }
}

/// The signals that end the hub.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hang_up.recv() => "SIGHUP",
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
