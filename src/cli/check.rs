//! `check`: checks hub.yaml and the policies, and shows the processes they would start. Starts and binds
//! nothing.

use std::process::ExitCode;
use std::sync::Arc;

use super::progress;
use super::render::Out;
use crate::config::ports::PortBook;
use crate::config::{Config, GroupConfig, ModelConfig};
use crate::policy::{Policies, Unstarted};
use crate::worker::dialect::{CommandLine, Dialects};
use crate::worker::ranks::Ranks;
use crate::worker::{command, spare};

/// Check hub.yaml and the policies, and show what they would start
///
/// Reads hub.yaml and the *.lua files beside it, asks the worker program which options it has, and
/// prints each model with its port, the groups, and everything that deserves a warning. With --verbose it
/// prints the command line of each model too. It starts nothing and asks no running hub.
///
/// Ports are those of a machine where none is taken: the hub itself moves on to the next free one.
///
/// Exit status: 0 when hub.yaml and every policy are valid, also without the worker program; 1 when not, and when
/// a machine lacks something with --hosts.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Show the command line of each model
    #[arg(long, short)]
    verbose: bool,
    /// Ask the other machines of a model over ssh whether they have what it needs; changes nothing there
    #[arg(long)]
    hosts: bool,
}

/// The plan for one model.
struct ModelPlan<'a> {
    model: &'a ModelConfig,
    port: u16,
    /// Unknown without the worker program.
    worker: Option<Worker>,
}

struct Worker {
    /// True if it stays up without the weights.
    is_resident: bool,
    argv: Vec<String>,
    /// The other machines on which it has processes.
    hosts: Vec<String>,
    /// What must be at the same path there.
    needs: Vec<String>,
}

impl Check {
    pub(super) async fn run(self, config: &Config, out: &mut Out) -> anyhow::Result<ExitCode> {
        let world = Arc::new(Unstarted::new(config.clone()));
        let policies = Policies::load(config.folder(), &config.policies, world);
        let mut warnings = config.warnings.clone();
        warnings.extend(config.missing_paths());
        let asking = plans(config, &mut warnings);
        let plans = progress::show("asking the worker program", asking).await?;

        out.ok(format_args!("{}", config.path.display()));
        let broken = policies.warnings();
        for problem in &broken {
            out.err(problem);
        }
        out.ok(format_args!("policies: {}", policies.names().join(", ")));
        for warning in &warnings {
            out.warn(warning);
        }
        out.sentence(format_args!("Hub: {} port {}", config.host, config.port));
        out.status_page(config.enable_status_page);
        out.log_path(&config.log_path);
        for obstacle in obstacles(config) {
            out.sentence(format_args!("No spare processes: {obstacle}"));
        }
        out.sentence("Models:");
        for plan in &plans {
            plan.print(self.verbose, out);
        }
        if plans.iter().any(|plan| plan.model.port.is_none()) {
            out.sentence(
                "A model whose port is taken gets the next free one, unless hub.yaml sets its port.",
            );
        }
        if !self.verbose && plans.iter().any(|plan| plan.worker.is_some()) {
            out.sentence("To see the command lines: `check --verbose`");
        }
        if !config.groups.is_empty() {
            out.sentence("Groups:");
        }
        for group in &config.groups {
            out.sentence(format_args!("  {}: {}", group.name, rule(config, group)));
        }
        let lacking = match self.hosts {
            true => progress::show("asking the other machines", lacking(&plans)).await,
            false => Vec::new(),
        };
        for lack in &lacking {
            out.err(lack);
        }
        if broken.is_empty() && warnings.is_empty() && lacking.is_empty() {
            out.ok("Nothing is wrong");
        }
        Ok(match broken.is_empty() && lacking.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// The reasons why programs can have no spare processes, each once.
pub(super) fn obstacles(config: &Config) -> Vec<String> {
    let mut obstacles: Vec<String> = Vec::new();
    let models = config.models.iter().filter(|_| config.spares > 0);
    for obstacle in models.filter_map(spare::obstacle) {
        if !obstacles.contains(&obstacle) {
            obstacles.push(obstacle);
        }
    }
    obstacles
}

/// A plan for each model, with the warnings of its worker program.
async fn plans<'a>(
    config: &'a Config,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Vec<ModelPlan<'a>>> {
    // Only the daemon probes for taken ports.
    let all_free = Box::new(|_: &str, _| true);
    let mut ports = PortBook::with_probe(config.port, config.model_starting_port, all_free);
    ports.assign(&config.models, &|_| false)?;
    let dialects = Dialects::default();
    let mut plans = Vec::new();
    for model in &config.models {
        let port = ports.port_of(&model.name).unwrap_or_default();
        let dialect = dialects.of_model(model).await;
        let worker = match dialect.and_then(|dialect| dialect.command_line(model, port)) {
            Ok(line) => {
                let needs = needs(model, &line);
                if let Err(error) = line.resolved(model) {
                    warnings.push(format!("model `{}`: {error}", model.name));
                }
                warnings.extend(line.warnings);
                let hosts = line.hosts;
                let mut argv = line.argv;
                // A shell would not find it by its name.
                if let Some(path) = command::beside(&model.worker_command, &model.env) {
                    argv[line.program_at] = path.display().to_string();
                }
                Some(Worker {
                    is_resident: line.is_resident,
                    argv,
                    hosts,
                    needs,
                })
            }
            Err(reason) => {
                // Models share a program, and its absence is one problem.
                if !warnings.contains(&reason) {
                    warnings.push(reason);
                }
                None
            }
        };
        plans.push(ModelPlan {
            model,
            port,
            worker,
        });
    }
    Ok(plans)
}

/// What the other machines of a model must have at the same path as this one.
fn needs(model: &ModelConfig, line: &CommandLine) -> Vec<String> {
    let program = command::of_model(model).ok();
    let program = program.map(|program| program.display().to_string());
    let mut needs = vec![program.unwrap_or_else(|| line.argv[line.program_at].clone())];
    // An id is downloaded there.
    if model.resolved_path.starts_with('/') {
        needs.push(model.resolved_path.clone());
    }
    needs
}

/// What the other machines lack, a sentence for each.
async fn lacking(plans: &[ModelPlan<'_>]) -> Vec<String> {
    let mut problems = Vec::new();
    for plan in plans {
        let Some(worker) = &plan.worker else { continue };
        for host in &worker.hosts {
            let name = &plan.model.name;
            match Ranks::lacks(host, &worker.needs).await {
                Ok(paths) => problems.extend(
                    (paths.iter()).map(|path| format!("model `{name}`: `{host}` has no `{path}`")),
                ),
                Err(problem) => problems.push(format!("model `{name}`: {problem}")),
            }
        }
    }
    problems
}

impl ModelPlan<'_> {
    fn print(&self, is_verbose: bool, out: &mut Out) {
        let (start, load) = (self.start(), self.load());
        out.sentence(format_args!("  {} (port {})", self.model.name, self.port));
        out.sentence(format_args!("    {start}; {load}"));
        // Values may be secret.
        let names: Vec<_> = self.model.env.keys().map(String::as_str).collect();
        if !names.is_empty() {
            out.sentence(format_args!(
                "    with {} in its environment",
                names.join(", ")
            ));
        }
        // The warning about a missing program says why there is none.
        let Some(worker) = &self.worker else { return };
        if is_verbose {
            out.command_line(4, &worker.argv);
        }
        for host in &worker.hosts {
            let needs = worker.needs.join("` and `");
            out.sentence(format_args!(
                "    {host} needs ssh without a password, and `{needs}`"
            ));
        }
    }

    fn start(&self) -> String {
        match self.model.default {
            true => "starts with the hub".to_owned(),
            false => format!("waits for `start-model {}`", self.model.name),
        }
    }

    fn load(&self) -> String {
        let model = self.model;
        if !model.jit_enabled {
            return "loads at its start".to_owned();
        }
        let process = match &self.worker {
            Some(worker) if worker.is_resident => " (its process is up before that)",
            Some(_) => " (without a process before that)",
            None => "",
        };
        let unload = model
            .auto_unload_minutes
            .map(|minutes| format!(", unloads after {minutes} minutes without one"))
            .unwrap_or_default();
        format!("loads for its first request{process}{unload}")
    }
}

/// The effect of a group on its members.
fn rule(config: &Config, group: &GroupConfig) -> String {
    let members: Vec<_> = config
        .members(&group.name)
        .map(|model| model.name.as_str())
        .collect();
    let members = match members[..] {
        [] => "no members".to_owned(),
        _ => members.join(", "),
    };
    let Some(most) = group.max_loaded else {
        return format!("no cap ({members})");
    };
    let idle = group
        .idle_unload_trigger_min
        .map(|minutes| format!("; each unloads after {minutes} minutes without a request"))
        .unwrap_or_default();
    format!("at most {most} loaded at once ({members}){idle}")
}
