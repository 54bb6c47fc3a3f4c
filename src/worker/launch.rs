//! The life of one worker process, from the command line to the empty process group.
//!
//! One task per launch. It reports each step and takes two orders: load, and end. Whatever happens,
//! the last thing it reports is [`Report::Gone`] (or a standby without a process), and nothing of its
//! process group is left then.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::command;
use super::dialect::{Dialect, Dialects};
use super::group::{self, Group};
use super::life;
use super::output::Log;
use super::upstream::Upstream;
use crate::config::ModelConfig;
use crate::telemetry;

/// How often a starting worker is asked: the delay with which readiness is noticed.
const POLL: Duration = Duration::from_millis(10);
/// A worker whose event loop is blocked answers late; a refused connection answers at once.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a launch moves on to the next port when its own turns out to be taken.
const PORT_TRIES: usize = 5;

/// What to start.
pub struct Order {
    /// The model.
    pub model: ModelConfig,
    /// Whether to load it; otherwise to leave it on standby.
    pub load: bool,
    /// Its port.
    pub port: u16,
    /// The next port to try; `None` when hub.yaml sets the port.
    pub next_port: Box<dyn Fn() -> Option<u16> + Send + Sync>,
    /// The worker's log file.
    pub log_file: PathBuf,
    /// The worker's own folder: working directory and `TMPDIR`. Removed when it has ended.
    pub work_folder: PathBuf,
    /// See hub.yaml's `load_timeout`.
    pub load_timeout: Duration,
    /// See hub.yaml's `stop_timeout`.
    pub stop_timeout: Duration,
    /// The dialects known so far.
    pub dialects: Arc<Dialects>,
}

/// What the lifecycle tells a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// Load the resident worker.
    Load,
    /// End the process group.
    End,
}

/// What a launch tells the lifecycle.
#[derive(Debug, Clone)]
pub enum Report {
    /// Options of the entry that the worker lacks.
    Warnings(Vec<String>),
    /// There is a process.
    Spawned(Spawned),
    /// Up without the weights: with a process, or (where the worker cannot) without.
    Standby {
        /// Whether there is a process.
        process: bool,
    },
    /// In memory and serving.
    Loaded,
    /// Could not load; the process stays up.
    LoadRefused(String),
    /// The process and its group are gone.
    Gone {
        /// Exit code of a process that ended unasked; −N for signal N.
        exit_code: Option<i32>,
        /// What happened, with the last lines of the log.
        reason: String,
    },
}

/// A process that has been started.
#[derive(Debug, Clone)]
pub struct Spawned {
    /// Its process id; it leads its process group.
    pub pid: u32,
    /// Where it will serve.
    pub upstream: Arc<Upstream>,
    /// When it began, Unix seconds: with the pid it names the process for good.
    pub start_time: u64,
    /// Its port.
    pub port: u16,
    /// The whole command line.
    pub command: Vec<String>,
}

/// Runs one launch to its end.
pub async fn run(
    order: Order,
    mut orders: UnboundedReceiver<Instruction>,
    report: impl Fn(Report) + Send + Sync,
) {
    let dialect = tokio::select! {
        dialect = order.dialects.of_model(&order.model) => dialect,
        () = asked_to_end(&mut orders) => return report(gone("ended before it began")),
    };
    let dialect = match dialect {
        Ok(dialect) => dialect,
        Err(reason) => return report(gone(reason)),
    };
    if !order.load && !dialect.is_resident(&order.model) {
        return report(Report::Standby { process: false });
    }
    let (exit_code, reason) = attempts(&order, &dialect, &mut orders, &report).await;
    // What the worker left in its folder is of no use to anybody.
    let _ = std::fs::remove_dir_all(&order.work_folder);
    report(Report::Gone { exit_code, reason });
}

fn gone(reason: impl Into<String>) -> Report {
    Report::Gone {
        exit_code: None,
        reason: reason.into(),
    }
}

/// Completes when the launch is to end; an order to load that comes first is moot.
async fn asked_to_end(orders: &mut UnboundedReceiver<Instruction>) {
    while let Some(Instruction::Load) = orders.recv().await {}
}

/// Tries port after port until a process has lived; says how the last one ended.
async fn attempts(
    order: &Order,
    dialect: &Dialect,
    orders: &mut UnboundedReceiver<Instruction>,
    report: &(impl Fn(Report) + Send + Sync),
) -> (Option<i32>, String) {
    let mut port = order.port;
    for attempt in 1.. {
        let is_free = crate::config::ports::is_free(&order.model.host, port);
        let ended = if is_free {
            match Process::spawn(order, dialect, port, report) {
                Ok(mut process) => process.live(order, dialect, orders, report).await,
                Err(reason) => return (None, reason),
            }
        } else {
            Ended {
                exit_code: None,
                reason: format!("port {port} is in use by another program"),
                early: true,
            }
        };
        // A worker may find out late, even after its whole load, that its port is taken.
        let port_taken = ended.early && !crate::config::ports::is_free(&order.model.host, port);
        let next = if port_taken && attempt < PORT_TRIES {
            (order.next_port)()
        } else {
            None
        };
        let Some(next) = next else {
            return (ended.exit_code, ended.reason);
        };
        tracing::info!(hub_model = %order.model.name, port, next, "the port is taken; trying the next one");
        port = next;
    }
    unreachable!("the loop above returns")
}

/// How a process ended.
struct Ended {
    exit_code: Option<i32>,
    reason: String,
    /// Whether it ended by itself before it was ready.
    early: bool,
}

/// What came first while something was awaited.
enum Step<T> {
    Done(T),
    Exited(std::io::Result<ExitStatus>),
    End,
    Silent,
}

struct Process {
    child: Child,
    group: Group,
    upstream: Arc<Upstream>,
    log: Log,
}

impl Process {
    fn spawn(
        order: &Order,
        dialect: &Dialect,
        port: u16,
        report: &impl Fn(Report),
    ) -> Result<Self, String> {
        let model = &order.model;
        let line = dialect.command_line(model, port);
        report(Report::Warnings(line.warnings));
        let file_error = |path: &std::path::Path, error| {
            format!("`{}` cannot be written: {error}", path.display())
        };
        let (log, output) =
            Log::open(&order.log_file).map_err(|error| file_error(&order.log_file, error))?;
        telemetry::create_log_folder(&order.work_folder)
            .map_err(|error| file_error(&order.work_folder, error))?;
        let errors = output
            .try_clone()
            .map_err(|error| file_error(&order.log_file, error))?;
        let program =
            command::find(&model.worker_command, &model.env).map_err(|error| error.to_string())?;
        let child = Command::new(&program)
            .args(&line.argv[1..])
            .envs(environment(order))
            .current_dir(&order.work_folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("`{}` could not be started: {error}", program.display()))?;
        let pid = child.id().ok_or("the process ended at once")?;
        let group = Group::led_by(pid).ok_or("the process has no id")?;
        let upstream = Arc::new(Upstream::new(&model.host, port, dialect.accepts(model)));
        tracing::debug!(hub_model = %model.name, pid, port, command = ?line.argv, "worker spawned");
        let start_time = group::start_time(pid).unwrap_or_default();
        report(Report::Spawned(Spawned {
            pid,
            start_time,
            upstream: Arc::clone(&upstream),
            port,
            command: line.argv,
        }));
        Ok(Self {
            child,
            group,
            upstream,
            log,
        })
    }

    /// From spawned to gone.
    async fn live(
        &mut self,
        order: &Order,
        dialect: &Dialect,
        orders: &mut UnboundedReceiver<Instruction>,
        report: &(impl Fn(Report) + Send + Sync),
    ) -> Ended {
        let resident = dialect.is_resident(&order.model);
        let upstream = Arc::clone(&self.upstream);
        match self
            .step(ready(&upstream, !resident), order.load_timeout, orders)
            .await
        {
            Step::Done(()) if !resident => report(Report::Loaded),
            Step::Done(()) if !order.load => report(Report::Standby { process: true }),
            Step::Done(()) => {
                if let Some(ended) = self.load(order, orders, report).await {
                    return ended;
                }
            }
            other => return self.ended_early(other, order).await,
        }
        self.serve(order, orders, report).await
    }

    /// Up: waits for orders, or for the end.
    async fn serve(
        &mut self,
        order: &Order,
        orders: &mut UnboundedReceiver<Instruction>,
        report: &(impl Fn(Report) + Send + Sync),
    ) -> Ended {
        loop {
            let instruction = tokio::select! {
                status = self.child.wait() => return self.died(status, "").await,
                instruction = orders.recv() => instruction,
            };
            let Some(Instruction::Load) = instruction else {
                return self.end(order).await;
            };
            if let Some(ended) = self.load(order, orders, report).await {
                return ended;
            }
        }
    }

    /// Loads a resident worker; says how it ended if it did.
    async fn load(
        &mut self,
        order: &Order,
        orders: &mut UnboundedReceiver<Instruction>,
        report: &(impl Fn(Report) + Send + Sync),
    ) -> Option<Ended> {
        let upstream = Arc::clone(&self.upstream);
        // The one route that loads a worker of the JIT dialect without a chat.
        match self
            .step(upstream.get("/v1/queue/stats"), order.load_timeout, orders)
            .await
        {
            Step::Done(Ok((StatusCode::OK, _))) => report(Report::Loaded),
            Step::Done(Ok((status, body))) => {
                let answer = String::from_utf8_lossy(&body).trim().to_owned();
                report(Report::LoadRefused(
                    self.with_log(format!("the worker answered {status}: {answer}")),
                ));
            }
            Step::Done(Err(error)) => {
                // The connection broke: most likely the process is about to be gone.
                match timeout(Duration::from_secs(1), self.child.wait()).await {
                    Ok(status) => return Some(self.died(status, " while it loaded").await),
                    Err(_) => report(Report::LoadRefused(
                        self.with_log(format!("the worker gave no answer: {error}")),
                    )),
                }
            }
            other => return Some(self.ended_early(other, order).await),
        }
        None
    }

    /// Awaits `work` while watching the process, the orders and the signs of life.
    async fn step<T>(
        &mut self,
        work: impl Future<Output = T>,
        limit: Duration,
        orders: &mut UnboundedReceiver<Instruction>,
    ) -> Step<T> {
        tokio::select! {
            done = work => Step::Done(done),
            status = self.child.wait() => Step::Exited(status),
            () = asked_to_end(orders) => Step::End,
            () = life::silent_for(limit, &self.log, self.group) => Step::Silent,
        }
    }

    async fn ended_early<T>(&mut self, step: Step<T>, order: &Order) -> Ended {
        match step {
            Step::Exited(status) => Ended {
                early: true,
                ..self.died(status, " before it was ready").await
            },
            Step::Silent => {
                let limit = order.load_timeout.as_secs();
                let reason =
                    self.with_log(format!("no sign of life for {limit} s (`load_timeout`)"));
                group::end(&mut self.child, self.group, order.stop_timeout).await;
                Ended {
                    exit_code: None,
                    reason,
                    early: false,
                }
            }
            Step::End | Step::Done(_) => self.end(order).await,
        }
    }

    async fn end(&mut self, order: &Order) -> Ended {
        group::end(&mut self.child, self.group, order.stop_timeout).await;
        Ended {
            exit_code: None,
            reason: "it was stopped".into(),
            early: false,
        }
    }

    /// The leader has ended unasked: what is left of its group goes with it.
    async fn died(&mut self, status: std::io::Result<ExitStatus>, when: &str) -> Ended {
        group::kill(&mut self.child, self.group).await;
        let exit_code = status
            .ok()
            .and_then(|status| status.code().or(status.signal().map(|signal| -signal)));
        let how = match exit_code {
            Some(code) if code < 0 => format!("the worker was ended by signal {}{when}", -code),
            Some(code) => format!("the worker exited with code {code}{when}"),
            None => format!("the worker ended{when}"),
        };
        Ended {
            exit_code,
            reason: self.with_log(how),
            early: false,
        }
    }

    fn with_log(&self, reason: String) -> String {
        let lines = self.log.last_lines();
        if lines.is_empty() {
            reason
        } else {
            format!("{reason}; its log ends:\n{}", lines.join("\n"))
        }
    }
}

/// Completes when the worker answers `/health`, and with `loaded` says that its model is in memory.
async fn ready(upstream: &Upstream, loaded: bool) {
    loop {
        if let Ok(Ok((StatusCode::OK, body))) =
            timeout(HEALTH_TIMEOUT, upstream.get("/health")).await
        {
            let health: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            if !loaded || health["model_status"] != "unloaded" {
                return;
            }
        }
        sleep(POLL).await;
    }
}

/// What the worker finds in its environment besides the hub's own.
fn environment(order: &Order) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        // Without it the last lines of a dying worker's log are lost.
        ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
        ("TMPDIR".to_owned(), order.work_folder.display().to_string()),
    ]);
    env.extend(order.model.env.clone());
    env
}
