//! `<log_path>/hub.lock`: one hub at a time uses a log folder. Two would take each other's workers for
//! left behind. The system gives the lock back when the process ends, however it does.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::{files, telemetry};

fn path(log_path: &Path) -> PathBuf {
    log_path.join("hub.lock")
}

/// Takes the folder for as long as the file is kept; `None` when another has it.
///
/// # Errors
/// When the file, which it names, cannot be made.
pub fn try_lock(log_path: &Path) -> Result<Option<File>, (PathBuf, io::Error)> {
    let path = path(log_path);
    let file = match telemetry::open_private(&path) {
        Ok(file) => file,
        Err(error) => return Err((path, error)),
    };
    Ok(file.try_lock().is_ok().then_some(file))
}

/// True if a process that lives has the folder; it creates nothing. A hub that was killed a moment ago
/// may still have it: a worker that it was about to start has its descriptors until its program is loaded.
pub fn is_locked(log_path: &Path) -> bool {
    // Shared, so that two that look do not see each other.
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
