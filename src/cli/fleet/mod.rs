//! `fleet`: the hub as a member of a fleet behind a gateway.

use std::process::ExitCode;

use clap::Subcommand;

use super::hub_yaml::HubYaml;
use super::progress;
use super::render::Out;
use crate::api::{FleetReport, FleetState};

mod configuration;
mod files;

/// See and change the hub's place in a fleet of hubs
///
/// Several Macs answer under one address if a gateway stands before their hubs. `fleet` in hub.yaml
/// names it; the hub then registers its started models there, and keeps that true. docs/fleet.md
/// shows how.
///
/// Examples:
///   mlx-openai-server-hub fleet status       what the gateway knows of this hub
///   mlx-openai-server-hub fleet drain        send new requests elsewhere, before an update
///   mlx-openai-server-hub fleet config smg   the command that runs a gateway
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Fleet {
    #[command(subcommand)]
    verb: FleetCommand,
}

#[derive(Debug, Subcommand)]
enum FleetCommand {
    Status(ShowFleet),
    Drain(Drain),
    Undrain(Undrain),
    Config(configuration::Configuration),
}

/// Show what the gateway knows of this hub, and what differs
///
/// One line for each started model: the address at which the gateway asks for it, and the gateway's
/// word for its state. A model that the gateway takes for something else has a line that says so;
/// the hub has corrected it by then, and reads it back at the next heartbeat.
///
/// Exit status: 0 when the gateway knows the hub as it is, or the hub is drained; 1 when it does not,
/// hub.yaml has no `fleet`, or the hub does not run.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct ShowFleet {
    /// Print the report as the control API gives it
    #[arg(long)]
    json: bool,
}

/// Send new requests to other hubs
///
/// Takes the hub out of the gateway, answers 503 to `GET /health/ready` and to what gateways send,
/// and goes on with all that has begun. Requests that clients send to this hub themselves are
/// answered as before. The hub stays drained over `restart`, and until `fleet undrain` or its end.
///
/// Exit status: 0; 1 when the gateway cannot be told, or the hub does not run.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct Drain {}

/// Take requests of gateways again
///
/// Undoes `fleet drain`: the hub registers with its gateway.
///
/// Exit status: 0; 1 when the gateway cannot be told, or the hub does not run.
#[derive(Debug, clap::Args)]
struct Undrain {}

impl Fleet {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        match self.verb {
            FleetCommand::Status(verb) => verb.run(hub_yaml, out).await,
            FleetCommand::Drain(Drain {}) => drain(hub_yaml, out).await,
            FleetCommand::Undrain(Undrain {}) => undrain(hub_yaml, out).await,
            FleetCommand::Config(verb) => verb.run(hub_yaml, out).await,
        }
    }
}

impl ShowFleet {
    async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let hub = hub_yaml.running_hub().await?;
        let report = hub.client.fleet().await?;
        match self.json {
            true => out.line(serde_json::to_string_pretty(&report)?),
            false => show(&report, out),
        }
        Ok(match report.state {
            FleetState::Alone => ExitCode::FAILURE,
            _ => exit(&report),
        })
    }
}

async fn drain(hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
    let hub = hub_yaml.running_hub().await?;
    let report = progress::show("taking the hub out of its fleet", hub.client.drain()).await?;
    out.ok("Drained: what gateways send is refused, and what has begun goes on");
    out.line("Take requests again with `mlx-openai-server-hub fleet undrain`.");
    trouble(&report, out);
    Ok(exit(&report))
}

async fn undrain(hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
    let hub = hub_yaml.running_hub().await?;
    let report = progress::show("registering with the gateway", hub.client.undrain()).await?;
    out.ok("Not drained: requests of gateways are taken");
    trouble(&report, out);
    Ok(exit(&report))
}

fn exit(report: &FleetReport) -> ExitCode {
    let is_well = match report.state {
        FleetState::Member | FleetState::Out => true,
        // Without a gateway of its own, a drained hub is all that was asked for.
        FleetState::Alone => true,
        FleetState::Joining | FleetState::Differs | FleetState::Unreachable => false,
    };
    match is_well {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn show(report: &FleetReport, out: &mut Out) {
    let Some(gateway) = &report.gateway else {
        out.info("hub.yaml has no `fleet`: this hub registers nowhere");
        readiness(report, out);
        return;
    };
    let word = match report.state {
        FleetState::Member => "knows this hub as it is",
        FleetState::Out => "has no entry of this hub",
        FleetState::Differs => "takes this hub for something else, and has been told",
        FleetState::Joining | FleetState::Alone => "has not been asked yet",
        FleetState::Unreachable => "is not reached",
    };
    let line = format!("The gateway {gateway} {word}");
    match report.state {
        FleetState::Member | FleetState::Out => out.ok(line),
        FleetState::Joining | FleetState::Alone => out.info(line),
        FleetState::Differs | FleetState::Unreachable => out.warn(line),
    }
    if let Some(error) = &report.error {
        out.line(error);
    }
    for entry in &report.entries {
        let status = entry.status.as_deref().unwrap_or("unknown");
        out.line(format_args!("  {} {} {status}", entry.model, entry.url));
        for differs in &entry.differs {
            out.line(format_args!("    {differs}"));
        }
    }
    readiness(report, out);
}

/// Says why gateways are to send nothing.
fn readiness(report: &FleetReport, out: &mut Out) {
    if let Some(why) = &report.not_ready {
        out.line(format_args!("GET /health/ready answers 503: {why}"));
    }
}

/// Says what the gateway could not be told.
fn trouble(report: &FleetReport, out: &mut Out) {
    if let Some(error) = &report.error {
        out.warn(format_args!("The gateway could not be told: {error}"));
    } else if report.state == FleetState::Differs {
        out.warn(
            "The gateway has not done all of it yet; see `mlx-openai-server-hub fleet status`",
        );
    }
}
