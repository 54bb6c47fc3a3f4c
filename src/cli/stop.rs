//! `stop`: ends the daemon and every worker, and returns when they are gone.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};
use tokio::time::Instant;

use super::client::{ClientError, Probe};
use super::find::{Hub, Place};
use super::progress;
use super::render::Out;
use crate::config::Config;

const POLL: Duration = Duration::from_millis(20);
/// How long what outlived its daemon may take to go.
const ALONE: Duration = Duration::from_secs(5);

/// Stop every model and the hub
///
/// Applies what hub.yaml takes away, lets requests in flight end (drain_timeout at most), ends every
/// worker and the hub, and returns when all their processes are gone. It works with a broken hub.yaml
/// too.
///
/// Exit status: 0, also when the hub does not run; 1 when it does not take the request.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "shutdown")]
pub(super) struct Stop {}

impl Stop {
    pub(super) async fn run(self, config_path: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        let place = match Config::load(config_path) {
            Ok(config) => Place::of(&config),
            // The reload below says what is wrong with it, if there is a hub to stop at all.
            Err(_) => Place::guess(config_path),
        };
        let Some(hub) = place.hub().await else {
            out.info("Hub manager is not running; nothing to stop");
            return Ok(ExitCode::SUCCESS);
        };
        if let Err(error) = progress::show("reloading", hub.client.reload(false)).await {
            out.warn(format_args!("Reload before the stop failed: {error}"));
        }
        match hub.client.shutdown().await {
            // It may have been stopped by someone else in the meantime.
            Ok(()) | Err(ClientError::Connect { .. } | ClientError::Lost { .. }) => {}
            Err(error) => return Err(error).context("hub shutdown failed"),
        }
        out.ok("Hub manager shutdown requested");
        progress::show(
            "waiting for requests in flight and for workers",
            gone(&hub, processes(&hub)),
        )
        .await?;
        out.ok("Hub manager stopped");
        Ok(ExitCode::SUCCESS)
    }
}

/// Waits until none of `pids` is left and the hub answers no more, however long that takes while the
/// daemon is there: it has its own limits.
///
/// # Errors
/// When the daemon has gone without its workers, or another answers in its place.
pub(super) async fn gone(hub: &Hub, mut pids: Vec<Pid>) -> anyhow::Result<()> {
    let mut system = System::new().map_err(|error| unseen(&error))?;
    let daemon = hub.runtime.as_ref().map(|hub| Pid::from_u32(hub.pid));
    let mut alone_since = None;
    loop {
        pids.retain(|&pid| is_alive(&mut system, pid));
        let answers = hub.client.probe().await == Probe::Hub;
        if pids.is_empty() && !answers {
            return Ok(());
        }
        if daemon.is_some_and(|daemon| !pids.contains(&daemon)) {
            let since = *alone_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= ALONE {
                return Err(left_alone(&pids, answers));
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

fn unseen(error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!(
        "the hub was told to stop, but its end cannot be waited for: no processes are shown here ({error})\n\
         hint: ask `status` whether it has stopped"
    )
}

/// Nobody ends a worker whose hub was killed, and a hub may be kept up by launchd or systemd.
fn left_alone(pids: &[Pid], answers: bool) -> anyhow::Error {
    if answers {
        return anyhow::anyhow!(
            "the hub has ended, but another one answers in its place\n\
             hint: stop it with what starts it, launchd or systemd perhaps"
        );
    }
    let pids: Vec<String> = pids.iter().map(Pid::to_string).collect();
    anyhow::anyhow!(
        "the hub was killed before it could end its workers (processes {})\n\
         hint: `start` takes them over, and `stop` ends them then",
        pids.join(", ")
    )
}

/// The daemon and its workers, as far as they are known.
fn processes(hub: &Hub) -> Vec<Pid> {
    let Some(runtime) = &hub.runtime else {
        return Vec::new();
    };
    let workers = runtime.models.workers.iter().map(|worker| worker.pid);
    workers.chain([runtime.pid]).map(Pid::from_u32).collect()
}

/// A process that has ended but was not reaped counts as gone: the daemon's parent has exited, and in a
/// container there may be nobody who reaps.
fn is_alive(system: &mut System, pid: Pid) -> bool {
    let kind = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).is_some_and(|process| {
        !matches!(
            process.status(),
            ProcessStatus::Zombie | ProcessStatus::Dead
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_processes_are_shown_that_is_told() {
        insta::assert_snapshot!(unseen(&"unsupported"), @"
        the hub was told to stop, but its end cannot be waited for: no processes are shown here (unsupported)
        hint: ask `status` whether it has stopped
        ");
    }

    #[test]
    fn a_process_that_was_not_reaped_counts_as_gone() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = Pid::from_u32(child.id());
        let mut system = System::new().unwrap();
        assert!(is_alive(&mut system, pid));
        child.kill().unwrap();
        // Not waited for: it becomes a zombie as soon as the signal is delivered.
        let deadline = std::time::SystemTime::now() + Duration::from_secs(10);
        while is_alive(&mut system, pid) {
            assert!(std::time::SystemTime::now() < deadline, "still alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_alive(&mut system, pid));
    }
}
