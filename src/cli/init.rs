//! `init`: a hub.yaml to begin with. The text is the project's own example.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::chosen;
use super::convert::convert;
use super::hub_command;
use super::models::{self, Offer, offers};
use super::progress;
use super::question;
use super::render::Out;
use super::room::Room;
use crate::config::{self, Config, schema};
use crate::model_files::Places;
use crate::worker::command;
use crate::worker::dialect::Dialects;

/// The written text. A test of the examples loads it.
const STARTER: &str = include_str!("../../examples/hub.yaml");

/// Write a hub.yaml to begin with
///
/// Creates ~/mlx-openai-server-hub/hub.yaml (or the file that --config or MLX_HUB_CONFIG_PATH names)
/// and its folder. On a terminal it offers the models that `models` finds on this disk; the file then
/// has those you choose, sized to this machine's memory. Otherwise it has three examples, a group, a
/// policy, and a comment on every key it uses. An existing file is never overwritten.
///
/// --from converts the `--config` file of mlx-openai-server, a configuration of llama-swap, the
/// output of `ollama list` in a file, or Ollama's folder of manifests, and names what has no equal.
///
/// Examples:
///   mlx-openai-server-hub init
///   mlx-openai-server-hub init --found
///   mlx-openai-server-hub init --from ~/llama-swap/config.yaml
///
/// Exit status: 0; 1 when there is a file already or it cannot be written, or FILE cannot be
/// converted.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Init {
    /// Take every model on this disk that fits into memory, without asking
    #[arg(long, conflicts_with = "from")]
    found: bool,
    /// Convert the configuration of another program
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

impl Init {
    pub(super) async fn run(self, path: &Path, out: &mut Out) -> anyhow::Result<ExitCode> {
        // Before anybody has answered questions.
        refuse_existing(path)?;
        let text = match &self.from {
            Some(source) => Some(converted(source, out)?),
            None => self.chosen(out).await?,
        };
        let written = text.as_deref().unwrap_or(STARTER);
        write_new(path, written)?;
        schema::keep_beside(path, written.as_bytes());
        let config = Config::load(path)?;
        let model = &config.models[0];
        out.ok(format_args!("Wrote {}", path.display()));
        match text {
            Some(_) => out.line("Then:"),
            None => out.line("Its models are examples: put in those you want. Then:"),
        }
        if command::of_model(model).is_err()
            && let Some(install) = model.engine.install.first()
        {
            out.line(format_args!("  {install}"));
        }
        out.line(format_args!("  {}", hub_command(path, &["check"])));
        out.line(format_args!("  {}", hub_command(path, &["start"])));
        Ok(ExitCode::SUCCESS)
    }
}

impl Init {
    /// hub.yaml for models on the disk; `None` if there are none, or nobody chooses.
    async fn chosen(&self, out: &mut Out) -> anyhow::Result<Option<String>> {
        if !self.found && !question::can_ask() {
            return Ok(None);
        }
        let offers = chosen::fitting(offers(&Places::of(None), None, None));
        anyhow::ensure!(
            !self.found || !offers.is_empty(),
            "there is no model on this disk that fits into memory\n\
             hint: see `models`, or write examples with `init`"
        );
        if offers.is_empty() {
            return Ok(None);
        }
        let chosen = match self.found {
            true => offers,
            false => choose(offers, out)?,
        };
        if chosen.is_empty() {
            return Ok(None);
        }
        let example = Config::parse(Path::new("/hub.yaml"), STARTER)?;
        let dialects = Dialects::default();
        let asking = dialects.of_model(&example.models[0]);
        let dialect = progress::show("asking the worker program", asking).await;
        let dialect = dialect.as_deref().ok();
        Ok(Some(chosen::text(&chosen, Room::of(None), dialect, out)))
    }
}

/// Asks which of the models to take.
fn choose(offers: Vec<Offer>, out: &mut Out) -> anyhow::Result<Vec<Offer>> {
    out.line("These models are on this disk and fit into memory:");
    models::print(&offers, true, out);
    loop {
        let answer = question::ask("Which of them? Numbers, `all`, or nothing for examples:")?;
        match chosen::picked(&answer, offers.len()) {
            Ok(picked) => {
                let offers = offers.into_iter().enumerate();
                let taken = offers.filter(|(at, _)| picked.contains(at));
                return Ok(taken.map(|(_, offer)| offer).collect());
            }
            Err(wrong) => out.warn(wrong),
        }
    }
}

/// hub.yaml from another program's file. What has no equal is told.
fn converted(source: &Path, out: &mut Out) -> anyhow::Result<String> {
    let converted = convert(source)?;
    for note in &converted.notes {
        out.warn(note);
    }
    let text = converted.text(source);
    Config::parse(Path::new("/hub.yaml"), &text)
        .with_context(|| format!("`{}` makes no valid hub.yaml", source.display()))?;
    Ok(text)
}

/// # Errors
/// When there is a file, or a link to nothing.
fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if let Some(dangling) = config::dangling(path) {
        anyhow::bail!(dangling);
    }
    anyhow::ensure!(!path.exists(), exists(path));
    Ok(())
}

fn exists(path: &Path) -> String {
    format!(
        "`{}` already exists; it is left unchanged\n\
         hint: move it away, or write another with `--config PATH`",
        path.display()
    )
}

/// Creates the file in one step, so that a file that appears meanwhile is not overwritten.
fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create the folder `{}`", folder.display()))?;
    }
    let shown = path.display();
    let new = OpenOptions::new().write(true).create_new(true).open(path);
    let written = new.and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && !path.exists() => {
            anyhow::bail!(
                config::dangling(path).unwrap_or_else(|| format!("`{shown}` comes and goes"))
            )
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => anyhow::bail!(exists(path)),
        written => written.with_context(|| format!("cannot write `{shown}`")),
    }
}
