//! Folders as such: what lies in them, how much it is, and models in them at any depth.

use std::path::{Path, PathBuf};

use super::{Environment, ModelFiles, Origin};

/// Deepest folder that may hold a model: `PUBLISHER/MODEL`, and one level for users who sort.
const DEPTH: usize = 3;
/// Deepest folder whose files count.
const MAX_DEPTH: usize = 8;

/// The user's home folder.
pub(super) fn home(environment: Environment<'_>) -> PathBuf {
    let home = environment("HOME").filter(|home| !home.is_empty());
    home.map_or_else(|| PathBuf::from("/"), PathBuf::from)
}

/// A leading `~` is the home folder.
pub(super) fn expanded(path: &Path, environment: Environment<'_>) -> PathBuf {
    match path.strip_prefix("~") {
        Ok(rest) => home(environment).join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Lists a folder by name, without hidden files; nothing if it cannot be read.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let is_hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b".")
    };
    let entries = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut entries: Vec<PathBuf> = entries.filter(|path| !is_hidden(path)).collect();
    entries.sort();
    entries
}

/// Bytes of all files in a folder, links followed.
pub(super) fn bytes(folder: &Path) -> u64 {
    fn within(folder: &Path, depth: usize) -> u64 {
        let sizes = entries(folder).into_iter().map(|path| {
            let Ok(metadata) = path.metadata() else {
                return 0;
            };
            match metadata.is_dir() {
                true if depth > 0 => within(&path, depth - 1),
                true => 0,
                false => metadata.len(),
            }
        });
        sizes.sum()
    }
    within(folder, MAX_DEPTH)
}

/// The models in a folder. A folder that is a model holds no other.
pub(super) fn models(folder: &Path, origin: Origin) -> Vec<ModelFiles> {
    let mut found = Vec::new();
    collect(folder, origin, DEPTH, &mut found);
    found
}

fn collect(folder: &Path, origin: Origin, depth: usize, found: &mut Vec<ModelFiles>) {
    if let Some(model) = ModelFiles::read(folder, folder.display().to_string(), origin) {
        found.push(model);
        return;
    }
    if depth > 0 {
        for path in entries(folder).into_iter().filter(|path| path.is_dir()) {
            collect(&path, origin, depth - 1, found);
        }
    }
}
