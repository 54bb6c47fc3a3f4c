//! The worker programs of hub.yaml: whether they are there and run, their versions, and whether their loads can use
//! spare processes.

use std::path::PathBuf;

use futures_util::future::join_all;

use super::finding::Finding;
use crate::cli::check::obstacles;
use crate::config::{Config, ModelConfig};
use crate::worker::command::{self, CommandError};
use crate::worker::dialect::Dialects;
use crate::worker::version;

/// A program as it was found.
struct Program {
    /// Those that it serves.
    models: Vec<String>,
    found: Result<PathBuf, CommandError>,
    /// The reason why it tells no options.
    fault: Option<String>,
    version: Option<String>,
    /// Options of hub.yaml that it lacks.
    warnings: Vec<String>,
}

/// Looks for the programs of all models, and asks each for its options and its version.
pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let dialects = Dialects::default();
    let mut groups: Vec<Vec<&ModelConfig>> = Vec::new();
    for model in &config.models {
        let key = |model: &ModelConfig| {
            let found = command::of_model(model);
            (
                found,
                model.worker_command.clone(),
                model.engine.name.clone(),
            )
        };
        match groups.iter_mut().find(|group| key(group[0]) == key(model)) {
            Some(group) => group.push(model),
            None => groups.push(vec![model]),
        }
    }
    let programs = groups.iter().map(|models| program(models, &dialects));
    let mut findings = told(&join_all(programs).await);
    findings.extend(obstacles(config).into_iter().map(|obstacle| {
        Finding::note(format!("No spare processes: {obstacle}")).with_hint(
            "loads take as long as without them; programs that pip or uv has installed can have them",
        )
    }));
    findings
}

async fn program(models: &[&ModelConfig], dialects: &Dialects) -> Program {
    let first = models[0];
    let (dialect, version) = tokio::join!(dialects.of_model(first), version::of_model(first));
    let mut warnings = Vec::new();
    let mut fault = dialect.as_ref().err().cloned();
    let mut found = command::of_model(first);
    for (model, line) in dialect.iter().flat_map(|dialect| {
        let models = models.iter();
        models.map(|model| (model, dialect.command_line(model, 0)))
    }) {
        match line {
            Ok(line) => {
                if let Err(error) = line.resolved(model) {
                    found = Err(error);
                }
                warnings.extend(line.warnings);
            }
            Err(problem) => fault = fault.or(Some(problem)),
        }
    }
    Program {
        models: models.iter().map(|model| model.name.clone()).collect(),
        found,
        warnings,
        fault,
        version,
    }
}

fn told(programs: &[Program]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for program in programs {
        let models = program.models.join(", ");
        findings.push(match (&program.found, &program.fault, &program.version) {
            (Err(error), ..) => Finding::broken(format!("{models}: {error}")),
            (Ok(_), Some(fault), _) => Finding::broken(format!("{models}: {fault}")).with_hint(
                "run it in a terminal to see more, install it anew, or set another `worker_command`",
            ),
            (Ok(path), None, version) => {
                let version = version.as_ref();
                let version = version.map_or("its version is unknown", |version| version);
                Finding::ok(format!("Worker program: {} ({version})", path.display()))
            }
        });
        findings.extend(program.warnings.iter().map(|warning| {
            Finding::warning(warning).with_hint("upgrade the worker, or remove the key")
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding;
    use super::*;
    use crate::worker::command::Install;

    #[test]
    fn a_program_is_told_with_its_version_and_one_that_is_missing_or_broken_with_its_models() {
        let program = |found, fault: Option<&str>, version: Option<&str>| Program {
            models: vec!["a".to_owned(), "b".to_owned()],
            found,
            fault: fault.map(str::to_owned),
            version: version.map(str::to_owned),
            warnings: Vec::new(),
        };
        let path = PathBuf::from("/opt/bin/worker");
        let missing = CommandError::NotFound {
            program: "worker".to_owned(),
            install: Some(Install {
                program: "mlx-openai-server".to_owned(),
                with: "`uv tool install --python 3.12 mlx-openai-server` or `pip install mlx-openai-server`"
                    .to_owned(),
            }),
        };
        let old = Program {
            warnings: vec!["model `a`: `debug` is ignored".to_owned()],
            ..program(Ok(path.clone()), None, None)
        };
        let programs = [
            program(Ok(path.clone()), None, Some("1.8.1")),
            old,
            program(Ok(path), Some("`worker launch --help` failed"), None),
            program(Err(missing), Some("it is not there"), None),
        ];
        insta::assert_snapshot!(finding::told(&told(&programs)), @"
        ok: Worker program: /opt/bin/worker (1.8.1)
        ok: Worker program: /opt/bin/worker (its version is unknown)
        warning: model `a`: `debug` is ignored
          hint: upgrade the worker, or remove the key
        broken: a, b: `worker launch --help` failed
          hint: run it in a terminal to see more, install it anew, or set another `worker_command`
        broken: a, b: the worker command `worker` was not found on PATH, nor beside the hub
          hint: install it with `uv tool install --python 3.12 mlx-openai-server` or `pip install mlx-openai-server`, or set `worker_command` to where it is
        ");
    }
}
