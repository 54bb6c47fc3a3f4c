//! The key with which commands control a hub that has keys.
//!
//! `key add` makes it and leaves it beside hub.yaml, in a file that only its owner can read. Where there is none, a
//! key of hub.yaml's own will do, if it may control the hub and stands in a variable or a file that this user has.
//! Programs that a command starts get one that may not control the hub, where there is one.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::render::with_tilde;
use crate::config::{ApiKey, Config};
use crate::files;

/// The file of the key.
pub(super) fn file(config_path: &Path) -> PathBuf {
    files::beside(config_path, ".key")
}

/// The key in that file, if there is one.
///
/// # Errors
/// When others can read it, or it cannot be read.
pub(super) fn kept(config_path: &Path) -> Result<Option<String>, String> {
    let path = file(config_path);
    let read = match files::read_private(&path) {
        Ok(read) => read,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let path = with_tilde(&path.display().to_string());
            return Err(format!(
                "the key of this command, `{path}`, is not used: {error}\n\
                 hint: run `chmod 600 {path}`, and `key add` for a new key if others have seen it"
            ));
        }
    };
    let text = String::from_utf8_lossy(&read);
    Ok(Some(text.trim().to_owned()).filter(|key| !key.is_empty()))
}

/// The first key of hub.yaml that may control the hub and can be read here.
pub(super) fn configured(config_path: &Path) -> Option<String> {
    readable(config_path, |key| key.may_control)
        .into_iter()
        .next()
}

/// The keys of hub.yaml that may use every model, may not control the hub, and can be read here.
pub(super) fn of_models(config_path: &Path) -> Vec<String> {
    readable(config_path, |key| !key.may_control && key.models.is_none())
}

fn readable(config_path: &Path, is_wanted: impl Fn(&ApiKey) -> bool) -> Vec<String> {
    let Ok(config) = Config::load(config_path) else {
        return Vec::new();
    };
    let keys = config.api_keys.iter();
    let wanted = keys.filter(|key| !key.is_expired() && is_wanted(key));
    wanted.filter_map(|key| key.source.read().ok()).collect()
}
