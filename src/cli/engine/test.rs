//! `engine test`: runs the tests of engines.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli::policy::test::{run_all, tests_in};
use crate::cli::render::Out;
use crate::engine::Engines;

/// Run tests of engines: this entry and this help give that command line
///
/// A test is a *_test.lua file in `engines` beside hub.yaml, with `test.engine` in the place of a simulated
/// hub. It starts nothing. docs/engines.md shows how to write one.
///
/// Exit status: 0 when every case passed; 1 when one failed, or there is none.
#[derive(Debug, clap::Args)]
pub(super) struct Test {
    /// The tests to run; without any, all *_test.lua in the folder `engines` beside hub.yaml
    files: Vec<PathBuf>,
}

impl Test {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        let folder = config.parent().unwrap_or(Path::new("."));
        let files = match self.files.is_empty() {
            true => tests_in(&folder.join(Engines::FOLDER), "docs/engines.md")?,
            false => self.files,
        };
        Ok(run_all(&files, config, out))
    }
}
