//! `stop`: ends the daemon and every worker, and returns when they are gone.

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};
use tokio::time::Instant;

use super::client::{ClientError, Probe};
use super::find::{Hub, HubAddress};
use super::hub_yaml::HubYaml;
use super::progress;
use super::render::{Out, with_tilde};
use super::service::{Installed, Service};
use crate::config::DEFAULT_STOP_TIMEOUT;
use crate::runtime_file::{RuntimeFile, try_lock};
use crate::worker::earlier::Earlier;

const AGAIN: &str = "its service manager holds the port and starts the hub at the next connection: to keep it down, stop that too (`systemctl --user stop NAME.socket`, or `launchctl bootout`)";

const POLL: Duration = Duration::from_millis(20);
/// Longest wait for processes that outlived their daemon.
const ALONE: Duration = Duration::from_secs(5);
/// Longest time that a killed hub's lock may still be held.
const KILLED_HUB: Duration = Duration::from_millis(500);

/// Stop every model and the hub
///
/// Applies what hub.yaml takes away, lets requests in flight end (drain_timeout at most), ends every
/// worker and the hub, and returns when all their processes are gone. It works with a broken hub.yaml
/// too. Without a hub it ends the workers that one which was killed has left. A hub that runs as a service
/// is stopped by its service manager, until the next login or `start`; a service that `service install` has
/// not written is only named.
///
/// Exit status: 0, also when the hub does not run; 1 when it does not take the request.
#[derive(Debug, clap::Args)]
#[command(visible_alias = "shutdown")]
pub(super) struct Stop {}

impl Stop {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        // The reload below reports a broken hub.yaml, if there is a hub to stop.
        let hub_address = hub_yaml.hub_address();
        let Some(hub) = hub_address.hub().await? else {
            return end_what_is_left(hub_yaml, &hub_address, out).await;
        };
        if let Err(error) = progress::show("reloading", hub.client.reload(false)).await {
            out.warn(format_args!("Reload before the stop failed: {error}"));
        }
        let service = Service::running(&hub_address.config_path).await;
        if let Some(service) = &service {
            // Only its manager keeps its sockets from starting the hub again.
            let stopping = format!("stopping the service {}", service.name());
            progress::show(&stopping, service.stop()).await?;
        } else {
            match hub.client.shutdown().await {
                // Another command may have stopped it meanwhile.
                Ok(()) | Err(ClientError::Connect { .. } | ClientError::Lost { .. }) => {}
                Err(error) => return Err(error).context("hub shutdown failed"),
            }
        }
        out.ok("Hub manager shutdown requested");
        progress::show(
            "waiting for requests in flight and for workers",
            gone(&hub, processes(&hub)),
        )
        .await?;
        out.ok("Hub manager stopped");
        if service.is_none() {
            let foreign = Installed::foreign(&hub_address.config_path).await;
            for service in &foreign {
                let file = with_tilde(&service.file.display().to_string());
                let [_, stop] = service.commands();
                out.warn(format_args!(
                    "The service `{file}` runs this hub.yaml too, and may start its hub again\n\
                     hint: `{stop}` keeps it down"
                ));
            }
            if is_activated(&hub) && foreign.is_empty() {
                out.warn(AGAIN);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Ends the workers of a killed hub, so that `stop` never leaves any.
async fn end_what_is_left(
    hub_yaml: &HubYaml,
    hub_address: &HubAddress,
    out: &mut Out,
) -> anyhow::Result<ExitCode> {
    let _lock = alone_with(hub_address).await?;
    let earlier = Earlier::find(&hub_address.config_path, &hub_address.log_path);
    if let Some(log_path) = earlier.lives_in() {
        return Err(silent(hub_address, log_path));
    }
    let names = earlier.names();
    out.info("Hub manager is not running; nothing to stop");
    let limit = hub_yaml
        .config()
        .map_or(DEFAULT_STOP_TIMEOUT, |config| config.stop_timeout);
    progress::show("waiting for the workers of a hub that was killed", async {
        earlier.end(limit).await;
    })
    .await;
    earlier.forget(&hub_address.config_path);
    for name in names {
        out.ok(format_args!(
            "{name}: stopped; a hub that was killed had left it"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Locks the log folder, if there is one.
async fn alone_with(hub_address: &HubAddress) -> anyhow::Result<Option<File>> {
    let begun = Instant::now();
    loop {
        if !hub_address.log_path.is_dir() {
            return Ok(None);
        }
        // No hub can use a folder that cannot be written.
        let Ok(lock) = try_lock(&hub_address.log_path) else {
            return Ok(None);
        };
        if lock.is_some() {
            return Ok(lock);
        }
        // The lock of a hub that was just killed may still be held.
        if begun.elapsed() >= KILLED_HUB {
            return Err(silent(hub_address, &hub_address.log_path));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The error for a locked log folder whose hub does not answer.
pub(super) fn silent(hub_address: &HubAddress, log_path: &Path) -> anyhow::Error {
    let file = RuntimeFile::read(log_path);
    let whose = file.map_or_else(String::new, |file| format!(" (process {})", file.pid));
    anyhow::anyhow!(
        "a hub{whose} uses the log folder `{}` and does not answer; nothing was changed\n\
         hint: if it has just been started, try again; if it hangs, end it and `stop` again, for {}",
        log_path.display(),
        hub_address.config_path.display()
    )
}

/// Waits until none of `pids` is left and the hub answers no more, however long that takes while the
/// daemon is there: it has its own limits.
///
/// # Errors
/// When the daemon ended without its workers, or another answers in its place.
pub(super) async fn gone(hub: &Hub, mut pids: Vec<Pid>) -> anyhow::Result<()> {
    let mut system = System::new().map_err(|error| unseen(&error))?;
    let daemon = hub.pid.map(Pid::from_u32);
    let mut alone_since = None;
    // A connection to a service manager's socket would start the hub again.
    let may_be_asked = pids.is_empty() || !is_activated(hub);
    loop {
        pids.retain(|&pid| is_alive(&mut system, pid));
        let answers = may_be_asked && hub.client.probe().await == Probe::Hub;
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

fn is_activated(hub: &Hub) -> bool {
    hub.runtime.as_ref().is_some_and(|file| file.activated)
}

fn unseen(error: &dyn std::fmt::Display) -> anyhow::Error {
    anyhow::anyhow!(
        "the hub was told to stop, but its end cannot be waited for: no processes are shown here ({error})\n\
         hint: ask `status` whether it has stopped"
    )
}

/// Nothing ends a worker whose hub was killed, and launchd or systemd may keep a hub up.
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

/// The known processes of the daemon and its workers.
fn processes(hub: &Hub) -> Vec<Pid> {
    let runtime = hub.runtime.iter();
    let workers = runtime
        .clone()
        .flat_map(|runtime| runtime.models.workers.iter().map(|worker| worker.pid));
    let also = runtime.flat_map(|runtime| runtime.also.iter().copied());
    workers
        .chain(also)
        .chain(hub.pid)
        .map(Pid::from_u32)
        .collect()
}

/// A zombie counts as gone: the daemon's parent has exited, and in a container no process may reap it.
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
