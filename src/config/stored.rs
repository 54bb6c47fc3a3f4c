//! hub.yaml as it is on the disk, for those who change it: replaced in one step, and only as long as nobody else has.
//!
//! Commands that edit an entry and the editor of the status page write through it.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{MAX_BYTES, schema};
use crate::files;

/// Earlier texts that are kept beside hub.yaml.
const KEPT: usize = 5;

/// The reason why a file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has changed it.
    #[error("`{}` has changed meanwhile, and was left as it is\nhint: try again", .path.display())]
    Changed {
        /// hub.yaml.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Read {
        /// hub.yaml.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It, its folder or its copy cannot be written.
    #[error("cannot write `{}`", .path.display())]
    Write {
        /// The file or the folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The bytes of the hub.yaml at `path`; `None` if there is no file.
///
/// # Errors
/// When it cannot be read, or is larger than a hub.yaml may be.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match files::read(path) {
        Ok(bytes) if bytes.len() as u64 > MAX_BYTES => {
            Err(io::Error::other("it is larger than 1 MiB"))
        }
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The mark of a text: no two have the same.
pub fn version(text: &[u8]) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes `after` in the place of `before`, or creates the file where that is `None`. A link stays one, and so do
/// the permissions; the schema beside it is brought up to date if the text names it.
///
/// # Errors
/// When the file has changed meanwhile or cannot be written; it is as it was then.
pub fn replace(path: &Path, before: Option<&[u8]>, after: &str) -> Result<(), StoreError> {
    check(path, before)?;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| cannot_write(folder, source))?;
    }
    files::replace(path, after.as_bytes()).map_err(|source| cannot_write(path, source))?;
    schema::keep_beside(path, after.as_bytes());
    Ok(())
}

/// [`replace`] that first keeps `before` in a file beside it, and returns that file: `hub.yaml.bak.1`. The texts
/// that were kept before move on, and the last of five goes.
///
/// # Errors
/// As [`replace`], and when the copy cannot be written.
pub fn replace_and_keep(path: &Path, before: &[u8], after: &str) -> Result<PathBuf, StoreError> {
    check(path, Some(before))?;
    let kept = backup(path, 1);
    for number in (1..KEPT).rev() {
        let (newer, older) = (backup(path, number), backup(path, number + 1));
        match std::fs::rename(&newer, &older) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot_write(&older, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    files::replace_like(&kept, before, path).map_err(|source| cannot_write(&kept, source))?;
    replace(path, Some(before), after)?;
    Ok(kept)
}

fn check(path: &Path, before: Option<&[u8]>) -> Result<(), StoreError> {
    let is = read(path).map_err(|source| StoreError::Read {
        path: path.to_owned(),
        source,
    })?;
    match is.as_deref() == before {
        true => Ok(()),
        false => Err(StoreError::Changed {
            path: path.to_owned(),
        }),
    }
}

fn backup(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".bak.{number}"));
    name.into()
}

fn cannot_write(path: &Path, source: io::Error) -> StoreError {
    StoreError::Write {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_last_five_texts_are_kept_as_private_as_the_file_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/mine.yaml"), "text 0").unwrap();
        std::fs::set_permissions(at("real/mine.yaml"), Permissions::from_mode(0o640)).unwrap();
        let path = at("hub.yaml");
        std::os::unix::fs::symlink("real/mine.yaml", &path).unwrap();
        for number in 0..8 {
            let [before, after] = [number, number + 1].map(|number| format!("text {number}"));
            let kept = replace_and_keep(&path, before.as_bytes(), &after).unwrap();
            assert_eq!(kept, at("hub.yaml.bak.1"));
            assert_eq!(std::fs::read_to_string(kept).unwrap(), before);
        }
        assert!(path.is_symlink());
        assert_eq!(
            std::fs::read_to_string(at("real/mine.yaml")).unwrap(),
            "text 8"
        );
        for file in ["real/mine.yaml", "hub.yaml.bak.1", "hub.yaml.bak.5"] {
            let mode = at(file).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{file}");
        }
        assert_eq!(
            std::fs::read_to_string(at("hub.yaml.bak.5")).unwrap(),
            "text 3"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 7);
    }

    #[test]
    fn a_file_that_somebody_else_has_changed_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.yaml");
        std::fs::write(&path, "theirs").unwrap();
        for before in [Some(&b"mine"[..]), None] {
            let refused = replace(&path, before, "new").unwrap_err();
            assert!(matches!(refused, StoreError::Changed { .. }), "{refused}");
        }
        let refused = replace_and_keep(&path, b"mine", "new").unwrap_err();
        assert!(matches!(refused, StoreError::Changed { .. }), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_ne!(version(b"theirs"), version(b"mine"));
    }
}
