//! A change of hub.yaml by a command: checked as a whole, shown, asked about, written in one step, and put
//! in force by a reload of the hub that runs.

use std::path::Path;

use anyhow::Context as _;

use super::hub_yaml::HubYaml;
use super::question;
use super::reload::reload_running;
use super::render::{Out, with_tilde};
use crate::config::edit::Edit;
use crate::config::{Config, dangling, stored};

/// hub.yaml's text; `None` if there is no file yet.
pub(super) fn text_of(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match dangling(path) {
            // Writing would put a file in the place of the link.
            Some(text) => Err(anyhow::Error::msg(text)),
            None => Ok(None),
        },
        Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
}

/// The configuration that hub.yaml has after an edit.
///
/// # Errors
/// With the problems that it would have.
pub(super) fn after(path: &Path, text: &str, edit: &Edit) -> anyhow::Result<Config> {
    let after = Config::parse(path, &edit.apply(text));
    after.context("hub.yaml would not be valid, and was left as it is")
}

/// Shows the edit and, if the user agrees, makes it and reloads a running hub. True if it was made.
///
/// # Errors
/// When nobody can be asked, or the file has changed meanwhile or cannot be written; it is as it was then.
pub(super) async fn make(
    hub_yaml: &HubYaml,
    text: Option<&str>,
    edit: &Edit,
    is_agreed: bool,
    out: &mut Out,
) -> anyhow::Result<bool> {
    let path = &hub_yaml.path;
    if !agreed(path, text, edit, is_agreed, out)? {
        return Ok(false);
    }
    write(path, text, edit)?;
    reload(path, out).await?;
    Ok(true)
}

/// Shows the edit. True if the user agrees to it.
///
/// # Errors
/// When nobody can be asked.
pub(super) fn agreed(
    path: &Path,
    text: Option<&str>,
    edit: &Edit,
    is_agreed: bool,
    out: &mut Out,
) -> anyhow::Result<bool> {
    show(path, text.unwrap_or_default(), edit, out);
    if is_agreed {
        return Ok(true);
    }
    anyhow::ensure!(
        question::can_ask(),
        "nothing was changed, since there is no terminal to ask on\nhint: add `--yes`"
    );
    let is_agreed = question::confirm("Change hub.yaml so?")?;
    if !is_agreed {
        out.line("Nothing was changed.");
    }
    Ok(is_agreed)
}

/// Makes the edit.
///
/// # Errors
/// When the file has changed meanwhile or cannot be written; it is as it was then.
pub(super) fn write(path: &Path, text: Option<&str>, edit: &Edit) -> anyhow::Result<()> {
    let after = edit.apply(text.unwrap_or_default());
    stored::replace(path, text.map(str::as_bytes), &after)?;
    Ok(())
}

/// Has a running hub read the changed file.
///
/// # Errors
/// When it refuses it.
pub(super) async fn reload(path: &Path, out: &mut Out) -> anyhow::Result<()> {
    reload_running(&HubYaml::read(path), out).await
}

/// Shows an edit as its lines, with the number of the first one.
fn show(path: &Path, text: &str, edit: &Edit, out: &mut Out) {
    let before = &text[..edit.range.start];
    let gone = &text[edit.range.clone()];
    let whole = |part: &str| part.trim_matches(['\r', '\n']).to_owned();
    let (mark, lines) = match gone.is_empty() {
        true => ('+', whole(&edit.text)),
        false => ('-', whole(gone)),
    };
    let changed = if gone.is_empty() { &edit.text } else { gone };
    let skipped = changed.len() - changed.trim_start_matches(['\r', '\n']).len();
    let number = (before.matches('\n').count() + 1) + changed[..skipped].matches('\n').count();
    out.line(format_args!(
        "{}:{number}",
        with_tilde(&path.display().to_string())
    ));
    for line in lines.lines() {
        out.line(format_args!("{mark} {line}").to_string().trim_end());
    }
}
