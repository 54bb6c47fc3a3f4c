//! `share`: the files that packages put beside the program. Packagers call it; it is not in the help.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;

use super::render::Out;
use super::{Cli, completions};

/// Write the man pages and the scripts of shells into a folder
///
/// They lie there as below /usr/share: man/man1, bash-completion/completions, zsh/site-functions and
/// fish/vendor_completions.d. Existing files are overwritten.
///
/// Exit status: 0; 1 when they cannot be written.
#[derive(Debug, clap::Args)]
pub(super) struct Share {
    /// The folder, which is made if it is not there
    folder: PathBuf,
}

impl Share {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<ExitCode> {
        let shown = self.folder.display();
        let man = self.folder.join("man/man1");
        std::fs::create_dir_all(&man)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(clap_mangen::generate_to(Cli::command(), &man)?))
            .and_then(|()| completions::install(&self.folder))
            .with_context(|| format!("cannot write into `{shown}`"))?;
        out.ok(format_args!("Wrote man pages and completions into {shown}"));
        Ok(ExitCode::SUCCESS)
    }
}
