//! The cache of the Hugging Face libraries: `models--ORG--NAME/snapshots/REVISION`, with links to `blobs`.
//!
//! The layout and the variables are those of huggingface_hub:
//! <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Environment, ModelFiles, Origin, folders, weights};
use crate::files;

/// A folder that a variable names.
fn set(name: &str, environment: Environment<'_>) -> Option<PathBuf> {
    let value = environment(name).filter(|value| !value.is_empty())?;
    Some(folders::expanded(Path::new(&value), environment))
}

/// The folder of the cache and of the token.
pub(crate) fn home(environment: Environment<'_>) -> PathBuf {
    set("HF_HOME", environment).unwrap_or_else(|| {
        let caches = set("XDG_CACHE_HOME", environment);
        let caches = caches.unwrap_or_else(|| folders::home(environment).join(".cache"));
        caches.join("huggingface")
    })
}

/// The cache's folder, there or not.
pub(super) fn cache(environment: Environment<'_>) -> PathBuf {
    // The second is the name of versions before 0.20; both still count.
    let named = set("HF_HUB_CACHE", environment);
    let named = named.or_else(|| set("HUGGINGFACE_HUB_CACHE", environment));
    named.unwrap_or_else(|| home(environment).join("hub"))
}

/// The models in a cache: of each repository the revision that `main` names, if it is complete.
pub(super) fn models(cache: &Path) -> Vec<ModelFiles> {
    let repositories = folders::entries(cache).into_iter().filter_map(|folder| {
        let id = folder.file_name()?.to_str()?.strip_prefix("models--")?;
        Repository::new(cache, &id.replacen("--", "/", 1))
    });
    repositories
        .filter_map(|repository| {
            let snapshot = repository.snapshot()?;
            ModelFiles::read(&snapshot, repository.id, Origin::HuggingFace)
        })
        .collect()
}

/// A repository's place in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// `ORG/NAME`, or a `NAME` alone.
    pub id: String,
    /// `models--ORG--NAME` in the cache; it may not exist.
    pub folder: PathBuf,
}

impl Repository {
    /// `None` for a text that cannot be a repository's id.
    pub(super) fn new(cache: &Path, id: &str) -> Option<Self> {
        let is_word = |part: &str| {
            let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
        };
        let parts: Vec<&str> = id.split('/').collect();
        (parts.len() <= 2 && parts.iter().all(|part| is_word(part))).then(|| Self {
            id: id.to_owned(),
            folder: cache.join(format!("models--{}", parts.join("--"))),
        })
    }

    /// The folder of the revision that a worker would use without a network: that of `main`, or the newest one
    /// if the cache has no `main`.
    pub fn snapshot(&self) -> Option<PathBuf> {
        let snapshots = self.folder.join("snapshots");
        let main = files::read(&self.folder.join("refs/main")).ok();
        if let Some(revision) = main.and_then(|bytes| String::from_utf8(bytes).ok()) {
            let snapshot = snapshots.join(revision.trim());
            return snapshot.is_dir().then_some(snapshot);
        }
        let modified = |folder: &PathBuf| {
            let time = folder.metadata().and_then(|metadata| metadata.modified());
            time.unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let snapshots = folders::entries(&snapshots).into_iter();
        snapshots.filter(|path| path.is_dir()).max_by_key(modified)
    }

    /// Bytes of all revisions on the disk, of files that are still being downloaded too.
    pub fn bytes(&self) -> u64 {
        folders::bytes(&self.folder.join("blobs"))
    }

    /// Bytes of the revision that a worker uses, as far as they are on the disk, and of all of it if its index of
    /// weights is there; `None` if no file is being downloaded.
    pub fn incomplete(&self) -> Option<(u64, Option<u64>)> {
        let blobs = folders::entries(&self.folder.join("blobs"));
        let is_part = |path: &PathBuf| path.extension().is_some_and(|end| end == "incomplete");
        let parts: Vec<PathBuf> = blobs.into_iter().filter(is_part).collect();
        if parts.is_empty() {
            return None;
        }
        let sizes = parts.iter().filter_map(|path| path.metadata().ok());
        let parts: u64 = sizes.map(|found| found.len()).sum();
        let snapshot = self.snapshot();
        let bytes = parts + snapshot.as_deref().map_or(0, folders::bytes);
        let total = snapshot.and_then(|snapshot| weights::total(&snapshot));
        // Some bytes more than the weights belong to it.
        Some((bytes, total.map(|total| total.max(bytes))))
    }
}
