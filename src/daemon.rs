//! The composition root: builds the parts, wires them, owns the signals and the order of shutdown.
//!
//! `serve` and `demo` call [`run`]; `start` runs it in a process of its own. Nothing here decides
//! about models.

use std::net::TcpListener as StdListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::config::ports::PortBook;
use crate::control;
use crate::gateway::Gateway;
use crate::lifecycle::{Lifecycle, Processes};
use crate::runtime_file::{RuntimeFile, RuntimeWorker};
use crate::worker::command;
use crate::{server, telemetry};

/// How long open connections may take to end once every model has.
const CONNECTIONS_END: Duration = Duration::from_secs(3);
/// How often a long shutdown says what it waits for.
const STILL_WAITING: Duration = Duration::from_secs(5);
/// The hub forwards bytes: more threads than this only cost memory.
const MAX_THREADS: usize = 4;

/// Runs the hub of that hub.yaml until a signal or `POST /hub/shutdown` ends it. In the
/// `foreground` its log goes to stderr too.
///
/// # Errors
/// When hub.yaml is not valid, a worker command is missing, a port is taken or a folder cannot be
/// written; nothing has been started then.
pub fn run(config_path: &Path, foreground: bool) -> anyhow::Result<()> {
    let mut config = Config::load(config_path)?;
    for model in &config.models {
        command::find(&model.worker_command, &model.env)
            .with_context(|| format!("model `{}` cannot be started", model.name))?;
    }
    telemetry::create_log_folder(&config.log_path).with_context(|| {
        format!(
            "the log folder `{}` cannot be made",
            config.log_path.display()
        )
    })?;
    let listener = bind(&mut config)?;
    let mut ports = PortBook::new(config.port, config.model_starting_port);
    ports.assign(&config.models, &|_| false)?;
    let _logging = telemetry::init(&config.log_path, config.log_level.as_str(), foreground)?;
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MAX_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(serve(config, ports, listener))
}

/// Takes the hub's port. Port 0 becomes the one the system chose.
fn bind(config: &mut Config) -> anyhow::Result<StdListener> {
    let (host, port) = (config.host.as_str(), config.port);
    let listener = StdListener::bind((host, port)).with_context(|| {
        format!("the hub cannot listen on {host} port {port}\nhint: another program may hold it; set `port` in hub.yaml")
    })?;
    listener.set_nonblocking(true)?;
    config.port = listener.local_addr()?.port();
    Ok(listener)
}

async fn serve(config: Config, ports: PortBook, listener: StdListener) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut signals = Signals::new()?;
    let log_path = config.log_path.clone();
    let address = format!("{}:{}", config.host, config.port);
    let runtime_file = RuntimeFile {
        pid: std::process::id(),
        host: config.host.clone(),
        port: config.port,
        // Six digits and an offset: what every parser of ISO 8601 reads.
        started_at: jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00")
            .to_string(),
        workers: Vec::new(),
    };

    let tracker = TaskTracker::new();
    let (lifecycle, running) = Lifecycle::new(config, ports);
    let (workers, workers_changed) = watch::channel(Vec::new());
    runtime_file
        .write(&log_path)
        .context("hub_runtime.json cannot be written")?;
    let keeper = tracker.spawn(keep_runtime_file(
        runtime_file,
        log_path.clone(),
        workers_changed,
    ));
    let supervisor =
        tracker.spawn(running.run(Processes::new(tracker.clone()), workers, tracker.clone()));
    // By the first healthy answer the default models are `starting`.
    lifecycle.start_defaults().await;

    let connections = TaskTracker::new();
    let stop_serving = CancellationToken::new();
    let serving = tracker.spawn(server::serve(
        listener,
        Gateway::new(lifecycle.clone(), lifecycle.policies().clone()),
        control::router(lifecycle.clone()),
        Arc::new(control::Guard::new(lifecycle.clone())),
        stop_serving.clone(),
        connections.clone(),
    ));
    tracing::info!(pid = std::process::id(), address, "the hub is up");

    tokio::select! {
        () = lifecycle.shutdown_requested() => tracing::info!("shutdown requested"),
        name = signals.next() => tracing::info!("{name}: shutting down"),
    }
    stop_models(&lifecycle, supervisor, &mut signals).await;
    stop_serving.cancel();
    connections.close();
    if tokio::time::timeout(CONNECTIONS_END, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            open = connections.len(),
            "connections are still open; they are cut"
        );
    }
    serving.abort();
    // The supervisor has dropped its end of the channel: the last write is over before the removal.
    let _ = keeper.await;
    RuntimeFile::remove(&log_path);
    tracing::info!("the hub has stopped");
    Ok(())
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

/// Writes `hub_runtime.json` whenever a worker comes or goes.
async fn keep_runtime_file(
    mut file: RuntimeFile,
    log_path: PathBuf,
    mut workers: watch::Receiver<Vec<RuntimeWorker>>,
) {
    while workers.changed().await.is_ok() {
        file.workers = workers.borrow_and_update().clone();
        let (copy, folder) = (file.clone(), log_path.clone());
        let written = tokio::task::spawn_blocking(move || copy.write(&folder)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "hub_runtime.json cannot be written");
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
