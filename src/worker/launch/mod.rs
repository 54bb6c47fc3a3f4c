//! The life of one worker process, from the command line to the empty process group.
//!
//! One task per launch. It reports each step and takes four instructions: load, end, recycle, and leave.
//! Unless it is told to leave, the last thing it reports is [`Report::Gone`] (or a standby without a
//! process), and nothing of its process group is left then.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::dialect::{Dialect, Dialects};
use super::group::{self, Group};
use super::identity::Identity;
use super::leader::Leader;
use super::mark::Owner;
use crate::config::ModelConfig;
use crate::config::ports::is_free;
use crate::upstream::{Accepts, Upstream};

mod process;
mod starts;

use process::Process;
pub use starts::Starts;

/// How often a launch moves on to the next port when its own turns out to be taken.
const PORT_TRIES: usize = 5;

/// How often to look whether the requests of an earlier hub are over.
const LOOK: Duration = Duration::from_millis(50);

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
    /// The hub: a worker carries its mark in its environment, so that a later hub knows it.
    pub owner: Owner,
    /// The worker's log file.
    pub log_file: PathBuf,
    /// The worker's own folder: working directory and `TMPDIR`. Removed when it has ended.
    pub work_folder: PathBuf,
    /// See hub.yaml's `load_timeout`.
    pub load_timeout: Duration,
    /// Whether requests of the model are in flight, those of an earlier hub among them.
    pub is_used: Box<dyn Fn() -> bool + Send + Sync>,
    /// See hub.yaml's `drain_timeout`.
    pub drain_timeout: Duration,
    /// See hub.yaml's `stop_timeout`.
    pub stop_timeout: Duration,
    /// The dialects known so far.
    pub dialects: Arc<Dialects>,
    /// Whether a process may be started now.
    pub starts: Starts,
    /// The worker that an earlier hub left for this model.
    pub found: Option<Found>,
}

/// A worker that an earlier hub left.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its process.
    pub spawned: Spawned,
    /// Whether hub.yaml would still start it so; otherwise it is ended before a new one is started.
    pub keep: bool,
}

/// What the lifecycle tells a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Load the resident worker.
    Load,
    /// End the process group.
    End,
    /// End the process group of a worker that hangs, for that reason.
    Recycle(String),
    /// Leave the process to the next hub.
    Leave,
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
        /// Exit code of a process that ended unasked; −N for signal N; none when it is not known.
        exit_code: Option<i32>,
        /// What happened, with the last lines of the log.
        reason: String,
    },
}

/// A worker process.
#[derive(Debug, Clone)]
pub struct Spawned {
    /// The process, which leads its process group.
    pub identity: Identity,
    /// Its port.
    pub port: u16,
    /// Whether it can stay up without the weights.
    pub resident: bool,
    /// Where it serves.
    pub upstream: Arc<Upstream>,
    /// Its log file; none for that of an older hub, which is where it would be now.
    pub log_file: Option<PathBuf>,
    /// Where its output begins in its log file, bytes.
    pub log_begin: u64,
}

impl Spawned {
    /// A process that serves on `host` and `port`.
    pub fn new(
        identity: Identity,
        host: &str,
        port: u16,
        resident: bool,
        accepts: Accepts,
        log_begin: u64,
    ) -> Self {
        let upstream = Arc::new(Upstream::new(host, port, accepts));
        Self {
            identity,
            port,
            resident,
            upstream,
            log_file: None,
            log_begin,
        }
    }
}

/// Runs one launch to its end.
pub async fn run(
    order: Order,
    instructions: UnboundedReceiver<Instruction>,
    report: impl Fn(Report) + Send + Sync,
) {
    let mut launch = Launch {
        order,
        instructions,
        report: &report,
    };
    if let Some(found) = launch.order.found.take()
        && let Some(mut process) = Process::adopt(found.spawned, &launch.order)
    {
        if found.keep {
            report(Report::Spawned(process.spawned().clone()));
            let end = process.live(&mut launch).await;
            return launch.finish(end);
        }
        tracing::info!(hub_model = %launch.order.model.name, "the worker of an earlier hub no longer fits hub.yaml");
        let told = launch.until_unused(None).await;
        if told == Some(Instruction::Leave) {
            return;
        }
        process.end(&launch.order).await;
        if let Some(told) = told {
            return launch.finish(End::before_start(&told));
        }
    }
    let end = launch.start().await;
    launch.finish(end);
}

/// How a launch came to its end.
enum End {
    /// On standby, without a process.
    Standby,
    /// The process is left running.
    Left,
    /// The process is gone, or there never was one.
    Gone {
        exit_code: Option<i32>,
        reason: String,
        /// Whether it ended by itself before it was ready.
        early: bool,
    },
}

impl End {
    /// Of a launch that was told so before there was a process.
    fn before_start(instruction: &Instruction) -> Self {
        match instruction {
            Instruction::Leave => Self::Left,
            _ => Self::without_process("it was stopped"),
        }
    }

    fn without_process(reason: impl Into<String>) -> Self {
        Self::Gone {
            exit_code: None,
            reason: reason.into(),
            early: false,
        }
    }
}

/// One launch: what it is for, and both directions of talking about it.
struct Launch<'a, R> {
    order: Order,
    instructions: UnboundedReceiver<Instruction>,
    report: &'a R,
}

impl<R: Fn(Report) + Send + Sync> Launch<'_, R> {
    fn report(&self, report: Report) {
        (self.report)(report);
    }

    fn finish(&mut self, end: End) {
        match end {
            // A worker of the next hub may have the folder by now.
            _ if self.is_to_leave() => {}
            End::Standby => self.report(Report::Standby { process: false }),
            End::Left => {}
            End::Gone {
                exit_code, reason, ..
            } => {
                // What the worker left in its folder is of no use to anybody.
                let _ = std::fs::remove_dir_all(&self.order.work_folder);
                self.report(Report::Gone { exit_code, reason });
            }
        }
    }

    /// Completes when the launch is to end or to leave; an instruction to load that comes first is
    /// moot.
    async fn asked_away(&mut self) -> Instruction {
        loop {
            match self.instructions.recv().await {
                Some(Instruction::Load) => {}
                Some(other) => return other,
                None => return Instruction::End,
            }
        }
    }

    fn is_to_leave(&mut self) -> bool {
        std::iter::from_fn(|| self.instructions.try_recv().ok())
            .any(|instruction| instruction == Instruction::Leave)
    }

    /// Waits until no request of an earlier hub is in flight any more; once the launch has been `told` to end,
    /// no longer than `drain_timeout`. Returns what it was told by then, at once when that is to leave.
    async fn until_unused(&mut self, mut told: Option<Instruction>) -> Option<Instruction> {
        let mut limit = pin!(sleep(self.order.drain_timeout));
        while (self.order.is_used)() {
            let is_told = told.is_some();
            tokio::select! {
                () = sleep(LOOK) => {}
                () = &mut limit, if is_told => break,
                instruction = self.asked_away() => match instruction {
                    Instruction::Leave => return Some(instruction),
                    other if !is_told => {
                        limit.as_mut().reset(Instant::now() + self.order.drain_timeout);
                        told = Some(other);
                    }
                    _ => {}
                },
            }
        }
        told
    }

    /// Finds out what the program understands, and starts it if the goal needs a process.
    async fn start(&mut self) -> End {
        let dialects = Arc::clone(&self.order.dialects);
        let model = self.order.model.clone();
        let dialect = tokio::select! {
            dialect = dialects.of_model(&model) => dialect,
            instruction = self.asked_away() => return End::before_start(&instruction),
        };
        match dialect {
            Ok(dialect) if !self.order.load && !dialect.is_resident(&model) => End::Standby,
            Ok(dialect) => self.try_ports(&dialect).await,
            Err(reason) => End::without_process(reason),
        }
    }

    /// Starts a process once it may be started, unless its port is taken.
    ///
    /// # Errors
    /// What the launch was told before.
    async fn spawn(
        &mut self,
        dialect: &Dialect,
    ) -> Result<Option<Result<Process, String>>, Instruction> {
        let starts = self.order.starts.clone();
        loop {
            tokio::select! {
                // Without that a launch that is over could start one more.
                biased;
                instruction = self.asked_away() => return Err(instruction),
                () = starts.allowed() => {}
            }
            let spawn = || {
                let (host, port) = (&self.order.model.host, self.order.port);
                is_free(host, port).then(|| Process::spawn(self, dialect))
            };
            if let Some(spawned) = starts.if_allowed(spawn) {
                return Ok(spawned);
            }
        }
    }

    /// Tries port after port until a process has lived on one.
    async fn try_ports(&mut self, dialect: &Dialect) -> End {
        let mut tries = 1;
        loop {
            let (host, port) = (self.order.model.host.clone(), self.order.port);
            let end = match self.spawn(dialect).await {
                Ok(Some(Ok(mut process))) => process.live(self).await,
                Ok(Some(Err(reason))) => return End::without_process(reason),
                Ok(None) => {
                    let reason = format!("port {port} is in use by another program");
                    End::Gone {
                        exit_code: None,
                        reason,
                        early: true,
                    }
                }
                Err(instruction) => return End::before_start(&instruction),
            };
            // A worker may find out late, even after its whole load, that its port is taken.
            let port_taken = matches!(end, End::Gone { early: true, .. }) && !is_free(&host, port);
            if !port_taken || tries == PORT_TRIES {
                return end;
            }
            let Some(next) = (self.order.next_port)() else {
                return end;
            };
            tracing::info!(hub_model = %self.order.model.name, port, next, "the port is taken; trying the next one");
            self.order.port = next;
            tries += 1;
        }
    }
}

/// Ends a worker that an earlier hub left and that no model needs any more.
pub async fn end_found(identity: Identity, stop_timeout: Duration) {
    if let Some(group) = Group::led_by(identity.pid) {
        let launch = identity.launch.clone();
        group::end(&mut Leader::Adopted(identity), group, &launch, stop_timeout).await;
    }
}
