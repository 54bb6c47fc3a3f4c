//! `doctor`: looks for what is wrong on this machine, or will be, and says what to do.
//!
//! A check gathers its facts, and a function without I/O makes [`Finding`]s of them. It asks a running hub, and
//! starts, binds and changes nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use super::find::Found;
use super::hub_yaml::HubYaml;
use super::launch::proxies;
use super::progress;
use super::render::Out;
use super::service::Installed;
use crate::api::Status;
use crate::config::Config;
use crate::daemon::descriptor_limit;
use crate::memory::{self, Probe as _, ThisMachine};
use crate::policy::{Policies, Unstarted};
use crate::runtime_file::RuntimeFile;
use crate::telemetry;
use disk::{Folder, OnDisk};
use finding::{Finding, Severity};

mod disk;
mod finding;
mod hub;
mod machine;
mod network;
mod report;
mod secrets;
mod services;
mod workers;

/// Look for what is wrong, and say what to do
///
/// Looks at hub.yaml and the policies, the worker programs, the files of models, the hub and what a
/// killed one has left, its port, its services, memory, disk, open files, firewall and clock. It
/// changes nothing.
///
/// Examples:
///   mlx-openai-server-hub doctor
///   mlx-openai-server-hub doctor --report
///
/// Exit status: 0, also with warnings; 1 when something is broken.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Doctor {
    /// Print the findings as JSON
    #[arg(long, conflicts_with = "report")]
    json: bool,
    /// Write a file for a bug report too: versions, findings, hub.yaml, status and ends of logs, without texts of
    /// requests and without keys
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    #[expect(
        clippy::option_option,
        reason = "clap's way to say: with or without a value"
    )]
    report: Option<Option<PathBuf>>,
}

/// The findings, and the facts of the hub that they are about.
struct Examined {
    findings: Vec<Finding>,
    /// That of a running hub.
    status: Option<Status>,
    log_path: PathBuf,
}

impl Doctor {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let file = self.report.map(report::path).transpose()?;
        let examining = Box::pin(examine(hub_yaml));
        let examined =
            progress::show("looking at the worker programs and the hub", examining).await;
        let findings = &examined.findings;
        if self.json {
            out.line(serde_json::to_string_pretty(findings)?);
        } else {
            for finding in findings {
                finding.print(out);
            }
            out.line(finding::sum(findings));
        }
        if let Some(file) = file {
            report::write(&file, hub_yaml, &examined)?;
            out.ok(format_args!(
                "Wrote {}; read it before you attach it to a report",
                file.display()
            ));
        }
        let is_broken = findings.iter().any(|one| one.severity == Severity::Broken);
        Ok(match is_broken {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }
}

async fn examine(hub_yaml: &HubYaml) -> Examined {
    let address = hub_yaml.hub_address();
    let found = address.look().await;
    let status = match &found {
        Found::Hub(hub) => hub.client.status().await.ok(),
        _ => None,
    };
    let log_path = hub::logs(&address, status.as_ref()).to_owned();
    let mut findings = Vec::new();
    match hub_yaml.config() {
        Ok(config) => findings.extend(of_hub_yaml(config, status.as_ref()).await),
        Err(error) => findings.push(Finding::broken(format!("{error:#}"))),
    }
    findings.extend(hub::check(&address, &found, status.as_ref()));
    if let (Ok(config), false) = (hub_yaml.config(), matches!(found, Found::Hub(_))) {
        findings.extend(hub::model_ports(config, &address.runtime_files()));
    }
    findings.extend(network::beside(&address).await);
    let addresses = network::addresses_of(&address.host);
    let has_keys = hub_yaml
        .config()
        .is_ok_and(|config| !config.api_keys.is_empty());
    findings.extend(network::host(&address.host, &addresses, has_keys));
    if let Some(firewall) = network::Firewall::ask().await {
        let is_open = addresses.iter().flatten().any(|(ip, _)| !ip.is_loopback());
        findings.extend(network::firewall(&firewall, is_open));
    }
    findings.extend(network::proxy(
        proxies::in_the_way("127.0.0.1"),
        "127.0.0.1",
    ));
    let models = hub_yaml.config().map_or(&[][..], |config| &config.models);
    let installed = Installed::all(&address.config_path).await;
    findings.extend(services::check(&installed, models, &variable));
    if let (Ok(config), true) = (hub_yaml.config(), cfg!(target_os = "macos")) {
        findings.extend(services::local_network(&installed, config));
    }
    findings.extend(disk::logs(&Folder::at(&log_path)));
    findings.extend(of_machine(&hub_yaml.path, &log_path));
    // A running hub tells some of what is found here too.
    let mut unique: Vec<Finding> = Vec::new();
    for finding in findings {
        if unique.iter().all(|known| known.what != finding.what) {
            unique.push(finding);
        }
    }
    Examined {
        findings: unique,
        status,
        log_path,
    }
}

/// The checks that need a valid hub.yaml.
async fn of_hub_yaml(config: &Config, status: Option<&Status>) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(config.path.display())];
    let warnings = config.warnings.iter().cloned();
    findings.extend(warnings.chain(config.missing_paths()).map(Finding::warning));
    let world = Arc::new(Unstarted::new(config.clone()));
    let policies = Policies::load(config.folder(), &config.policies, world);
    findings.extend(policies.warnings().into_iter().map(Finding::broken));
    findings.extend(workers::check(config).await);
    let on_disk: Vec<OnDisk> = config.models.iter().map(OnDisk::of).collect();
    let offline = config
        .models
        .iter()
        .map(|model| disk::is_offline(model, &variable));
    findings.extend(disk::models(config, &on_disk, &offline.collect::<Vec<_>>()));
    let files: Vec<_> = on_disk.iter().map(OnDisk::files).collect();
    let asked = machine::Demand::of(config, &files);
    let memory = machine::Memory::of(config, status);
    findings.extend(machine::memory(&asked, &config.groups, memory));
    findings
}

fn of_machine(config_path: &Path, log_path: &Path) -> Vec<Finding> {
    let program = std::env::current_exe().unwrap_or_default();
    let (app_log, runtime_file) = (telemetry::app_log(log_path), RuntimeFile::path(log_path));
    let changed = machine::changed(&[&program, config_path, &app_log, &runtime_file]);
    let limit = machine::wired_limit(memory::wired_limit(), ThisMachine.system().total);
    let mut findings = Vec::from_iter(limit);
    findings.extend(machine::open_files(descriptor_limit()));
    findings.push(machine::clock(SystemTime::now(), &changed));
    findings
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
