//! Runs one worker process, from the command line to the empty process group.
//!
//! One task per launch. It reports each step and takes four instructions: load, end, recycle, and leave.
//! Unless it is told to leave, its last report is [`Report::Gone`] (or a standby without a process), and its
//! process group is empty then.

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
use super::ranks::{Ranks, Unended};
use super::spare::Spares;
use crate::config::ModelConfig;
use crate::config::ports::is_free;
use crate::runtime_file::RuntimeWorker;
use crate::upstream::{Accepts, Upstream};

mod from_spare;
mod load_request;
mod process;
mod ready;
mod ring;
mod starts;

use process::Process;
pub use ring::Pulse;
pub use starts::Starts;

/// Number of ports that a launch tries when its own turns out to be taken.
const PORT_TRIES: usize = 5;

/// Number of times that machines are started which end before they are ready.
const APART_TRIES: usize = 3;

/// Interval of the checks for the end of an earlier hub's requests.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// The order to start a worker.
pub struct Order {
    /// The model.
    pub model: ModelConfig,
    /// True to load it; otherwise it stays on standby.
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
    /// Bytes of the model's files on the disk, which grow while they are downloaded.
    pub downloaded: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// See hub.yaml's `load_timeout`.
    pub load_timeout: Duration,
    /// True if requests of the model are in flight, those of an earlier hub among them.
    pub is_used: Box<dyn Fn() -> bool + Send + Sync>,
    /// What its requests have come to.
    pub pulse: Box<dyn Fn() -> Pulse + Send + Sync>,
    /// See hub.yaml's `drain_timeout`.
    pub drain_timeout: Duration,
    /// See hub.yaml's `stop_timeout`.
    pub stop_timeout: Duration,
    /// The dialects known so far.
    pub dialects: Arc<Dialects>,
    /// Permission to start processes, which a succession takes away.
    pub starts: Starts,
    /// The spare processes of the hub.
    pub spares: Spares,
    /// The processes on other machines that could not be ended.
    pub unended: Unended,
    /// The worker that an earlier hub left for this model.
    pub found: Option<EarlierWorker>,
}

/// A worker that an earlier hub left.
#[derive(Debug, Clone)]
pub struct EarlierWorker {
    /// Its process.
    pub spawned: Spawned,
    /// True if hub.yaml would still start it with these settings; otherwise it is ended before a new one starts.
    pub keep: bool,
}

/// An instruction of the lifecycle to a launch.
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

/// A report of a launch to the lifecycle.
#[derive(Debug, Clone)]
pub enum Report {
    /// Options of the entry that the worker lacks.
    Warnings(Vec<String>),
    /// The process has been started.
    Spawned(Spawned),
    /// On standby: with a process, or without one if the worker cannot stay up unloaded.
    Standby {
        /// True if there is a process.
        process: bool,
    },
    /// In memory and serving.
    Loaded,
    /// The load failed; the process stays up.
    LoadRefused(String),
    /// It is being ended and holds little memory any more; what it held is back, or on its way.
    Released,
    /// The process and its group are gone.
    Gone {
        /// Exit code of a process that ended unasked; −N for signal N; `None` if unknown.
        exit_code: Option<i32>,
        /// The message, with the last lines of the log.
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
    /// True if it can stay up without the weights.
    pub resident: bool,
    /// Its HTTP address.
    pub upstream: Arc<Upstream>,
    /// Its log file; `None` for a worker of an older hub, whose log is at the current path.
    pub log_file: Option<PathBuf>,
    /// Byte offset of its output in its log file.
    pub log_begin: u64,
    /// Its processes on other machines.
    pub ranks: Ranks,
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
            ranks: Ranks::default(),
        }
    }
}

/// Runs one launch to its end.
pub async fn run(
    order: Order,
    instructions: UnboundedReceiver<Instruction>,
    report: impl Fn(Report) + Send + Sync,
) {
    let mut launch = RunningLaunch {
        order,
        instructions,
        report: &report,
        spare_failed: false,
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

/// The end of a launch.
enum End {
    /// On standby, without a process.
    Standby,
    /// The process is left running.
    Left,
    /// A process that began as a spare is gone, and was not ready.
    NoSpare {
        reason: String,
        /// False if it was only too old.
        is_failed: bool,
    },
    /// The process is gone, or never started.
    Gone {
        exit_code: Option<i32>,
        reason: String,
        /// True if it ended by itself before it was ready.
        early: bool,
    },
}

impl End {
    /// The end of a launch that was ended before its process started.
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

/// One launch: its order, its instructions and its reports.
struct RunningLaunch<'a, R> {
    order: Order,
    instructions: UnboundedReceiver<Instruction>,
    report: &'a R,
    /// True if a spare came to nothing: the program is started by itself.
    spare_failed: bool,
}

impl<R: Fn(Report) + Send + Sync> RunningLaunch<'_, R> {
    fn report(&self, report: Report) {
        (self.report)(report);
    }

    fn finish(&mut self, end: End) {
        match end {
            // A worker of the next hub may use the folder by now.
            _ if self.is_to_leave() => {}
            End::Standby => self.report(Report::Standby { process: false }),
            End::Left => {}
            End::NoSpare { reason, .. } => self.finish(End::without_process(reason)),
            End::Gone {
                exit_code, reason, ..
            } => {
                // The worker's temporary files are of no further use.
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
    /// no longer than `drain_timeout`. Returns the last instruction, at once if it is to leave.
    async fn until_unused(&mut self, mut told: Option<Instruction>) -> Option<Instruction> {
        let mut limit = pin!(sleep(self.order.drain_timeout));
        while (self.order.is_used)() {
            let is_told = told.is_some();
            tokio::select! {
                () = sleep(POLL_EVERY) => {}
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

    /// Reads the program's dialect, and starts it if the goal needs a process.
    async fn start(&mut self) -> End {
        let dialects = Arc::clone(&self.order.dialects);
        let model = self.order.model.clone();
        let dialect = tokio::select! {
            dialect = dialects.of_model(&model) => dialect,
            instruction = self.asked_away() => return End::before_start(&instruction),
        };
        let is_resident = |dialect: &Dialect| {
            let line = dialect.command_line(&model, self.order.port);
            line.map(|line| line.is_resident)
        };
        let planned = dialect.and_then(|dialect| match self.order.load {
            true => Ok((dialect, true)),
            false => is_resident(&dialect).map(|is_resident| (dialect, is_resident)),
        });
        match planned {
            Ok((_, false)) => End::Standby,
            Ok((dialect, true)) => self.try_ports(&dialect).await,
            Err(reason) => End::without_process(reason),
        }
    }

    /// Starts a process once it may be started, unless its port is taken.
    ///
    /// # Errors
    /// The instruction that the launch has received so far.
    async fn spawn(
        &mut self,
        dialect: &Dialect,
    ) -> Result<Option<Result<Process, String>>, Instruction> {
        let starts = self.order.starts.clone();
        if !self.spare_failed {
            let (spares, model) = (self.order.spares.clone(), self.order.model.clone());
            tokio::select! {
                biased;
                instruction = self.asked_away() => return Err(instruction),
                () = spares.soon(&model) => {}
            }
        }
        if let Some(problem) = self.ranks_left(dialect).await? {
            return Ok(Some(Err(problem)));
        }
        loop {
            tokio::select! {
                // Otherwise a launch that has ended could start one more.
                biased;
                instruction = self.asked_away() => return Err(instruction),
                () = starts.allowed() => {}
            }
            let spawn = || {
                let (host, port) = (&self.order.model.host, self.order.port);
                is_free(host, port).then(|| Process::spawn(self, dialect, self.spare_failed))
            };
            if let Some(spawned) = starts.if_allowed(spawn) {
                return Ok(spawned);
            }
        }
    }

    /// Ends what an earlier launch has left on other machines; tells what is wrong if that is not known.
    ///
    /// # Errors
    /// As [`RunningLaunch::spawn`].
    async fn ranks_left(&mut self, dialect: &Dialect) -> Result<Option<String>, Instruction> {
        let model = &self.order.model;
        if !model.spans_machines() {
            return Ok(None);
        }
        let ranks = match dialect.command_line(model, self.order.port) {
            Ok(line) => Ranks {
                hosts: line.hosts,
                addresses: line.addresses,
                mark: model.mark.clone(),
                ..Ranks::default()
            },
            Err(problem) => return Ok(Some(problem)),
        };
        let (unended, name) = (self.order.unended.clone(), model.name.clone());
        tokio::select! {
            biased;
            instruction = self.asked_away() => Err(instruction),
            ended = unended.end(&ranks, &name) => Ok(ended.err()),
        }
    }

    /// Tries port after port until a process has lived on one.
    async fn try_ports(&mut self, dialect: &Dialect) -> End {
        let (mut tries, mut apart) = (1, 1);
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
            if let End::NoSpare { reason, is_failed } = end {
                tracing::info!(hub_model = %self.order.model.name, "a spare process came to nothing, the program is started: {reason}");
                self.spare_failed |= is_failed;
                continue;
            }
            // The machines may have begun so far apart that they did not find each other.
            if let End::Gone {
                early: true,
                reason,
                ..
            } = &end
                && self.order.model.spans_machines()
                && apart < APART_TRIES
            {
                tracing::info!(hub_model = %self.order.model.name, "its machines are started again: {reason}");
                apart += 1;
                continue;
            }
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

/// Ends a worker that an earlier hub left and that no model needs.
pub async fn end_found(worker: &RuntimeWorker, stop_timeout: Duration) {
    let identity = Identity::from(worker);
    if let Some(group) = Group::led_by(identity.pid) {
        let launch = identity.launch.clone();
        group::end(&mut Leader::Adopted(identity), group, &launch, stop_timeout).await;
    }
    if let Err(problem) = Ranks::from(worker).end().await {
        tracing::warn!(hub_model = %worker.model, "its processes on other machines are not known to have ended: {problem}");
    }
}
