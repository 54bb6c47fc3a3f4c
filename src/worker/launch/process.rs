//! One process of a launch: spawned or adopted, watched, loaded, ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{Dialect, End, Identity, Instruction, Order, Report, RunningLaunch, Spawned, Upstream};
use crate::files;
use crate::upstream::UpstreamError;
use crate::worker::command::{self, not_run};
use crate::worker::group::{self, Group};
use crate::worker::identity::start_time;
use crate::worker::leader::Leader;
use crate::worker::mark::launch_id;
use crate::worker::output::Log;
use crate::worker::spare::{Begun, HandOver, Start, Teacher};
use crate::worker::{environment, signs_of_life};

/// Interval of the health checks of a starting worker, the delay with which readiness is noticed.
const POLL: Duration = Duration::from_millis(10);
/// A worker whose event loop is blocked answers late; a refused connection answers at once.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// From SIGTERM to SIGKILL for a worker that hangs.
const RECYCLE: Duration = Duration::from_secs(2);
/// Longest wait for the end of a worker that broke its connection.
const BREAKING: Duration = Duration::from_secs(1);
const BEFORE_READY: &str = " before it was ready";
const WHILE_IT_LOADED: &str = " while it loaded";

/// The event that came first during a wait.
enum FirstEvent<T> {
    Done(T),
    Exited(Option<i32>),
    Asked(Instruction),
    Silent,
}

pub(super) struct Process {
    leader: Leader,
    group: Group,
    spawned: Spawned,
    log: Log,
    /// Its beginning as a spare, if it was one.
    spare: Option<FromSpare>,
}

/// A worker that began as a spare.
enum FromSpare {
    /// It has been sent its command line.
    Begun(Begun),
    /// It has taken it, and may tell what it imports.
    Taken(Option<Teacher>),
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
        let line = dialect.command_line(model, order.port);
        launch.report(Report::Warnings(line.warnings));
        let file_error =
            |path: &Path, error| format!("`{}` cannot be written: {error}", path.display());
        let (log, output) =
            Log::open(&order.log_file).map_err(|error| file_error(&order.log_file, error))?;
        files::create_private_folder(&order.work_folder)
            .map_err(|error| file_error(&order.work_folder, error))?;
        let begun = (!alone).then(|| hand_over(order, &line.argv)).flatten();
        let (child, launched, spare) = match begun {
            Some((child, begun)) => (child, begun.launch.clone(), Some(begun)),
            None => {
                let launched = launch_id(&model.name);
                (start(order, &line.argv, output, &launched)?, launched, None)
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
        let resident = dialect.is_resident(model);
        let spawned = Spawned::new(
            identity,
            &model.host,
            order.port,
            resident,
            dialect.accepts(model),
            log.begin(),
        );
        let spawned = Spawned {
            log_file: Some(order.log_file.clone()),
            ..spawned
        };
        launch.report(Report::Spawned(spawned.clone()));
        Ok(Self {
            leader: Leader::Child(child),
            group,
            spawned,
            log,
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
        let upstream = Arc::clone(&self.spawned.upstream);
        let command = self.spawned.identity.command.clone();
        let stranger = AtomicBool::new(false);
        let ready = ready(&upstream, &command, resident, &stranger);
        let memory = match self.step(ready, launch).await {
            FirstEvent::Done(memory) => memory,
            FirstEvent::Silent if stranger.into_inner() => {
                let port = self.spawned.port;
                let more = format!("; another program answers on its port {port}");
                return self.fell_silent(&more, launch).await;
            }
            other => return self.not_ready(other, launch).await,
        };
        self.note_ready(launch);
        match memory {
            Memory::Loaded => self.is_loaded(launch),
            Memory::Unloaded if !launch.order.load => {
                launch.report(Report::Standby { process: true });
            }
            Memory::Unloaded => {
                if let Some(end) = self.load(launch).await {
                    return end;
                }
            }
        }
        self.serve(launch).await
    }

    /// Waits for a spare to take its command line; returns the end of one that has not.
    async fn take_over<R: Fn(Report) + Send + Sync>(
        &mut self,
        launch: &mut RunningLaunch<'_, R>,
    ) -> Option<End> {
        let Some(FromSpare::Begun(mut begun)) = self.spare.take() else {
            return None;
        };
        match self.step(begun.taken(), launch).await {
            FirstEvent::Done(Ok(())) => {
                self.spare = Some(FromSpare::Taken(begun.teacher()));
                None
            }
            FirstEvent::Done(Err(reason)) => Some(self.no_spare(reason).await),
            FirstEvent::Exited(code) => {
                Some(self.no_spare(how_it_ended(code, " before it began")).await)
            }
            other => Some(self.broken_off(other, launch).await),
        }
    }

    /// The end of a worker that was not ready: one that began as a spare is started again by itself.
    async fn not_ready<T, R: Fn(Report) + Send + Sync>(
        &mut self,
        step: FirstEvent<T>,
        launch: &mut RunningLaunch<'_, R>,
    ) -> End {
        match step {
            FirstEvent::Exited(code) if self.spare.is_some() => {
                self.no_spare(how_it_ended(code, BEFORE_READY)).await
            }
            FirstEvent::Silent if self.spare.is_some() => {
                let limit = launch.order.load_timeout.as_secs();
                self.no_spare(format!("no sign of life for {limit} s"))
                    .await
            }
            other => self.broken_off(other, launch).await,
        }
    }

    /// Ends a worker that began as a spare and came to nothing.
    async fn no_spare(&mut self, reason: String) -> End {
        let launch = &self.spawned.identity.launch;
        group::kill(&mut self.leader, self.group, launch).await;
        End::NoSpare { reason }
    }

    /// The load would have gone wrong with a spare, or has gone well with one.
    fn note_ready<R>(&self, launch: &RunningLaunch<'_, R>) {
        let (spares, model) = (&launch.order.spares, &launch.order.model.name);
        if self.spare.is_some() {
            spares.note_well(model);
        } else if launch.spare_failed && spares.note_failed(model) {
            tracing::warn!(hub_model = %model, "it loads without spare processes from now on: with them it failed repeatedly");
        }
    }

    /// In memory: now it has all its modules.
    fn is_loaded<R: Fn(Report) + Send + Sync>(&mut self, launch: &RunningLaunch<'_, R>) {
        launch.report(Report::Loaded);
        if let Some(FromSpare::Taken(Some(teacher))) = &mut self.spare {
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
                Some(FromSpare::Taken(teacher)) => teacher.as_mut(),
                _ => None,
            };
            let instruction = tokio::select! {
                exit_code = self.leader.ended() => return self.died(exit_code, "").await,
                instruction = launch.instructions.recv() => instruction,
                () = spares.learn(teacher) => continue,
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
                Some(Instruction::End) | None => return self.end(&launch.order).await,
            }
        }
    }

    /// Loads a resident worker; returns its end if it ended.
    async fn load<R: Fn(Report) + Send + Sync>(
        &mut self,
        launch: &mut RunningLaunch<'_, R>,
    ) -> Option<End> {
        let upstream = Arc::clone(&self.spawned.upstream);
        // The one route that loads a worker of the JIT dialect without a chat.
        let answer = match self.step(upstream.get("/v1/queue/stats"), launch).await {
            FirstEvent::Done(answer) => answer,
            FirstEvent::Exited(exit_code) => {
                return Some(self.died(exit_code, WHILE_IT_LOADED).await);
            }
            other => return Some(self.broken_off(other, launch).await),
        };
        if answer.is_err()
            // The connection broke: most likely the process is ending.
            && let Ok(exit_code) = timeout(BREAKING, self.leader.ended()).await
        {
            return Some(self.died(exit_code, WHILE_IT_LOADED).await);
        }
        match refusal(answer) {
            None => self.is_loaded(launch),
            Some(refusal) => launch.report(Report::LoadRefused(self.with_log(refusal))),
        }
        None
    }

    /// Awaits `work` while watching the process, the instructions and the signs of life.
    async fn step<T, R: Fn(Report) + Send + Sync>(
        &mut self,
        work: impl Future<Output = T>,
        launch: &mut RunningLaunch<'_, R>,
    ) -> FirstEvent<T> {
        let limit = launch.order.load_timeout;
        let downloaded = Arc::clone(&launch.order.downloaded);
        let silent = signs_of_life::silent_for(limit, &self.log, self.group, downloaded);
        tokio::select! {
            done = work => FirstEvent::Done(done),
            exit_code = self.leader.ended() => FirstEvent::Exited(exit_code),
            instruction = launch.asked_away() => FirstEvent::Asked(instruction),
            () = silent => FirstEvent::Silent,
        }
    }

    async fn broken_off<T, R: Fn(Report) + Send + Sync>(
        &mut self,
        step: FirstEvent<T>,
        launch: &mut RunningLaunch<'_, R>,
    ) -> End {
        match step {
            FirstEvent::Exited(exit_code) => match self.died(exit_code, BEFORE_READY).await {
                End::Gone {
                    exit_code, reason, ..
                } => End::Gone {
                    exit_code,
                    reason,
                    early: true,
                },
                other => other,
            },
            FirstEvent::Asked(Instruction::Leave) => End::Left,
            FirstEvent::Silent => self.fell_silent("", launch).await,
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
        End::without_process(reason)
    }

    /// Ends the process and its group.
    pub(super) async fn end(&mut self, order: &Order) -> End {
        let launch = &self.spawned.identity.launch;
        group::end(&mut self.leader, self.group, launch, order.stop_timeout).await;
        End::without_process("it was stopped")
    }

    /// The leader has ended unasked: the rest of its group is ended too.
    async fn died(&mut self, exit_code: Option<i32>, when: &str) -> End {
        let launch = &self.spawned.identity.launch;
        group::kill(&mut self.leader, self.group, launch).await;
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

/// The reason why a worker that was asked to load has not; `None` if it has.
fn refusal(answer: Result<(StatusCode, Bytes), UpstreamError>) -> Option<String> {
    match answer {
        Ok((StatusCode::OK, _)) => None,
        Ok((status, body)) => {
            let body = String::from_utf8_lossy(&body);
            Some(format!("the worker answered {status}: {}", body.trim()))
        }
        Err(error) => Some(format!("the worker gave no answer: {error}")),
    }
}

/// The message about a worker that ended unasked; the exit code of an adopted one is unknown.
fn how_it_ended(exit_code: Option<i32>, when: &str) -> String {
    match exit_code {
        Some(code) if code < 0 => format!("the worker was ended by signal {}{when}", -code),
        Some(code) => format!("the worker exited with code {code}{when}"),
        None => format!("the worker ended{when}"),
    }
}

/// The place of a running worker's weights.
enum Memory {
    Unloaded,
    Loaded,
}

/// Completes when the worker answers `/health` and names a model of its own `command` line there: until a
/// worker has loaded, another program may have its port, and that is a `stranger`. Only a `resident` worker may
/// answer without its weights; any other is asked again until it has them.
async fn ready(
    upstream: &Upstream,
    command: &[String],
    resident: bool,
    stranger: &AtomicBool,
) -> Memory {
    loop {
        if let Ok(Ok((StatusCode::OK, body))) =
            timeout(HEALTH_TIMEOUT, upstream.get("/health")).await
        {
            let health: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let is_ours = is_ours(&health, command);
            stranger.store(!is_ours, Ordering::Relaxed);
            match (health["model_status"] == "unloaded", resident) {
                _ if !is_ours => {}
                (false, _) => return Memory::Loaded,
                (true, true) => return Memory::Unloaded,
                (true, false) => {}
            }
        }
        sleep(POLL).await;
    }
}

/// True if `/health` names what the worker was told to serve: a path or a name, by the hub or by
/// `extra_args`. A worker that names no model at all is accepted; `null` is the answer of a hub.
fn is_ours(health: &serde_json::Value, command: &[String]) -> bool {
    let Some(health) = health.as_object() else {
        return false;
    };
    let is_named = |id: &str| {
        command.iter().any(|argument| {
            let value = argument.split_once('=').map(|(_, value)| value);
            argument == id || value == Some(id)
        })
    };
    match health.get("model_id") {
        Some(id) => id.as_str().is_some_and(is_named),
        None => true,
    }
}

/// Hands the command line to a spare; `None` if there is none.
fn hand_over(order: &Order, argv: &[String]) -> Option<(Child, Begun)> {
    let Start::With(spare) = order
        .spares
        .take(&order.model, &order.owner, &order.work_folder)
    else {
        return None;
    };
    let hand_over = HandOver {
        args: &argv[1..],
        environment: &late_environment(order),
        folder: &order.work_folder,
        log: &order.log_file,
    };
    let begun = spare.hand_over(&hand_over);
    begun
        .inspect_err(|error| tracing::debug!(hub_model = %order.model.name, %error, "a spare process is not used"))
        .ok()
}

/// Starts the program itself.
fn start(order: &Order, argv: &[String], output: File, launch: &str) -> Result<Child, String> {
    let model = &order.model;
    let program =
        command::find(&model.worker_command, &model.env).map_err(|error| error.to_string())?;
    let errors = output
        .try_clone()
        .map_err(|error| format!("`{}` cannot be written: {error}", order.log_file.display()))?;
    let mut command = Command::new(&program);
    environment(&mut command, &model.env, &order.owner, launch);
    command
        .args(&argv[1..])
        .envs(late_environment(order))
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

/// The variables that are known only once there is a model, besides those of every [`environment`].
fn late_environment(order: &Order) -> BTreeMap<String, String> {
    let name = "TMPDIR";
    match order.model.env.contains_key(name) {
        true => BTreeMap::new(),
        false => BTreeMap::from([(name.to_owned(), order.work_folder.display().to_string())]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_worker_is_known_by_any_name_it_was_given() {
        let command = ["launch", "--model-path", "a/b", "--served-model-name=c"].map(str::to_owned);
        for id in ["a/b", "c"] {
            assert!(is_ours(&json!({"model_id": id}), &command), "{id}");
        }
        for id in [json!(""), json!("b"), json!("other"), json!(null), json!(1)] {
            assert!(!is_ours(&json!({"model_id": id}), &command), "{id}");
        }
        assert!(is_ours(&json!({"status": "ok"}), &command));
        assert!(!is_ours(&json!("ok"), &command));
    }

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
