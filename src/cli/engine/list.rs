//! `engine list`: the engines, and what each can serve.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::render::Out;
use crate::engine::{Engines, NoEngine};

/// List the engines: what each serves, and which of hub.yaml's folder replace bundled ones
///
/// Exit status: 0.
#[derive(Debug, clap::Args)]
pub(super) struct List {}

impl List {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> ExitCode {
        let engines = Engines::beside(config);
        for name in engines.names() {
            match engines.find(&name) {
                Ok(engine) => {
                    let origin = match engine.is_bundled {
                        true => "bundled",
                        false => &engine.file,
                    };
                    out.sentence(format_args!("{name} ({origin}): {}", engine.type_words()));
                    if !engine.about().is_empty() {
                        out.sentence(format_args!("  {}", engine.about()));
                    }
                }
                Err(NoEngine::Broken(problem)) => out.err(problem),
                // Its file has gone meanwhile.
                Err(NoEngine::Unknown(_)) => {}
            }
        }
        ExitCode::SUCCESS
    }
}
