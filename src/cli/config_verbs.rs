//! `config`: where hub.yaml is, what may be in it, and an editor for it.

use std::ffi::OsString;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use clap::Subcommand;

use super::hub_yaml::HubYaml;
use super::question;
use super::reload;
use super::render::Out;
use super::wait_for;
use crate::config::{Config, ConfigError, schema};

/// The editor of a user who has named none.
const EDITOR: &str = "vi";

/// See and edit hub.yaml
///
/// `config path` prints where it is, `config edit` opens it in your editor, checks it and has the running
/// hub read it, and `config schema` prints what may be in it, for editors.
#[derive(Debug, clap::Args)]
pub(super) struct ConfigVerbs {
    #[command(subcommand)]
    verb: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the path of hub.yaml
    ///
    /// The one that --config or MLX_HUB_CONFIG_PATH names, or the default one; it need not exist.
    ///
    /// Exit status: 0.
    Path,
    /// Edit hub.yaml, check it, and have the running hub read it
    ///
    /// Opens hub.yaml in $VISUAL or $EDITOR, else in vi. When the editor ends, hub.yaml is checked. If it has
    /// mistakes, you may edit it again or go back to what it was. If it has none and a hub runs, the hub
    /// reads it, as with `reload`.
    ///
    /// Exit status: 0; 1 when hub.yaml is not valid, or the editor or the reload fails.
    Edit,
    /// Print the JSON schema of hub.yaml
    ///
    /// Editors complete keys and mark mistakes with it. It has the keys of the engines in `engines` beside
    /// hub.yaml too. `init` puts it beside hub.yaml, whose first line names it.
    ///
    /// Exit status: 0.
    Schema,
}

impl ConfigVerbs {
    pub(super) fn run(self, path: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        match self.verb {
            ConfigCommand::Path => out.line(path.display()),
            ConfigCommand::Edit => return edit(path, out),
            ConfigCommand::Schema => out.text(&schema::text(path)),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn edit(path: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
    let shown = path.display();
    let before = std::fs::read(path).map_err(|_| match Config::load(path) {
        Err(error) => anyhow::Error::from(error),
        Ok(_) => anyhow::anyhow!("`{shown}` cannot be read"),
    })?;
    schema::keep_beside(path, &before);
    loop {
        open_editor(path)?;
        let is_changed = std::fs::read(path).ok().as_ref() != Some(&before);
        let config = match Config::load(path) {
            Ok(config) => config,
            Err(error) if !question::can_ask() => return Err(error.into()),
            Err(error) => match what_now(&error, is_changed)? {
                Next::Edit => continue,
                Next::GoBack => {
                    std::fs::write(path, &before)
                        .with_context(|| format!("cannot write `{shown}`"))?;
                    out.info(format_args!("{shown} is what it was before"));
                    return Ok(ExitCode::FAILURE);
                }
                Next::Leave => return Ok(ExitCode::FAILURE),
            },
        };
        for warning in config.warnings.iter().chain(&config.missing_paths()) {
            out.warn(warning);
        }
        if !is_changed {
            out.info(format_args!("{shown} is unchanged"));
            return Ok(ExitCode::SUCCESS);
        }
        out.ok(format_args!("{shown}: nothing is wrong with it"));
        return wait_for(read_by_hub(path, out));
    }
}

/// Has the running hub read it, if one runs.
async fn read_by_hub(path: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
    let hub_yaml = HubYaml::read(path);
    match hub_yaml.hub_address().hub().await? {
        Some(_) => reload::Reload {}.run(&hub_yaml, out).await,
        None => Ok(ExitCode::SUCCESS),
    }
}

/// Opens a file in the user's editor, and waits until it is closed.
fn open_editor(path: &Path) -> anyhow::Result<()> {
    let named = |variable| std::env::var_os(variable).filter(|editor| !editor.is_empty());
    let editor = named("VISUAL")
        .or_else(|| named("EDITOR"))
        .unwrap_or_else(|| EDITOR.into());
    // It may have arguments, as in `code --wait`.
    let mut script = editor.clone();
    script.push(OsString::from(" \"$@\""));
    let status = Command::new("/bin/sh")
        .arg("-c")
        .arg(script)
        .arg("sh")
        .arg(path)
        .status();
    let shown = editor.display();
    let status = status.with_context(|| format!("cannot run the editor `{shown}`"))?;
    anyhow::ensure!(
        status.success(),
        "the editor `{shown}` failed ({status})\n\
         hint: name another in the environment's VISUAL or EDITOR"
    );
    Ok(())
}

/// The user's choice about a hub.yaml with mistakes.
enum Next {
    Edit,
    GoBack,
    Leave,
}

fn what_now(error: &ConfigError, is_changed: bool) -> anyhow::Result<Next> {
    let stdin = std::io::stdin();
    let mut stderr = anstream::stderr();
    let _ = writeln!(stderr, "Error: {error}");
    let go_back = if is_changed {
        ", g to go back to what it was"
    } else {
        ""
    };
    loop {
        let _ = write!(
            stderr,
            "Enter to edit again{go_back}, l to leave it like this: "
        );
        let _ = stderr.flush();
        let mut answer = String::new();
        // The end of the input is no answer.
        if stdin.lock().read_line(&mut answer)? == 0 {
            return Ok(Next::Leave);
        }
        match answer.trim() {
            "" | "e" => return Ok(Next::Edit),
            "g" if is_changed => return Ok(Next::GoBack),
            "l" => return Ok(Next::Leave),
            _ => {}
        }
    }
}
