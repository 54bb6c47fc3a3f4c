//! `key`: who may use the hub, and who may control it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::hub_yaml::HubYaml;
use super::render::{Out, with_tilde, yes_no};
use super::{editing, own_key, table};
use crate::api::nearest;
use crate::config::edit::{Edit, EditError, EntryValue, NewEntry, add_keys, remove_key};
use crate::config::{ApiKey, Config, KeyDigest, KeySource};
use crate::files;

/// The beginning of every key, by which one that has got out is recognized.
const BEGIN: &str = "mlxhub-";

/// The name of the command line's own key.
const OWN: &str = "cli";

/// Say who may use the hub, and who may control it
///
/// A hub without keys is open to everybody who reaches it. With the first key, `/v1` and the other APIs need
/// one, and `/hub` and `/metrics` one that may control the hub. `key add` makes a key, shows it once, and writes
/// its SHA-256 into hub.yaml; a running hub takes it over at once. Commands have a key of their own, in a file
/// beside hub.yaml that only you can read.
#[derive(Debug, clap::Args)]
pub(super) struct Key {
    #[command(subcommand)]
    verb: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    Add(Add),
    List(List),
    #[command(visible_alias = "rm")]
    Remove(Remove),
}

/// Make a key
///
/// Prints the key, this once, and adds an entry with its hash to `api_keys` of hub.yaml; all other
/// lines stay as they are. If commands have no key of their own yet, they get one, `cli`. The change
/// is shown first, and a running hub reloads.
///
/// Examples:
///   mlx-openai-server-hub key add laptop
///   mlx-openai-server-hub key add visitor --model qwen3-4b --expires 2027-01-31
///   mlx-openai-server-hub key add grafana --control --yes
///
/// Exit status: 0, also when you decline; 1 when there is a key of that name, or hub.yaml cannot be
/// edited.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
struct Add {
    /// The key's name: whose it is, or what for
    name: String,
    /// Let it control the hub too
    #[arg(long)]
    control: bool,
    /// Let it use this model only, or those like `claude-*`; may be given several times
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// Let it in no longer than until this day or moment (2027-01-31, or 2027-01-31T18:00:00Z)
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// Change hub.yaml without asking
    #[arg(long, short)]
    yes: bool,
}

/// List the keys
///
/// Shows each key of hub.yaml by name, with what it may do, for how long, and where it is. Nobody has the keys
/// themselves but those whom you gave them.
///
/// Exit status: 0; 1 when hub.yaml is not valid.
#[derive(Debug, clap::Args)]
struct List {}

/// Remove a key
///
/// Takes its entry out of hub.yaml and leaves all other lines as they are. The change is shown first, and a
/// running hub refuses the key from then on. Without any key the hub is open again.
///
/// Example: mlx-openai-server-hub key remove laptop
///
/// Exit status: 0, also when you decline; 1 when there is no such key, or hub.yaml cannot be edited.
#[derive(Debug, clap::Args)]
struct Remove {
    /// The key by its name in hub.yaml
    name: String,
    /// Change hub.yaml without asking
    #[arg(long, short)]
    yes: bool,
}

impl Key {
    pub(super) async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<ExitCode> {
        match self.verb {
            KeyCommand::Add(verb) => verb.run(hub_yaml, out).await?,
            KeyCommand::List(List {}) => list(hub_yaml.config()?, out),
            KeyCommand::Remove(verb) => verb.run(hub_yaml, out).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Add {
    async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<()> {
        let path = &hub_yaml.path;
        let config = hub_yaml.config()?;
        let text = editing::text_of(path)?.context("hub.yaml is gone")?;
        let key = new_key()?;
        let own = match has_own(config)? {
            true => None,
            false => Some((free_name(config, self.name.trim()), new_key()?)),
        };
        let mut entries = vec![self.entry(&key)];
        if let Some((name, own)) = &own {
            entries.insert(0, entry(name, own, true));
        }
        let edit = add_keys(&text, &entries).map_err(|error| {
            let blocks = entries.iter().map(|entry| entry.block(2, "\n"));
            let blocks: Vec<_> = blocks.collect();
            let hint = format!("add this to `api_keys` by hand:\n{}", blocks.join("\n"));
            left_alone(path, &error, &hint)
        })?;
        editing::after(path, &text, &edit)?;
        let file = own_key::file(path);
        let is_first = config.api_keys.is_empty();
        if !editing::agreed(path, Some(&text), &edit, self.yes, out)? {
            return Ok(());
        }
        if let Some((_, own)) = &own {
            // Before hub.yaml: commands may not be shut out.
            files::replace_private_text(&file, format!("{own}\n").as_bytes())
                .with_context(|| format!("cannot write `{}`", file.display()))?;
        }
        editing::write(path, Some(&text), &edit)?;
        out.ok(format_args!("Added the key {}", self.name.trim()));
        out.line(&key);
        out.sentence(
            "It is shown this once: hub.yaml has its hash. Clients send it as `Authorization: Bearer KEY` or as \
             `x-api-key: KEY`.",
        );
        if own.is_some() {
            let file = with_tilde(&file.display().to_string());
            out.info(format_args!(
                "Commands have a key of their own now, in {file}"
            ));
        }
        if is_first {
            out.info("From now on the hub lets nobody in without a key");
        }
        editing::reload(path, out).await
    }

    fn entry(&self, key: &str) -> NewEntry {
        let NewEntry(mut pairs) = entry(self.name.trim(), key, self.control);
        if !self.models.is_empty() {
            let names = self
                .models
                .iter()
                .map(|name| EntryValue::Text(name.clone()));
            let names: Vec<_> = names.map(|name| name.to_string()).collect();
            let list = format!("[{}]", names.join(", "));
            pairs.push(("models", EntryValue::Literal(list)));
        }
        if let Some(expires) = &self.expires {
            let expires = EntryValue::Text(expires.trim().to_owned());
            pairs.push(("expires", expires));
        }
        NewEntry(pairs)
    }
}

impl Remove {
    async fn run(self, hub_yaml: &HubYaml, out: &mut Out) -> anyhow::Result<()> {
        let path = &hub_yaml.path;
        let config = hub_yaml.config()?;
        let text = editing::text_of(path)?.context("hub.yaml is gone")?;
        let name = self.name.trim();
        let Some(key) = config.api_keys.iter().find(|key| key.name == name) else {
            let names = config.api_keys.iter().map(|key| key.name.as_str());
            let hint = match nearest(name, names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`key list` shows them".to_owned(),
            };
            anyhow::bail!("hub.yaml has no key `{name}`\nhint: {hint}");
        };
        let edit: Edit = remove_key(&text, name).map_err(|error| {
            left_alone(
                path,
                &error,
                &format!("take the entry of `{name}` out by hand"),
            )
        })?;
        editing::after(path, &text, &edit)?;
        let is_own = is_own(config, key);
        if config.api_keys.len() == 1 {
            out.warn("It is the last key: without it the hub is open to everybody who reaches it");
        } else if is_own {
            out.warn("It is the key of commands: they cannot speak to the hub without it, until `key add` makes another");
        }
        if !editing::make(hub_yaml, Some(&text), &edit, self.yes, out).await? {
            return Ok(());
        }
        if is_own {
            let file = own_key::file(path);
            std::fs::remove_file(&file)
                .with_context(|| format!("cannot remove `{}`", file.display()))?;
        }
        out.ok(format_args!("Removed the key {name}"));
        Ok(())
    }
}

fn list(config: &Config, out: &mut Out) {
    if config.api_keys.is_empty() {
        out.line("hub.yaml has no keys: the hub is open to everybody who reaches it.");
        out.line("Make one: mlx-openai-server-hub key add NAME");
        return;
    }
    let row = |key: &ApiKey| {
        let models = key.models.as_ref();
        [
            key.name.clone(),
            yes_no(key.may_control).to_owned(),
            models.map_or_else(|| "all".to_owned(), |models| models.join(", ")),
            until(key),
            place(config, key),
        ]
    };
    let rows: Vec<_> = config.api_keys.iter().map(|key| row(key)).collect();
    out.line("Keys:");
    let header = ["NAME", "CONTROL", "MODELS", "EXPIRES", "PLACE"];
    table::print(out, header, &rows, &[2, 4], &[4]);
}

fn until(key: &ApiKey) -> String {
    let Some(moment) = key
        .expires
        .and_then(|end| jiff::Timestamp::from_second(end).ok())
    else {
        return "never".to_owned();
    };
    let moment = moment.to_string();
    let day = moment.strip_suffix("T00:00:00Z").unwrap_or(&moment);
    match key.is_expired() {
        true => format!("{day} (expired)"),
        false => day.to_owned(),
    }
}

fn place(config: &Config, key: &ApiKey) -> String {
    match &key.source {
        KeySource::Sha256 if is_own(config, key) => {
            with_tilde(&own_key::file(&config.path).display().to_string())
        }
        KeySource::Sha256 => "its owner has it".to_owned(),
        KeySource::Env(variable) => format!("${variable}"),
        KeySource::File(path) => with_tilde(&path.display().to_string()),
    }
}

/// True if it is the key in the command line's own file.
fn is_own(config: &Config, key: &ApiKey) -> bool {
    let kept = own_key::kept(&config.path).ok().flatten();
    kept.is_some_and(|own| key.has(&KeyDigest::of(own.as_bytes())))
}

/// True if commands have a key that may control the hub.
///
/// # Errors
/// When others can read it.
fn has_own(config: &Config) -> anyhow::Result<bool> {
    let kept = own_key::kept(&config.path).map_err(|text| anyhow::anyhow!(text))?;
    let is_good = |own: String| {
        let key = config.api_key(&KeyDigest::of(own.as_bytes()));
        key.is_some_and(|key| key.may_control && !key.is_expired())
    };
    Ok(kept.is_some_and(is_good) || own_key::configured(&config.path).is_some())
}

/// A name for the command line's key that no other has.
fn free_name(config: &Config, taken: &str) -> String {
    let is_free = |name: &String| {
        let mut keys = config.api_keys.iter();
        !name.eq_ignore_ascii_case(taken) && !keys.any(|key| key.name.eq_ignore_ascii_case(name))
    };
    let numbered = (2..).map(|number| format!("{OWN}-{number}"));
    let mut names = std::iter::once(OWN.to_owned()).chain(numbered);
    names.find(is_free).unwrap_or_else(|| OWN.to_owned())
}

fn entry(name: &str, key: &str, may_control: bool) -> NewEntry {
    let hash = KeyDigest::of(key.as_bytes()).to_hex();
    let may = if may_control {
        "[use, control]"
    } else {
        "[use]"
    };
    NewEntry(vec![
        ("name", EntryValue::Text(name.to_owned())),
        ("sha256", EntryValue::Text(hash)),
        ("may", EntryValue::Literal(may.to_owned())),
    ])
}

/// 192 random bits, in letters and digits.
fn new_key() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system has no random numbers: {error}"))?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{BEGIN}{digits}"))
}

fn left_alone(path: &Path, error: &EditError, hint: &str) -> anyhow::Error {
    let why = match error {
        EditError::Unsafe(why) => format!("`api_keys` cannot be edited safely: {why}"),
        other => other.to_string(),
    };
    anyhow::anyhow!(
        "`{}` was left as it is: {why}\nhint: {hint}",
        path.display()
    )
}
