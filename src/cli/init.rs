//! `init`: a hub.yaml to begin with. The text is the project's own example.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::config_verbs::keep_schema_beside;
use super::hub_command;
use super::render::Out;
use crate::config::{self, Config};
use crate::worker::command;

/// The written text. A test of the examples loads it.
const STARTER: &str = include_str!("../../examples/hub.yaml");

/// Write a hub.yaml to begin with
///
/// Creates ~/mlx-openai-server-hub/hub.yaml (or the file that --config or MLX_HUB_CONFIG_PATH names) and
/// its folder: three models, a group, a policy, and a comment on every key it uses. A file that is there already
/// is never overwritten.
///
/// Exit status: 0; 1 when there is a file already or it cannot be written.
#[derive(Debug, clap::Args)]
pub(super) struct Init {}

impl Init {
    pub(super) fn run(self, path: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        write_new(path)?;
        keep_schema_beside(path, STARTER.as_bytes());
        let config = Config::load(path)?;
        let model = &config.models[0];
        out.ok(format_args!("Wrote {}", path.display()));
        out.line("Its models are examples: put in those you want. Then:");
        if command::find(&model.worker_command, &model.env).is_err() {
            out.line("  uv tool install mlx-openai-server");
        }
        out.line(format_args!("  {}", hub_command(path, &["check"])));
        out.line(format_args!("  {}", hub_command(path, &["start"])));
        Ok(ExitCode::SUCCESS)
    }
}

/// Creates the file in one step, so that a file that appears meanwhile is not overwritten.
fn write_new(path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder `{}`", folder.display()))?;
    }
    let shown = path.display();
    let new = OpenOptions::new().write(true).create_new(true).open(path);
    let written = new.and_then(|mut file| file.write_all(STARTER.as_bytes()));
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && !path.exists() => {
            anyhow::bail!(
                config::dangling(path).unwrap_or_else(|| format!("`{shown}` comes and goes"))
            )
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => anyhow::bail!(
            "`{shown}` already exists; it is left unchanged\n\
             hint: move it away, or write another with `--config PATH`"
        ),
        written => written.with_context(|| format!("cannot write `{shown}`")),
    }
}
