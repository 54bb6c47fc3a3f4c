//! Downloads a repository of the Hugging Face hub into the cache that workers read, ahead of its use.
//!
//! [`Plan`] asks the hub what the repository has and looks at what is here; [`Plan::fetch`] brings the rest. The
//! layout (`blobs`, `snapshots`, `refs`, `.locks`, and files that are still `.incomplete`) is that of
//! huggingface_hub, so that either goes on with what the other has begun. All of it is blocking: a caller gives
//! it a thread, and may leave it at any moment, since whatever is on the disk is a state to go on from. It
//! prints nothing, and knows neither hub.yaml nor workers.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::files;
use crate::model_files::Repository;

mod api;
mod blob;
mod error;
mod wanted;

pub use api::Api;
pub use error::DownloadError;

use api::File;
use error::at;

/// Files that are downloaded at once: one connection seldom fills a line.
const AT_ONCE: usize = 4;

/// The files to download of one revision.
#[derive(Debug)]
pub struct Plan {
    repository: Repository,
    revision: String,
    commit: String,
    files: Vec<File>,
    /// Bytes of all these files.
    pub total: u64,
}

/// A disk that is too small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// Bytes that are still to come.
    pub needed: u64,
    /// Bytes that can be written.
    pub free: u64,
    /// The place.
    pub folder: PathBuf,
}

impl Plan {
    /// Asks for the files of `revision`; with `all` for those that no worker reads too.
    ///
    /// # Errors
    /// When the hub cannot be asked or refuses, or has no such repository or revision; when nothing there is a
    /// model that workers read.
    pub fn of(
        api: &Api,
        repository: Repository,
        revision: &str,
        all: bool,
    ) -> Result<Self, DownloadError> {
        let (commit, mut files) = api.files(&repository.id, revision)?;
        if !all {
            files.retain(|file| wanted::is_wanted(&file.path));
            if !files.iter().any(|file| wanted::is_weights(&file.path)) {
                return Err(DownloadError::NoWeights {
                    id: repository.id,
                    endpoint: api.endpoint().to_owned(),
                });
            }
        }
        // What tells of the rest comes first.
        files.sort_by_key(|file| file.size);
        Ok(Self {
            revision: revision.to_owned(),
            commit,
            total: files.iter().map(|file| file.size).sum(),
            repository,
            files,
        })
    }

    /// Bytes of these files that are on the disk now.
    pub fn here(&self) -> u64 {
        self.files.iter().map(|file| self.blob(file).here()).sum()
    }

    /// True if all of it is here, by its name too.
    pub fn is_complete(&self) -> bool {
        let is_here = |file: &File| is_whole(&self.link(file), file.size);
        self.files.iter().all(is_here) && self.has_ref()
    }

    /// The folder of the revision's files.
    pub fn snapshot(&self) -> PathBuf {
        self.repository.folder.join("snapshots").join(&self.commit)
    }

    /// The room that the disk lacks, if it does.
    pub fn lacking(&self) -> Option<Lacking> {
        let needed = self.total.saturating_sub(self.here());
        let mut folder = self.repository.folder.as_path();
        while let (false, Some(parent)) = (folder.exists(), folder.parent()) {
            folder = parent;
        }
        let free = files::free_bytes(folder).ok()?;
        (needed > free).then(|| Lacking {
            needed,
            free,
            folder: folder.to_owned(),
        })
    }

    /// Brings what is missing, several files at once, and then lets `revision` name it.
    ///
    /// # Errors
    /// The first failure; what has come is kept, unless it is not what the hub has.
    pub fn fetch(&self, api: &Api) -> Result<(), DownloadError> {
        let left = Mutex::new(self.files.iter());
        let failure = Mutex::new(None);
        let next = || match lock(&failure).is_some() {
            true => None,
            false => lock(&left).next(),
        };
        let work = || {
            while let Some(file) = next() {
                if let Err(error) = self.bring(api, file) {
                    lock(&failure).get_or_insert(error);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(self.files.len()) {
                scope.spawn(work);
            }
        });
        match failure.into_inner().unwrap_or_default() {
            Some(error) => Err(error),
            None => self.write_ref(),
        }
    }

    fn bring(&self, api: &Api, file: &File) -> Result<(), DownloadError> {
        let open = |from| api.open(&self.repository.id, &self.commit, &file.path, from);
        self.blob(file).bring(&open)?;
        let link = self.link(file);
        let above = Path::new(&file.path).components().count() + 1;
        let mut target: PathBuf = std::iter::repeat_n("..", above).collect();
        target.push("blobs");
        target.push(&file.blob);
        if std::fs::read_link(&link).ok().as_ref() == Some(&target) {
            return Ok(());
        }
        let folder = link.parent().unwrap_or(&link);
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let _ = std::fs::remove_file(&link);
        match std::os::unix::fs::symlink(&target, &link) {
            // Another download was faster.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made.map_err(at(&link)),
        }
    }

    fn blob<'a>(&'a self, file: &'a File) -> blob::Blob<'a> {
        blob::Blob {
            repository: &self.repository.folder,
            file,
        }
    }

    /// The file's place in the snapshot.
    fn link(&self, file: &File) -> PathBuf {
        self.snapshot().join(&file.path)
    }

    /// A commit is its own name.
    fn ref_file(&self) -> Option<PathBuf> {
        let refs = self.repository.folder.join("refs");
        (self.revision != self.commit).then(|| refs.join(&self.revision))
    }

    fn has_ref(&self) -> bool {
        self.ref_file().is_none_or(|path| {
            files::read(&path).is_ok_and(|named| named.trim_ascii() == self.commit.as_bytes())
        })
    }

    /// Only now, so that an older snapshot stays the one that counts until the newer is whole.
    fn write_ref(&self) -> Result<(), DownloadError> {
        let Some(path) = self.ref_file().filter(|_| !self.has_ref()) else {
            return Ok(());
        };
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        files::replace(&path, self.commit.as_bytes()).map_err(at(&path))
    }
}

/// True if there is a file of that size, links followed.
fn is_whole(path: &Path, size: u64) -> bool {
    path.metadata().is_ok_and(|found| found.len() == size)
}

/// The work of a thread that panicked is of no use, and what it left is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// True if a text can be a revision: a branch, a tag, a commit, or `refs/pr/7`.
pub fn is_revision(text: &str) -> bool {
    let is_word =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_./".contains(letter);
    text.chars().all(allowed) && text.split('/').all(is_word)
}
