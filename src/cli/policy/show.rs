//! `policy show`: the policies that come with the program, to read and to copy from.

use std::process::ExitCode;

use crate::api::nearest;
use crate::cli::render::Out;
use crate::engine::first_sentence;
use crate::policy::bundled_policies;

/// Print a bundled policy, to read or to copy from
///
/// Prints the file byte for byte: `policy show lru_swap > my_swap.lua` beside hub.yaml makes it yours. Without
/// NAME it lists the bundled policies. It needs neither a hub nor a hub.yaml.
///
/// Exit status: 0; 1 when no bundled policy has that name.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The policy, as hub.yaml names it under `policies`
    name: Option<String>,
}

impl Show {
    pub(super) fn run(self, out: &mut Out) -> anyhow::Result<ExitCode> {
        match &self.name {
            Some(name) => out.text(source(name)?),
            None => list(out),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The policy of that name, which may be written as `policy list` shows it: `bundled/lru_swap.lua`.
fn source(written: &str) -> anyhow::Result<&'static str> {
    let name = written.strip_prefix("bundled/").unwrap_or(written);
    let name = name.strip_suffix(".lua").unwrap_or(name);
    if let Some((_, source)) = bundled_policies().find(|(known, _)| *known == name) {
        return Ok(source);
    }
    let names: Vec<_> = bundled_policies().map(|(name, _)| name).collect();
    let hint = match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are: {}", names.join(", ")),
    };
    anyhow::bail!("no bundled policy is called `{written}`\nhint: {hint}")
}

/// Each name with the policy's description.
fn list(out: &mut Out) {
    let width = bundled_policies()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or_default();
    for (name, source) in bundled_policies() {
        out.sentence(format_args!("{name:width$}  {}", first_sentence(source)));
    }
}
