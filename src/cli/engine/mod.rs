//! `engine`: shows, checks and tests the engines, the files that say what a worker program is.
//!
//! One verb, one file. None of them needs a hub, or a valid hub.yaml.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::render::Out;

mod check;
mod list;
mod show;
mod test;

/// See, check and test the engines: what the hub knows of each worker program
///
/// An engine is a Lua file that makes a command line of a model's entry and says how its program shows that it
/// is ready. The bundled ones come with the hub; a file in `engines` beside hub.yaml is another, or replaces
/// the one of its name. `engine:` in hub.yaml chooses.
#[derive(Debug, clap::Args)]
pub(super) struct Engine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Check(check::Check),
    Show(show::Show),
    Test(test::Test),
}

impl Engine {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::List(verb) => Ok(verb.run(config, out)),
            Verb::Check(verb) => Ok(verb.run(config, out)),
            Verb::Show(verb) => verb.run(config, out),
            Verb::Test(verb) => verb.run(config, out),
        }
    }
}
