//! The file of `doctor --report`: all that somebody needs to understand a fault, and nothing that is private.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sysinfo::System;

use super::secrets::{self, Secrets};
use super::{Examined, Finding};
use crate::api::Status;
use crate::cli::completions::PROGRAM;
use crate::cli::hub_yaml::HubYaml;
use crate::config::older_log;
use crate::memory::{Probe as _, ThisMachine};
use crate::{files, telemetry};

/// Lines of each log.
const LINES: usize = 80;
/// Bytes of each log that are looked at.
const MOST: u64 = 4 << 20;

/// The file to write: the given one, or one of this moment in the working directory.
///
/// # Errors
/// When it already exists.
pub(super) fn path(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let path = given.unwrap_or_else(|| {
        let now = jiff::Zoned::now().strftime("%Y%m%d-%H%M%S").to_string();
        PathBuf::from(format!("{PROGRAM}-report-{now}.md"))
    });
    ensure!(
        !path.exists(),
        "`{}` already exists; nothing was changed\nhint: name another file, or none",
        path.display()
    );
    Ok(path)
}

/// Writes the report; its owner alone can read it.
pub(super) fn write(path: &Path, hub_yaml: &HubYaml, examined: &Examined) -> anyhow::Result<()> {
    let text = text(hub_yaml, examined);
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("`{}` cannot be written", path.display()))
}

fn text(hub_yaml: &HubYaml, examined: &Examined) -> String {
    let yaml = std::fs::read_to_string(&hub_yaml.path).unwrap_or_default();
    let environment = std::env::vars_os();
    let environment = environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let secrets = Secrets::of(&yaml, environment);
    let mut sections = vec![
        ("Machine".to_owned(), machine()),
        ("Findings".to_owned(), findings(&examined.findings)),
        (
            "hub.yaml, without values of `env`, keys and comments".to_owned(),
            secrets::hub_yaml(&yaml).unwrap_or_else(|| "(it is missing, or no YAML)".to_owned()),
        ),
    ];
    if let Some(status) = &examined.status {
        sections.push(("Status".to_owned(), of_status(status)));
    }
    let log_path = &examined.log_path;
    let end_of = |path: &Path| format!("End of {}", path.display());
    let path = telemetry::app_log(log_path);
    let of_hub = lines(&path, |text, _| {
        text.lines().filter_map(secrets::of_hub_log).collect()
    });
    sections.push((end_of(&path), of_hub));
    // Why a hub did not start, and panics.
    let path = telemetry::stderr_log(log_path);
    let said = lines(&path, |text, _| {
        text.lines().map(secrets::without_policy_text).collect()
    });
    sections.push((end_of(&path), said));
    for path in worker_logs(hub_yaml, log_path, examined.status.as_ref()) {
        let is_rotated = older_log(&path).exists();
        let of_worker = lines(&path, |text, is_whole| {
            secrets::of_worker_log(text.lines(), is_rotated || !is_whole)
        });
        sections.push((end_of(&path), of_worker));
    }
    let mut text = format!("# Report of {PROGRAM} {}\n", env!("CARGO_PKG_VERSION"));
    for (heading, body) in sections {
        let body = secrets.remove(body.trim_end());
        let heading = secrets.remove(&heading);
        // A fence that no text of a log can end.
        let _ = write!(text, "\n## {heading}\n\n``````text\n{body}\n``````\n");
    }
    text
}

fn machine() -> String {
    let unknown = || "unknown".to_owned();
    let gib = |bytes: Option<u64>| {
        bytes.map_or_else(unknown, |bytes| {
            format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
        })
    };
    let memory = ThisMachine.system();
    format!(
        "system: {} ({})\nkernel: {}\nmemory: {}, of which {} are available, pressure {}\nprocessors: {}\ntime: {}",
        System::long_os_version().unwrap_or_else(|_| unknown()),
        System::cpu_arch(),
        System::kernel_version().unwrap_or_else(|_| unknown()),
        gib(memory.total),
        gib(memory.available),
        memory.pressure.as_str(),
        std::thread::available_parallelism().map_or_else(|_| unknown(), |count| count.to_string()),
        jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S %:z"),
    )
}

fn findings(findings: &[Finding]) -> String {
    let lines = findings.iter().map(|finding| {
        let severity = format!("{:?}", finding.severity).to_lowercase();
        let text = finding.text();
        // An excerpt of hub.yaml may show a secret.
        let lines = text.lines().filter(|line| {
            let rest = line
                .trim_start()
                .trim_start_matches(|letter: char| letter.is_ascii_digit());
            !rest.trim_start().starts_with('|')
        });
        let text = lines.collect::<Vec<_>>().join("\n  ");
        format!("[{severity}] {}", secrets::without_policy_text(&text))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The status as the control API gives it, without the ends of logs in the errors of models.
fn of_status(status: &Status) -> String {
    let mut status = serde_json::to_value(status).unwrap_or_default();
    let models = status["models"].as_array_mut();
    for model in models.into_iter().flatten() {
        let error = &mut model["metadata"]["memory_last_error"];
        if let Some(text) = error.as_str() {
            *error = Value::from(text.lines().next().unwrap_or_default());
        }
    }
    let warnings = status["warnings"].as_array_mut();
    for warning in warnings.into_iter().flatten() {
        *warning = Value::from(secrets::without_policy_text(
            warning.as_str().unwrap_or_default(),
        ));
    }
    serde_json::to_string_pretty(&status).unwrap_or_default()
}

/// The logs of models, by a running hub or by hub.yaml.
fn worker_logs(hub_yaml: &HubYaml, log_path: &Path, status: Option<&Status>) -> Vec<PathBuf> {
    if let Some(status) = status {
        let models = status.models.iter();
        let paths = models.filter_map(|model| model.metadata.facts.log_path.as_deref());
        return paths.map(PathBuf::from).collect();
    }
    let models = hub_yaml.config().map_or(&[][..], |config| &config.models);
    let models = models.iter().filter(|model| !model.no_log_file);
    models.map(|model| model.log_file(log_path)).collect()
}

/// The last lines of what `keep` leaves of a log.
fn lines(path: &Path, keep: impl FnOnce(&str, bool) -> Vec<String>) -> String {
    let (text, is_whole) = match files::read_end(path, MOST) {
        Ok(read) => read,
        Err(error) => return format!("(not read: {error})"),
    };
    let plain = anstream::adapter::strip_str(&text).to_string();
    let kept = keep(&plain, is_whole);
    kept[kept.len().saturating_sub(LINES)..].join("\n")
}
