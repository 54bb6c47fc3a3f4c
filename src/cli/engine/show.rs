//! `engine show`: an engine's file, to read and to copy from.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::render::Out;
use crate::engine::{Engines, NoEngine};

/// Print the file of an engine, to read or to copy from
///
/// Prints it byte for byte: `engine show mlx_lm > engines/mlx_lm.lua` beside hub.yaml makes it yours, and yours
/// is used from then on.
///
/// Exit status: 0; 1 when no engine has that name.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The engine, as hub.yaml names it
    engine: String,
}

impl Show {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        let name = self.engine.strip_suffix(".lua").unwrap_or(&self.engine);
        match Engines::beside(config).find(name) {
            Ok(engine) => out.text(&engine.source),
            Err(NoEngine::Broken(problem)) => anyhow::bail!(problem),
            Err(NoEngine::Unknown(hint)) => {
                anyhow::bail!("no engine is called `{name}`\nhint: {hint}")
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
