//! The hub itself: whether it runs, what it warns of, who has its port if not, and what a killed one has left.

use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::network;
use crate::api::{ProcessState, Status, unix_now};
use crate::cli::find::{Found, HubAddress};
use crate::cli::notes;
use crate::cli::status::left_by;
use crate::cli::stop::silent;
use crate::config::{Config, ports};
use crate::runtime_file::{RuntimeFile, is_locked};
use crate::worker::earlier::Earlier;

/// Looks at the hub that was searched for; `status` is that of a running one.
pub(super) fn check(address: &HubAddress, found: &Found, status: Option<&Status>) -> Vec<Finding> {
    let what = format!("Port {} on {}", address.port, address.host);
    let holder = || network::holder(address.port, address.host.parse().ok());
    let own = match found {
        Found::Hub(hub) => return running(&hub.client.address(), hub.pid, status),
        Found::Closed(why) => return vec![Finding::broken(why)],
        Found::Stranger(stranger) => Finding::broken(stranger),
        Found::Other(answer) => {
            network::taken(&what, address.port, Some(answer), holder().as_ref())
        }
        Found::Nothing if is_locked(&address.log_path) => {
            Finding::broken(silent(address, &address.log_path))
        }
        Found::Nothing if !ports::is_free(&address.host, address.port) => {
            network::taken(&what, address.port, None, holder().as_ref())
        }
        Found::Nothing => {
            Finding::ok(format!("No hub runs; {what} is free").replace("Port", "port"))
        }
    };
    let earlier = Earlier::find(&address.config_path, &address.log_path);
    let mut findings = vec![own];
    findings.extend(left(left_by(&earlier), &address.runtime_files()));
    findings
}

/// A hub that answers.
fn running(at: &str, pid: Option<u32>, status: Option<&Status>) -> Vec<Finding> {
    let pid = pid.map_or_else(String::new, |pid| format!(" (PID: {pid})"));
    let Some(status) = status else {
        let what = format!("The hub at {at}{pid} answers, and does not tell its status");
        return vec![Finding::broken(what).with_hint("replace it with `restart`")];
    };
    let mut findings = vec![Finding::ok(format!("The hub runs at {at}{pid}"))];
    findings.extend(status.warnings.iter().map(Finding::warning));
    let failed = status
        .models
        .iter()
        .filter(|model| model.metadata.facts.process_state == ProcessState::Failed);
    findings.extend(failed.map(|model| {
        let note = notes::note(status, model, unix_now()).unwrap_or_default();
        Finding::broken(format!("Model `{}` {note}", model.id)).with_hint(format!(
            "`logs {0}` tells more; `start-model {0}` tries again",
            model.id
        ))
    }));
    findings
}

/// Reports the leftovers of a hub that was killed: workers, or files alone.
fn left(workers: Option<String>, files: &[(PathBuf, RuntimeFile)]) -> Vec<Finding> {
    if let Some(workers) = workers {
        return vec![Finding::warning(workers)];
    }
    let files = files.iter().map(|(folder, file)| {
        let path = RuntimeFile::path(folder);
        let what = format!(
            "`{}` is of a hub that was killed (process {}), and nothing else of it is left",
            path.display(),
            file.pid
        );
        Finding::warning(what).with_hint("`start` replaces it, `stop` removes it")
    });
    files.collect()
}

/// Ports that hub.yaml gives to models and that others have, while no hub runs.
pub(super) fn model_ports(config: &Config, files: &[(PathBuf, RuntimeFile)]) -> Vec<Finding> {
    let workers = files.iter().flat_map(|(_, file)| &file.models.workers);
    let own: Vec<u16> = workers.map(|worker| worker.port).collect();
    let set = config
        .models
        .iter()
        .filter_map(|model| Some((model, model.port?)));
    let taken =
        set.filter(|(model, port)| !own.contains(port) && !ports::is_free(&model.host, *port));
    let findings = taken.map(|(model, port)| {
        let what = format!("Port {port} of model `{}`", model.name);
        let holder = network::holder(port, model.host.parse().ok());
        network::taken(&what, port, None, holder.as_ref())
    });
    findings.collect()
}

/// The log folder that is in use: that of a running hub, which may be another than hub.yaml's.
pub(super) fn logs<'a>(address: &'a HubAddress, status: Option<&'a Status>) -> &'a Path {
    status.map_or(&address.log_path, |status| address.logs_of(status))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::told;
    use super::*;

    #[test]
    fn a_hub_that_runs_is_told_with_its_warnings_and_failed_models() {
        let model = |name: &str, state: &str| {
            json!({"id": name, "object": "model", "created": 0, "owned_by": "hub", "metadata": {
                "status": state, "process_state": state, "memory_state": "unloaded", "group": null,
                "model_type": "lm", "model_path": "org/a", "default": false, "jit_enabled": false,
                "auto_unload_minutes": null, "log_path": null, "memory_last_transition_at": null,
                "memory_last_error": "out of memory; its log ends:\n  secret", "last_load_at": null,
                "last_unload_at": null, "pid": null, "port": null, "started_at": null,
                "stopped_at": null, "exit_code": null, "active_requests": 0, "waiting_requests": 0,
                "last_request_at": null,
            }})
        };
        let status: Status = serde_json::from_value(json!({
            "status": "ok", "timestamp": 0, "host": "", "port": 1, "warnings": ["the disk is full"],
            "controller_available": true, "counts": {"registered": 0, "started": 0, "loaded": 0},
            "groups": [], "models": [model("a", "failed"), model("b", "running")],
        }))
        .unwrap();
        let all = running("127.0.0.1:8000", Some(7), Some(&status));
        insta::assert_snapshot!(told(&all), @"
        ok: The hub runs at 127.0.0.1:8000 (PID: 7)
        warning: the disk is full
        broken: Model `a` failed: out of memory; see `logs a`
          hint: `logs a` tells more; `start-model a` tries again
        ");
        let silent = told(&running("127.0.0.1:8000", None, None));
        assert!(
            silent.starts_with("broken: The hub at 127.0.0.1:8000 answers"),
            "{silent}"
        );
    }

    #[test]
    fn leftovers_are_workers_or_a_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"pid": 4711, "host": "::", "port": 1, "started_at": ""}"#;
        std::fs::write(RuntimeFile::path(folder.path()), text).unwrap();
        let files = [("/logs".into(), RuntimeFile::read(folder.path()).unwrap())];
        let workers = Some("a hub that was killed has left workers".to_owned());
        assert_eq!(
            told(&left(workers, &files)),
            "warning: a hub that was killed has left workers"
        );
        assert_eq!(left(None, &[]), []);
        insta::assert_snapshot!(told(&left(None, &files)), @"
        warning: `/logs/hub_runtime.json` is of a hub that was killed (process 4711), and nothing else of it is left
          hint: `start` replaces it, `stop` removes it
        ");
    }
}
