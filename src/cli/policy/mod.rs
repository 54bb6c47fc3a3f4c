//! `policy`: shows the policies, their decisions, and the decisions they would make.
//!
//! One verb, one file. The verbs that need a hub are clients of its control API; the others load the policies
//! beside hub.yaml into a Lua state of their own, where they cannot affect a running hub.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::hub_yaml::HubYaml;
use super::render::Out;
use super::wait_for;
use crate::config::Config;

mod check;
mod explain;
mod list;
mod record;
mod replay;
mod show;
mod test;
mod words;

/// See, check and try the Lua policies
///
/// Policies are the *.lua files beside hub.yaml and the bundled ones that it names. They decide which
/// request goes where, what is loaded and what makes room for it.
#[derive(Debug, clap::Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Check(check::Check),
    Explain(explain::Explain),
    Record(record::Record),
    Replay(replay::Replay),
    Show(show::Show),
    Test(test::Test),
}

impl Policy {
    pub(super) fn run(self, config: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        let load = || Config::load(config);
        let hub_yaml = || HubYaml::read(config);
        match self.verb {
            Verb::List(verb) => wait_for(verb.run(&hub_yaml(), out)),
            Verb::Record(verb) => wait_for(verb.run(&hub_yaml(), out)),
            Verb::Replay(verb) => Ok(verb.run(config, out)),
            Verb::Explain(verb) => wait_for(verb.run(&hub_yaml(), out)),
            Verb::Check(verb) => Ok(verb.run(&load()?, out)),
            // Bundled policies can be read without a hub.yaml, or with a broken one.
            Verb::Show(verb) => verb.run(out),
            // A test may have a configuration of its own.
            Verb::Test(verb) => verb.run(config, out),
        }
    }
}
