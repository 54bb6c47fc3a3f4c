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
pub(super) mod test;
mod words;

/// See, check and try the Lua policies
///
/// Policies are the *.lua files beside hub.yaml and the bundled ones that it names. They decide which
/// request goes where, what is loaded and what makes room for it.
#[derive(Debug, clap::Args)]
pub(super) struct Policy {
    #[command(subcommand)]
    verb: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
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
            PolicyCommand::List(verb) => wait_for(verb.run(&hub_yaml(), out)),
            PolicyCommand::Record(verb) => wait_for(verb.run(&hub_yaml(), out)),
            PolicyCommand::Replay(verb) => Ok(verb.run(config, out)),
            PolicyCommand::Explain(verb) => wait_for(verb.run(&hub_yaml(), out)),
            PolicyCommand::Check(verb) => Ok(verb.run(&load()?, out)),
            // Bundled policies can be read without a hub.yaml, or with a broken one.
            PolicyCommand::Show(verb) => verb.run(out),
            // A test may have a configuration of its own.
            PolicyCommand::Test(verb) => verb.run(config, out),
        }
    }
}
