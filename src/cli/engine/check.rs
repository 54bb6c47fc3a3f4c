//! `engine check`: loads the engines and calls their functions with samples.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::render::Out;
use crate::config::schema;
use crate::engine::{Answer, Cli, Engine, Engines, Model, NoEngine};

/// Load every engine and call its functions with samples
///
/// Reads the files in `engines` beside hub.yaml and the bundled ones, and calls each function as for a model
/// of every type that the engine serves, with a program that lists no options. What fails, or returns what it
/// may not, is shown with file, line and what would be right. It runs no program and asks no hub; `check` shows
/// the command lines of hub.yaml's models. If hub.yaml names a schema beside it, that gets the engines' keys.
///
/// Exit status: 0 when nothing is wrong; 1 when something is.
#[derive(Debug, clap::Args)]
pub(super) struct Check {}

impl Check {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> ExitCode {
        let engines = Engines::beside(config);
        let mut problems = 0;
        for name in engines.names() {
            let checked = match engines.find(&name) {
                Ok(engine) => try_out(&engine).map(|()| engine),
                Err(NoEngine::Broken(problem)) => Err(problem),
                Err(NoEngine::Unknown(_)) => continue,
            };
            match checked {
                Ok(engine) => out.ok(format_args!("{}: {}", engine.file, engine.type_words())),
                Err(problem) => {
                    problems += 1;
                    out.err(problem);
                }
            }
        }
        // Editors then know the keys of a new engine.
        if let Ok(written) = std::fs::read(config) {
            schema::keep_beside(config, &written);
        }
        match problems {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

/// Calls every function of an engine.
///
/// # Errors
/// The first problem, with its place.
fn try_out(engine: &Engine) -> Result<(), String> {
    let cli = Arc::<Cli>::default();
    let options = engine.samples();
    for model_type in &engine.types {
        let model = Model {
            mark: "mark",
            name: "sample",
            path: "org/sample",
            model_type: *model_type,
            host: "127.0.0.1",
            port: 47_850,
            log_level: "INFO",
            jit_enabled: true,
            options: &options,
        };
        engine.check(&model)?;
        engine.program_of(&model)?;
        engine.speaks(&model)?;
        let argv = engine.plan(&model, &cli)?.argv;
        engine.ready_path(&model)?;
        for (status, body) in [(200, "{}"), (200, "ok"), (404, ""), (503, "{}")] {
            let answer = Answer {
                status,
                body: body.as_bytes(),
                argv: &argv,
            };
            engine.understand(&answer, &model)?;
        }
    }
    Ok(())
}
