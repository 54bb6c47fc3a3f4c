//! `<log_path>/hub.lock`: one hub at a time uses a log folder. Two would take each other's workers for
//! leftovers. The system releases the lock however the process ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

fn path(log_path: &Path) -> PathBuf {
    log_path.join("hub.lock")
}

/// Locks the folder until the file is dropped; `None` when another process holds the lock.
///
/// # Errors
/// When the file, which the error names, cannot be created.
pub fn try_lock(log_path: &Path) -> Result<Option<File>, (PathBuf, io::Error)> {
    let path = path(log_path);
    let file = match files::open_private(&path) {
        Ok(file) => file,
        Err(error) => return Err((path, error)),
    };
    Ok(file.try_lock().is_ok().then_some(file))
}

/// True if a live process holds the lock; it creates nothing. The lock of a hub that was just killed may
/// still be held: a worker that it was starting has its descriptors until its program is loaded.
pub fn is_locked(log_path: &Path) -> bool {
    // A shared lock, so that two callers do not see each other.
    let lock = files::open(&path(log_path)).map(|file| file.try_lock_shared());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_for_as_long_as_somebody_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_locked(folder.path()));
        assert!(!path(folder.path()).exists());
        let lock = try_lock(folder.path()).unwrap();
        assert!(lock.is_some() && is_locked(folder.path()));
        assert!(try_lock(folder.path()).unwrap().is_none());
        drop(lock);
        assert!(!is_locked(folder.path()));
    }
}
