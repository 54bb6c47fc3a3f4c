//! LM Studio's folder of models.
//!
//! LM Studio keeps the path of its own folder in `~/.lmstudio-home-pointer`, and in the `settings.json` there
//! the folder for downloads that a user has chosen. Older versions had `~/.cache/lm-studio`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Environment, folders};
use crate::files;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    #[serde(default)]
    downloads_folder: Option<PathBuf>,
}

/// The folder, if it is there.
pub(super) fn folder(environment: Environment<'_>) -> Option<PathBuf> {
    let user = folders::home(environment);
    let pointer = files::read(&user.join(".lmstudio-home-pointer")).ok();
    let pointed = pointer.and_then(|bytes| {
        let text = String::from_utf8(bytes).ok()?;
        let path = text.trim();
        (!path.is_empty()).then(|| folders::expanded(Path::new(path), environment))
    });
    let own = [user.join(".lmstudio"), user.join(".cache/lm-studio")];
    let own: Vec<PathBuf> = pointed.into_iter().chain(own).collect();
    let chosen = own.iter().filter_map(|folder| {
        let text = files::read(&folder.join("settings.json")).ok()?;
        let settings: Settings = serde_json::from_slice(&text).ok()?;
        Some(folders::expanded(&settings.downloads_folder?, environment))
    });
    let default = own.iter().map(|folder| folder.join("models"));
    let mut candidates = chosen.chain(default);
    candidates.find(|folder| folder.is_dir())
}
