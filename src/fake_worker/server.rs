//! The simulated server process: boot, load, listen, serve, end, in the order of its dialect.

use std::future::Future;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::launch::LaunchOptions;
use super::model::{self, Model};
use super::options::{Dialect, Knobs};
use super::record::Record;
use super::signals::{Exit, Signals};
use super::{family, http};

/// Time for which the real server keeps an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The state that requests share.
pub(super) struct Worker {
    pub knobs: Knobs,
    pub launch: LaunchOptions,
    pub record: Arc<Record>,
    pub model: Model,
    /// Answers that continue after their client has gone.
    pub tasks: TaskTracker,
    /// Cancelled by the first signal.
    pub stopping: CancellationToken,
    ready: AtomicBool,
    posts: AtomicUsize,
    in_flight: watch::Sender<usize>,
    crash: Notify,
}

/// A request in flight, until it is dropped.
pub(super) struct Busy(Arc<Worker>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|count| *count -= 1);
    }
}

impl Worker {
    fn new(knobs: Knobs, launch: LaunchOptions) -> std::io::Result<Self> {
        let record = Arc::new(Record::open(knobs.record.as_deref(), launch.name())?);
        Ok(Self {
            model: Model::new(knobs.clone(), Arc::clone(&record)),
            knobs,
            launch,
            record,
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            ready: AtomicBool::new(false),
            posts: AtomicUsize::new(0),
            in_flight: watch::Sender::new(0),
            crash: Notify::new(),
        })
    }

    /// True if the port is open.
    pub(super) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Counts a request until the returned value is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.in_flight.send_modify(|count| *count += 1);
        Busy(Arc::clone(self))
    }

    /// Requests in flight.
    pub(super) fn active(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// Counts a `POST`, and never returns from the one that the worker is to die of.
    pub(super) async fn count_post(&self) {
        let count = self.posts.fetch_add(1, Ordering::Relaxed) + 1;
        if self.knobs.crash_on_request == Some(count) {
            self.crash().await;
        }
    }

    /// Ends the process; never returns.
    pub(super) async fn crash(&self) {
        self.crash.notify_one();
        std::future::pending().await
    }

    /// Completes when the worker has been told to stop and its last request is over.
    pub(super) async fn drained(&self) {
        self.stopping.cancelled().await;
        let _ = self
            .in_flight
            .subscribe()
            .wait_for(|count| *count == 0)
            .await;
        tokio::time::sleep(self.knobs.exit_seconds).await;
    }
}

/// Runs a worker to its end.
pub(super) fn main(knobs: Knobs, launch: LaunchOptions) -> ExitCode {
    match block_on(live(knobs, launch)) {
        Ok(exit) => exit.into_code(),
        Err(error) => {
            log("ERROR", "app.main", &error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// One thread, like the real server's event loop: what blocks it blocks everything.
pub(super) fn block_on<T>(future: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

async fn live(knobs: Knobs, launch: LaunchOptions) -> std::io::Result<Exit> {
    let mut signals = Signals::listen()?;
    let worker = Arc::new(Worker::new(knobs, launch)?);
    let folder = std::env::current_dir()?;
    worker.record.event(
        "start",
        &json!({
            "args": std::env::args().collect::<Vec<_>>(),
            "folder": folder,
            "tmpdir": std::env::temp_dir(),
            "port": worker.launch.port,
        }),
    );
    let mut children = family::start(&worker.knobs)?;
    let exit = tokio::select! {
        exit = serve(&worker) => exit?,
        exit = signals.until_the_end(&worker) => exit,
        () = worker.crash.notified() => {
            log("CRITICAL", "app.main", "Simulated crash");
            worker.record.event("exit", &json!({"how": "crash"}));
            return Ok(Exit::Code(worker.knobs.exit_code));
        }
    };
    worker
        .record
        .event("exit", &json!({"how": format!("{exit:?}")}));
    if exit.is_orderly() {
        worker.model.end().await;
        if let Some(tracker) = children.first_mut()
            && worker.knobs.dialect == Dialect::V181
        {
            model::end(tracker);
        }
        log("INFO", "app.server", "Application shutdown complete.");
    }
    Ok(exit)
}

/// Comes up and serves; returns only when it cannot come up.
async fn serve(worker: &Arc<Worker>) -> std::io::Result<Exit> {
    let Worker { knobs, launch, .. } = &**worker;
    let cache = std::env::temp_dir().join(format!(
        "mlx-openai-prompt-cache-{}",
        uuid::Uuid::new_v4().simple()
    ));
    // Left behind at the end, as the real one leaves it.
    std::fs::create_dir_all(cache)?;
    log("INFO", "app.main", "MLX Server Starting (simulated)");
    log("INFO", "app.main", &format!("Model: {}", launch.model_path));
    knobs.pass(knobs.boot_seconds).await;
    if knobs.crash_on_start {
        log("CRITICAL", "app.main", "Simulated crash");
        return Ok(Exit::Code(knobs.exit_code));
    }

    // JIT takes its port first; 1.8.1 finds out that it is taken when all is loaded.
    let early = match knobs.dialect {
        Dialect::Jit => Some(bind(launch).await),
        Dialect::V181 => None,
    };
    if matches!(early, Some(Err(_))) {
        return Ok(port_taken(launch));
    }
    if !launch.jit && worker.model.ensure_loaded().await.is_err() {
        return Ok(Exit::Code(0));
    }
    let socket = match early {
        Some(socket) => socket,
        None => bind(launch).await,
    };
    let Ok(listener) = socket.and_then(|socket| socket.listen(1024)) else {
        return Ok(port_taken(launch));
    };
    worker.ready.store(true, Ordering::Relaxed);
    worker.record.event("ready", &json!({}));
    let address = listener.local_addr()?;
    log(
        "INFO",
        "uvicorn",
        &format!("Uvicorn running on http://{address}"),
    );
    accept(worker, listener).await;
    // The signals decide when this is over.
    std::future::pending().await
}

async fn bind(launch: &LaunchOptions) -> std::io::Result<TcpSocket> {
    let mut addresses = tokio::net::lookup_host((launch.host.as_str(), launch.port)).await?;
    let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn port_taken(launch: &LaunchOptions) -> Exit {
    let LaunchOptions { host, port, .. } = launch;
    let text = format!(
        "[Errno 98] error while attempting to bind on address ('{host}', {port}): address already in use"
    );
    log("ERROR", "uvicorn", &text);
    Exit::Code(1)
}

/// Takes connections until the worker is told to stop.
async fn accept(worker: &Arc<Worker>, listener: TcpListener) {
    loop {
        tokio::select! {
            () = worker.stopping.cancelled() => return,
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                worker.tasks.spawn(converse(Arc::clone(worker), stream));
            }
        }
    }
}

async fn converse(worker: Arc<Worker>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| http::answer(Arc::clone(&worker), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        _ = &mut connection => {}
        () = worker.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// One line of log, coloured whatever stdout is.
pub(super) fn log(level: &str, module: &str, message: &str) {
    let time = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    let line = format!(
        "\x1b[32m{time}\x1b[0m | \x1b[1m{level:<8}\x1b[0m | \x1b[36m{module}\x1b[0m | ✦ \x1b[1m{message}\x1b[0m\n"
    );
    let _ = std::io::stdout().write_all(line.as_bytes());
}
