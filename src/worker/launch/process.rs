//! One process of a launch: spawned or adopted, watched, loaded, ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::from_spare::{FromSpare, listening};
use super::load_request::{ask_to_load, refusal};
use super::ready::Asked;
use super::ring;
use super::{Dialect, End, Identity, Instruction, Order, Report, RunningLaunch, Spawned};
use crate::config::ModelConfig;
use crate::engine::Memory;
use crate::files;
use crate::worker::command::not_run;
use crate::worker::dialect::CommandLine;
use crate::worker::environment;
use crate::worker::group::{self, Group};
use crate::worker::identity::start_time;
use crate::worker::leader::Leader;
use crate::worker::mark::launch_id;
use crate::worker::output::Log;
use crate::worker::ranks::Ranks;
use crate::worker::signs_of_life::{self, Growth};
use crate::worker::spare::{Begun, HandOver, Start};

/// From SIGTERM to SIGKILL for a worker that hangs.
const RECYCLE: Duration = Duration::from_secs(2);
/// Longest wait for the end of a worker that broke its connection.
const BREAKING: Duration = Duration::from_secs(1);
pub(super) const BEFORE_READY: &str = " before it was ready";
const WHILE_IT_LOADED: &str = " while it loaded";

/// The event that came first during a wait.
pub(super) enum FirstEvent<T> {
    Done(T),
    Exited(Option<i32>),
    Asked(Instruction),
    Silent,
    /// Its log says that it cannot load its model.
    Failed,
    /// One of its machines is lost.
    FellApart(String),
}

pub(super) struct Process {
    pub(super) leader: Leader,
    pub(super) group: Group,
    pub(super) spawned: Spawned,
    log: Log,
    /// What it has taken of memory while it was watched.
    pub(super) growth: Growth,
    /// Its beginning as a spare, if it was one.
    pub(super) spare: Option<FromSpare>,
}

impl Process {
    /// Starts the program; with `alone`, never by a spare.
    pub(super) fn spawn<R: Fn(Report) + Send + Sync>(
        launch: &RunningLaunch<'_, R>,
        dialect: &Dialect,
        alone: bool,
    ) -> Result<Self, String> {
        let order = &launch.order;
        let model = &order.model;
        let mut line = dialect.command_line(model, order.port)?;
        launch.report(Report::Warnings(std::mem::take(&mut line.warnings)));
        let env = env_of(model, std::mem::take(&mut line.env));
        let file_error =
            |path: &Path, error| format!("`{}` cannot be written: {error}", path.display());
        let (log, output) =
            Log::open(&order.log_file).map_err(|error| file_error(&order.log_file, error))?;
        files::create_private_folder(&order.work_folder)
            .map_err(|error| file_error(&order.work_folder, error))?;
        for (name, text) in &line.files {
            let path = order.work_folder.join(name);
            std::fs::write(&path, text).map_err(|error| file_error(&path, error))?;
        }
        let begun = (!alone)
            .then(|| hand_over(order, &line.argv, &env))
            .flatten();
        let (child, launched, spare) = match begun {
            Some((child, begun)) => (child, begun.launch.clone(), Some(begun)),
            None => {
                let launched = launch_id(&model.name);
                (start(order, &line, env, output, &launched)?, launched, None)
            }
        };
        let pid = child
            .id()
            .expect("a child that nobody has waited for has an id");
        let group = Group::led_by(pid).expect("a child leads the group it was put into");
        tracing::debug!(hub_model = %model.name, pid, port = order.port, command = ?line.argv, spare = spare.is_some(), "worker spawned");
        let identity = Identity {
            pid,
            start_time: start_time(pid).unwrap_or_default(),
            command: line.argv,
            launch: launched,
        };
        let spawned = Spawned::new(
            identity,
            &model.host,
            order.port,
            line.is_resident,
            line.accepts,
            log.begin(),
        );
        let spawned = Spawned {
            log_file: Some(order.log_file.clone()),
            ranks: Ranks {
                hosts: line.hosts,
                addresses: line.addresses,
                mark: model.mark.clone(),
                ..Ranks::default()
            },
            ..spawned
        };
        launch.report(Report::Spawned(spawned.clone()));
        Ok(Self {
            leader: Leader::Child(child),
            group,
            spawned,
            log,
            growth: Growth::default(),
            spare: spare.map(FromSpare::Begun),
        })
    }

    /// The process of an earlier hub.
    pub(super) fn adopt(spawned: Spawned, order: &Order) -> Option<Self> {
        let group = Group::led_by(spawned.identity.pid)?;
        let leader = Leader::Adopted(spawned.identity.clone());
        let log_file = spawned.log_file.as_ref().unwrap_or(&order.log_file);
        let log = Log::of_earlier(log_file, spawned.log_begin);
        Some(Self {
            leader,
            group,
            spawned,
            log,
            growth: Growth::default(),
            spare: None,
        })
    }

    pub(super) fn spawned(&self) -> &Spawned {
        &self.spawned
    }

    /// Runs a process from its start to its end.
    pub(super) async fn live<R: Fn(Report) + Send + Sync>(
        &mut self,
        launch: &mut RunningLaunch<'_, R>,
    ) -> End {
        if let Some(end) = self.take_over(launch).await {
            return end;
        }
        let resident = self.spawned.resident;
        let asked = Asked {
            upstream: Arc::clone(&self.spawned.upstream),
            command: self.spawned.identity.command.clone(),
            model: launch.order.model.clone(),
            port: self.spawned.port,
            resident,
        };
        let stranger = AtomicBool::new(false);
        let mut spare = self.spare.take();
        let listening = listening(spare.as_mut());
        let step = self.step(asked.ready(&stranger, listening), launch).await;
        self.spare = spare;
        let memory = match step {
            FirstEvent::Done(Ok(memory)) => memory,
            FirstEvent::Done(Err(problem)) => {
                self.end(&launch.order).await;
                return End::without_process(problem);
            }
            FirstEvent::Silent if stranger.into_inner() => {
                let port = self.spawned.port;
                let more = format!("; another program answers on its port {port}");
                return self.fell_silent(&more, launch).await;
            }
            other => return self.not_ready(other, launch).await,
        };
        self.spare = self.spare.take().map(|spare| match spare {
            FromSpare::Begun(begun) => FromSpare::Ready(begun.teacher()),
            ready @ FromSpare::Ready(_) => ready,
        });
        if memory == Memory::Loaded {
            self.is_loaded(launch);
        } else if resident && !launch.order.load {
            launch.report(Report::Standby { process: true });
        } else if let Some(end) = self.load(launch).await {
            return end;
        }
        self.serve(launch).await
    }

    /// In memory: now it has all its modules.
    fn is_loaded<R: Fn(Report) + Send + Sync>(&mut self, launch: &RunningLaunch<'_, R>) {
        let (spares, model) = (&launch.order.spares, &launch.order.model.name);
        if spares.note_well(model, self.spare.is_some()) {
            tracing::warn!(hub_model = %model, "it loads without spare processes from now on: with them it failed repeatedly");
        }
        launch.report(Report::Loaded);
        if let Some(FromSpare::Ready(Some(teacher))) = &mut self.spare {
            teacher.begin();
        }
    }

    /// Waits for instructions, or for the end.
    async fn serve<R: Fn(Report) + Send + Sync>(
        &mut self,
        launch: &mut RunningLaunch<'_, R>,
    ) -> End {
        let spares = launch.order.spares.clone();
        loop {
            let teacher = match &mut self.spare {
                Some(FromSpare::Ready(teacher)) => teacher.as_mut(),
                _ => None,
            };
            let instruction = tokio::select! {
                exit_code = self.leader.ended() => return self.died(exit_code, "", &launch.order).await,
                instruction = launch.instructions.recv() => instruction,
                () = spares.learn(teacher) => continue,
                reason = ring::falls_apart(&self.spawned, &self.log, self.group, &launch.order) => {
                    return self.recycle(reason, &launch.order).await;
                }
            };
            match instruction {
                Some(Instruction::Load) => {
                    if let Some(end) = self.load(launch).await {
                        return end;
                    }
                }
                Some(Instruction::Recycle(reason)) => {
                    return self.recycle(reason, &launch.order).await;
                }
                Some(Instruction::Leave) => return End::Left,
                Some(Instruction::End) | None => return self.give_back(launch).await,
            }
        }
    }

    /// Ends the process and its group, and tells when they have given back their memory: another model need not wait
    /// until the program has cleared away the rest.
    async fn give_back<R: Fn(Report) + Send + Sync>(
        &mut self,
        launch: &RunningLaunch<'_, R>,
    ) -> End {
        let group = self.group;
        let telling = async {
            group.has_given_back().await;
            launch.report(Report::Released);
            std::future::pending().await
        };
        tokio::select! {
            // It counts the processes before one of them ends.
            biased;
            end = telling => end,
            end = self.end(&launch.order) => end,
        }
    }

    /// Loads a worker that is up without its model; returns its end if it ended.
    async fn load<R: Fn(Report) + Send + Sync>(
        &mut self,
        launch: &mut RunningLaunch<'_, R>,
    ) -> Option<End> {
        let upstream = Arc::clone(&self.spawned.upstream);
        let engine = Arc::clone(&launch.order.model.engine);
        let asking = ask_to_load(&upstream, &engine);
        let answer = match self.step(asking, launch).await {
            FirstEvent::Done(answer) => answer,
            FirstEvent::Exited(exit_code) => {
                self.doubt_spare(launch);
                return Some(self.died(exit_code, WHILE_IT_LOADED, &launch.order).await);
            }
            FirstEvent::FellApart(lost) => return Some(self.recycle(lost, &launch.order).await),
            other => return Some(self.broken_off(other, launch).await),
        };
        if answer.is_err()
            // The connection broke: most likely the process is ending.
            && let Ok(exit_code) = timeout(BREAKING, self.leader.ended()).await
        {
            self.doubt_spare(launch);
            return Some(self.died(exit_code, WHILE_IT_LOADED, &launch.order).await);
        }
        match refusal(answer) {
            None => self.is_loaded(launch),
            Some(refusal) => {
                self.doubt_spare(launch);
                let reason = self.with_log(refusal);
                if !self.spawned.resident {
                    self.end(&launch.order).await;
                    return Some(End::without_process(reason));
                }
                launch.report(Report::LoadRefused(reason));
            }
        }
        None
    }

    /// Awaits `work` while watching the process, the instructions and the signs of life.
    pub(super) async fn step<T, R: Fn(Report) + Send + Sync>(
        &mut self,
        work: impl Future<Output = T>,
        launch: &mut RunningLaunch<'_, R>,
    ) -> FirstEvent<T> {
        let limit = launch.order.load_timeout;
        let downloaded = Arc::clone(&launch.order.downloaded);
        let silent =
            signs_of_life::silent_for(limit, &self.log, self.group, downloaded, &self.growth);
        let lost = ring::is_lost(
            &self.spawned,
            self.group,
            launch.order.model.spans_machines(),
        );
        let (log, fails) = (&self.log, launch.order.model.engine.fails.clone());
        let failed = async {
            match &fails {
                Some(text) => log.says(text).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = work => FirstEvent::Done(done),
            exit_code = self.leader.ended() => FirstEvent::Exited(exit_code),
            instruction = launch.asked_away() => FirstEvent::Asked(instruction),
            () = silent => FirstEvent::Silent,
            () = failed => FirstEvent::Failed,
            lost = lost => FirstEvent::FellApart(lost),
        }
    }

    pub(super) async fn broken_off<T, R: Fn(Report) + Send + Sync>(
        &mut self,
        step: FirstEvent<T>,
        launch: &mut RunningLaunch<'_, R>,
    ) -> End {
        match step {
            FirstEvent::Exited(exit_code) => {
                early(self.died(exit_code, BEFORE_READY, &launch.order).await)
            }
            FirstEvent::FellApart(lost) => early(self.recycle(lost, &launch.order).await),
            FirstEvent::Asked(Instruction::Leave) => End::Left,
            FirstEvent::Silent => self.fell_silent("", launch).await,
            FirstEvent::Failed => {
                let reason = self.with_log("the worker could not load its model".to_owned());
                self.end(&launch.order).await;
                End::without_process(reason)
            }
            FirstEvent::Asked(instruction) if matches!(self.leader, Leader::Adopted(_)) => {
                match launch.until_unused(Some(instruction)).await {
                    Some(Instruction::Leave) => End::Left,
                    _ => self.end(&launch.order).await,
                }
            }
            FirstEvent::Asked(_) | FirstEvent::Done(_) => self.end(&launch.order).await,
        }
    }

    /// Ends a worker that showed no sign of life during its load; `more` completes the message.
    async fn fell_silent<R>(&mut self, more: &str, launch: &RunningLaunch<'_, R>) -> End {
        let limit = launch.order.load_timeout.as_secs();
        let how = format!("no sign of life for {limit} s (`load_timeout`){more}");
        let reason = self.with_log(how);
        self.end(&launch.order).await;
        End::without_process(reason)
    }

    /// Ends a worker that hangs.
    async fn recycle(&mut self, reason: String, order: &Order) -> End {
        let reason = self.with_log(reason);
        // It makes no progress, and its clients have waited long enough.
        group::end(
            &mut self.leader,
            self.group,
            &self.spawned.identity.launch,
            order.stop_timeout.min(RECYCLE),
        )
        .await;
        self.end_ranks(order).await;
        End::without_process(reason)
    }

    /// Ends the process and its group.
    pub(super) async fn end(&mut self, order: &Order) -> End {
        let launch = &self.spawned.identity.launch;
        group::end(&mut self.leader, self.group, launch, order.stop_timeout).await;
        self.end_ranks(order).await;
        End::without_process("it was stopped")
    }

    /// Ends its processes on other machines; what cannot be reached is ended when it can be, before the next load.
    async fn end_ranks(&self, order: &Order) {
        let model = &order.model.name;
        if let Err(problem) = order.unended.end(&self.spawned.ranks, model).await {
            tracing::warn!(hub_model = %model, "its processes on other machines are not known to have ended: {problem}");
        }
    }

    /// The leader has ended unasked: the rest of its group is ended too.
    async fn died(&mut self, exit_code: Option<i32>, when: &str, order: &Order) -> End {
        let launch = &self.spawned.identity.launch;
        group::kill(&mut self.leader, self.group, launch).await;
        self.end_ranks(order).await;
        End::Gone {
            exit_code,
            reason: self.with_log(how_it_ended(exit_code, when)),
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

/// The end of a process that was not ready.
fn early(end: End) -> End {
    match end {
        End::Gone {
            exit_code, reason, ..
        } => End::Gone {
            exit_code,
            reason,
            early: true,
        },
        other => other,
    }
}

/// The message about a worker that ended unasked; the exit code of an adopted one is unknown.
pub(super) fn how_it_ended(exit_code: Option<i32>, when: &str) -> String {
    match exit_code {
        Some(code) if code < 0 => format!("the worker was ended by signal {}{when}", -code),
        Some(code) => format!("the worker exited with code {code}{when}"),
        None => format!("the worker ended{when}"),
    }
}

/// Hands the command line to a spare; `None` if there is none.
fn hand_over(
    order: &Order,
    argv: &[String],
    env: &BTreeMap<String, String>,
) -> Option<(Child, Begun)> {
    let (owner, folder) = (&order.owner, &order.work_folder);
    let Start::With(spare) = order.spares.take(&order.model, env, owner, folder) else {
        return None;
    };
    let late = Some(temporary(order)).filter(|(name, _)| !env.contains_key(name));
    let hand_over = HandOver {
        args: &argv[1..],
        environment: &late.into_iter().collect(),
        folder: &order.work_folder,
        log: &order.log_file,
    };
    let begun = spare.hand_over(&hand_over);
    begun
        .inspect_err(|error| tracing::debug!(hub_model = %order.model.name, %error, "a spare process is not used"))
        .ok()
}

/// Starts the program itself.
fn start(
    order: &Order,
    line: &CommandLine,
    mut env: BTreeMap<String, String>,
    output: File,
    launch: &str,
) -> Result<Child, String> {
    let model = &order.model;
    let (program, arguments) = line.resolved(model).map_err(|error| error.to_string())?;
    let errors = output
        .try_clone()
        .map_err(|error| format!("`{}` cannot be written: {error}", order.log_file.display()))?;
    let mut command = Command::new(&program);
    let (name, folder) = temporary(order);
    env.entry(name).or_insert(folder);
    environment(&mut command, &env, &order.owner, launch);
    command
        .args(arguments)
        .current_dir(&order.work_folder)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| {
            let why = not_run(&error);
            format!("`{}` could not be started: {why}", program.display())
        })
}

/// The variables of a model's processes besides those of every [`environment`]: those of hub.yaml win over its engine's.
fn env_of(model: &ModelConfig, of_engine: Vec<(String, String)>) -> BTreeMap<String, String> {
    let of_yaml = model.env.iter();
    let of_yaml = of_yaml.map(|(name, value)| (name.clone(), value.clone()));
    of_engine.into_iter().chain(of_yaml).collect()
}

/// The variable that is known only once there is a model, unless hub.yaml or the engine sets it.
fn temporary(order: &Order) -> (String, String) {
    ("TMPDIR".to_owned(), order.work_folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::upstream::UpstreamError;

    #[test]
    fn how_a_worker_ended_and_why_it_has_not_loaded_is_told() {
        let silent = UpstreamError::Silent {
            authority: "127.0.0.1:47850".into(),
        };
        let busy = (StatusCode::INTERNAL_SERVER_ERROR, Bytes::from("no\n"));
        let told = [
            how_it_ended(Some(-9), ""),
            how_it_ended(Some(3), WHILE_IT_LOADED),
            how_it_ended(None, WHILE_IT_LOADED),
            refusal(Ok(busy)).unwrap(),
            refusal(Err(silent)).unwrap(),
        ];
        insta::assert_snapshot!(told.join("\n"), @"
        the worker was ended by signal 9
        the worker exited with code 3 while it loaded
        the worker ended while it loaded
        the worker answered 500 Internal Server Error: no
        the worker gave no answer: no answer from 127.0.0.1:47850 in time
        ");
    }
}
