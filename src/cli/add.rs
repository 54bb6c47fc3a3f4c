//! `add`: a model of the disk, or of the Hugging Face hub, becomes an entry of hub.yaml.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::editing;
use super::entry::{Entry, known_parsers};
use super::hub_yaml::HubYaml;
use super::models::offers;
use super::progress;
use super::render::{Out, bytes, with_tilde};
use super::room::{self, Fits};
use crate::api::nearest;
use crate::config::edit::{Edit, EditError, EntryValue, NewEntry, add, lacks_models};
use crate::config::{self, Config, ModelType, slug_of};
use crate::model_files::{ModelFiles, Origin, Parsers, Places, is_repository};
use crate::worker::dialect::Dialects;

/// The beginning of a hub.yaml that did not exist.
const NEW_FILE: &str = "\
# yaml-language-server: $schema=hub.schema.json\n\
# The models of this hub. `mlx-openai-server-hub check` tells what they mean.\n\
host: 127.0.0.1    # this machine only; 0.0.0.0 lets the network in\n\
models:\n";

/// Add a model to hub.yaml
///
/// MODEL is the name of a model that `models` lists, the id of a repository (org/name), or a folder.
/// The entry is added at the end of `models`; comments and all other lines stay as they are. Type and
/// parsers are guessed from the model's files, and only parsers that the installed worker knows are
/// written. The change is shown first, and a running hub reloads.
///
/// Examples:
///   mlx-openai-server-hub add Qwen3-4B-Instruct-2507-4bit
///   mlx-openai-server-hub add mlx-community/gemma-3-27b-it-4bit --name gemma --jit --default
///   mlx-openai-server-hub add ~/models/tuned --group large --yes
///
/// Exit status: 0, also when you decline; 1 when there is no such model, or hub.yaml cannot be
/// edited.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Add {
    /// A name of `models`, a repository's id, or a folder
    model: String,
    /// The name that clients use; without it, that of the repository or folder in lower case
    #[arg(long)]
    name: Option<String>,
    /// The group that it belongs to
    #[arg(long)]
    group: Option<String>,
    /// Start it with the hub
    #[arg(long)]
    default: bool,
    /// Load it at its first request, not at its start
    #[arg(long)]
    jit: bool,
    /// Unload it after this many minutes without a request; with --jit
    #[arg(long, value_name = "MINUTES", requires = "jit")]
    auto_unload: Option<u32>,
    /// The context length in tokens
    #[arg(long, value_name = "TOKENS")]
    context_length: Option<u32>,
    /// Change hub.yaml without asking
    #[arg(long, short)]
    yes: bool,
}

impl Add {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        let path = &hub_yaml.path;
        let text = editing::text_of(path)?;
        // One that is there must be valid; the first entry makes a new one.
        let config = text.as_deref().map(|text| config_of(hub_yaml, text));
        let config = config.transpose()?;
        let (model_path, files) = source(&self.model, config.as_ref())?;
        let name = self
            .name
            .clone()
            .or_else(|| slug_of(short_name(&model_path)));
        let name = name
            .context("the model's name makes no name for hub.yaml\nhint: give one with `--name`")?;
        let guesses = files.as_ref().map(|files| Parsers::guess(&files.folder));
        let guesses = guesses.unwrap_or_default();

        let before = text.as_deref().unwrap_or(NEW_FILE);
        let plain = self.entry(&name, &model_path, files.as_ref(), &[]);
        let (edit, after) = edited(path, before, &plain)?;
        let model = after
            .model(&name)
            .context("hub.yaml already has a model of that name")?;
        let asking = Dialects::default();
        let dialect = progress::show("asking the worker program", asking.of_model(model)).await;

        self.tell(&model_path, files.as_ref(), out);
        let parsers = known_parsers(guesses, dialect.as_deref().ok(), out);
        let (edit, _) = match parsers[..] {
            [] => (edit, after),
            _ => {
                let entry = self.entry(&name, &model_path, files.as_ref(), &parsers);
                edited(path, before, &entry)?
            }
        };
        let edit = match &text {
            Some(_) => edit,
            None => Edit {
                range: 0..0,
                text: edit.apply(before),
            },
        };
        if editing::make(hub_yaml, text.as_deref(), &edit, self.yes, out).await? {
            out.ok(format_args!("Added {name}"));
            if !self.default {
                let start = super::hub_command(path, &["start-model", &name]);
                out.line(format_args!("Start it: {start}"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Describes the model.
    fn tell(&self, model_path: &str, files: Option<&ModelFiles>, out: &mut Out) {
        let Some(files) = files else {
            out.info(format_args!(
                "{model_path} is not on this disk: its worker downloads it at its first load; \
                 `mlx-openai-server-hub pull {model_path}` does it now"
            ));
            return;
        };
        let facts = &files.facts;
        let context = facts
            .context_length
            .map(|tokens| format!("context {tokens}"));
        let parts = [
            Some(facts.model_type.as_str().to_owned()),
            facts.quantisation.clone(),
            context,
            Some(bytes(files.bytes)),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        out.info(format_args!("{}: {}", files.short_name(), parts.join(", ")));
        if room::Room::of(None).fits(room::need(files)) == Fits::No {
            out.warn("It is larger than this machine's memory");
        }
    }

    fn entry(
        &self,
        name: &str,
        model_path: &str,
        files: Option<&ModelFiles>,
        parsers: &[(&'static str, &'static str)],
    ) -> NewEntry {
        let entry = Entry {
            name,
            model_path,
            model_type: files.map_or_else(|| type_of(model_path), ModelFiles::model_type),
            group: self.group.as_deref(),
            default: self.default,
            jit: self.jit,
            auto_unload: self.auto_unload,
            context_length: self.context_length,
            parsers,
        };
        entry.written()
    }
}

/// The configuration of hub.yaml. One that lacks only its models is read as if it had one, since it will.
fn config_of(hub_yaml: &HubYaml, text: &str) -> anyhow::Result<Config> {
    let config = hub_yaml.config().cloned();
    if config.is_ok() || !lacks_models(text) {
        return config;
    }
    let some = |key, value: &str| (key, EntryValue::Text(value.to_owned()));
    let entry = NewEntry(vec![some("name", "a"), some("model_path", "a/a")]);
    let after = edited(&hub_yaml.path, text, &entry);
    after.map(|(_, after)| after)
}

/// The edit that adds an entry, and the configuration after it.
fn edited(path: &Path, text: &str, entry: &NewEntry) -> anyhow::Result<(Edit, Config)> {
    let edit = add(text, entry).map_err(|error| by_hand(path, error, entry))?;
    let after = editing::after(path, text, &edit)?;
    Ok((edit, after))
}

/// The error for a file that cannot be edited, with the lines to write.
fn by_hand(path: &Path, error: EditError, entry: &NewEntry) -> anyhow::Error {
    anyhow::anyhow!(
        "`{}` was left as it is: {error}\nhint: add this to `models` by hand:\n{}",
        path.display(),
        entry.block(2, "\n")
    )
}

fn short_name(model_path: &str) -> &str {
    let path = model_path.trim_end_matches('/');
    path.rsplit('/').next().unwrap_or(path)
}

/// The type of a model of which only the name is known.
fn type_of(model_path: &str) -> ModelType {
    match short_name(model_path).to_lowercase() {
        name if name.contains("embed") => ModelType::Embeddings,
        name if name.contains("whisper") => ModelType::Whisper,
        _ => ModelType::Lm,
    }
}

/// The `model_path` to write, and the model's files if they are here.
fn source(written: &str, config: Option<&Config>) -> anyhow::Result<(String, Option<ModelFiles>)> {
    let here = std::env::current_dir().unwrap_or_default();
    let folder = config::beside(written, &here);
    if written.starts_with(['~', '/', '.']) || folder.is_dir() {
        let model_path = with_tilde(&folder.display().to_string());
        let files = ModelFiles::read(&folder, model_path.clone(), Origin::Folder);
        let files = files.with_context(|| {
            format!(
                "`{}` has no complete model that a worker can serve\n\
                 hint: name the folder with its config.json and *.safetensors",
                folder.display()
            )
        })?;
        return Ok((model_path, Some(files)));
    }
    let mut models = offers(&Places::of(config), config, None);
    let is_its = |files: &ModelFiles| {
        files.model_path.eq_ignore_ascii_case(written)
            || files.short_name().eq_ignore_ascii_case(written)
    };
    let its = |offer: &super::models::Offer| is_its(&offer.files);
    let found: Vec<usize> = (0..models.len()).filter(|at| its(&models[*at])).collect();
    match found[..] {
        [at] => {
            let mut files = models.swap_remove(at).files;
            files.model_path = with_tilde(&files.model_path);
            Ok((files.model_path.clone(), Some(files)))
        }
        [] if written.contains('/') && is_repository(written) => Ok((written.to_owned(), None)),
        [] => {
            let names = models.iter().map(|offer| offer.files.short_name());
            let near = nearest(written, names);
            let hint = near.map_or_else(
                || "see `models`, or give a repository's id, `org/name`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            anyhow::bail!("there is no model `{written}` on this disk\nhint: {hint}")
        }
        _ => {
            let paths = found
                .iter()
                .map(|at| with_tilde(&models[*at].files.model_path));
            let paths: Vec<String> = paths.collect();
            anyhow::bail!(
                "`{written}` is the name of several models\nhint: give the path: {}",
                paths.join(", ")
            )
        }
    }
}
