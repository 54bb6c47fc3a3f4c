//! Reads the hub's own small files safely, whatever another user has put in their place: a pipe, whose
//! opening waits for ever, or a device, which never ends. It knows nothing of their content.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::Serialize;

/// Largest file of the hub's own: thousands of models fit.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Smallest free space that a hub needs, in bytes.
const ROOM: usize = 16 * 1024;

/// Opens a regular file to read. It never blocks.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no regular file")),
    }
}

/// The content of a regular file of at most 16 MiB.
///
/// # Errors
/// As [`open`]; when it cannot be read or is larger than 16 MiB.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more, so that a longer file is noticed.
    open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// As [`read`]; when it is no UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::other("it is not UTF-8"))
}

/// The last `most` bytes of a regular file as text, and whether that is all of it.
///
/// # Errors
/// As [`open`]; when it cannot be read.
pub(crate) fn read_end(path: &Path, most: u64) -> io::Result<(String, bool)> {
    let mut file = open(path)?;
    let begin = file.metadata()?.len().saturating_sub(most);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), begin == 0))
}

/// [`read`] for a file that only this user can have written.
///
/// # Errors
/// As [`read`]; when it is another user's, or others may write it.
pub(crate) fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = open(path)?.metadata()?;
    if metadata.uid() != geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may have written it"));
    }
    read(path)
}

/// [`read`] for a file that nobody but this user can read.
///
/// # Errors
/// As [`read`]; when it is another user's, or others may read it.
pub(crate) fn read_private(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = open(path)?.metadata()?;
    if metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::other("it is another user's"));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(io::Error::other("others can read it"));
    }
    read(path)
}

/// The hidden file of that ending beside another: `.hub.yaml.running`.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(ending);
    path.with_file_name(name)
}

/// Checks that a folder can be written to now. It leaves nothing behind.
///
/// # Errors
/// When it cannot, as on a full disk.
pub(crate) fn has_room(folder: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&[b'.'; ROOM])?;
    file.sync_data()
}

/// Free bytes on the disk of a file or folder, for this user.
///
/// # Errors
/// When it is not there, or the system does not tell.
pub(crate) fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Creates a folder with its parents, for its owner only; one that exists stays as it is.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn create_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens a log to append, and creates it if need be; from then on its owner alone can read it.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    // The mode above is for a new file alone. Devices (a worker's log may be /dev/null) stay as they are.
    if file.metadata()?.is_file() {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Replaces a JSON file in one step; its owner alone can read it.
///
/// # Errors
/// When its folder cannot be written; the old file stays then.
pub(crate) fn replace_private(path: &Path, content: &impl Serialize) -> io::Result<()> {
    replace_private_text(path, &serde_json::to_vec(content)?)
}

/// Replaces a file in one step; its owner alone can read it.
///
/// # Errors
/// When its folder cannot be written; the old file stays then.
pub(crate) fn replace_private_text(path: &Path, text: &[u8]) -> io::Result<()> {
    // A named temporary file has mode 0600 and replaces the old one atomically.
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| without_name(&error))?;
    file.write_all(text)?;
    file.flush()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Replaces a file of the user's in one step, or creates it. A link stays one, and so do the permissions.
///
/// # Errors
/// When its folder cannot be written; the old file stays then.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_like(path, bytes, path)
}

/// The same, with the permissions of another file.
///
/// # Errors
/// As [`replace`].
pub(crate) fn replace_like(path: &Path, bytes: &[u8], like: &Path) -> io::Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = target.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(|error| without_name(&error))?;
    // Before there is anything to read.
    if let Ok(old) = like.metadata() {
        file.as_file().set_permissions(old.permissions())?;
    }
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|error| error.error)?;
    Ok(())
}

/// The error without the name of the temporary file, which is random and means nothing to a user.
fn without_name(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let why = text.split(" at path ").next().unwrap_or_default();
    io::Error::new(error.kind(), why)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn what_is_no_small_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "text").unwrap();
        assert_eq!(read(&at("file")).unwrap(), b"text");
        assert_eq!(
            read(&at("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        File::create(at("large"))
            .and_then(|file| file.set_len(MAX_BYTES + 1))
            .unwrap();
        let told = [at("pipe"), "/dev/zero".into(), at("large")]
            .map(|path| read(&path).unwrap_err().to_string());
        assert_eq!(
            told,
            [
                "it is no regular file",
                "it is no regular file",
                "it is larger than 16 MiB"
            ]
        );
    }

    #[test]
    fn the_end_of_a_file_is_told_from_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "one two").unwrap();
        assert_eq!(read_end(&path, 3).unwrap(), ("two".to_owned(), false));
        assert_eq!(read_end(&path, 7).unwrap(), ("one two".to_owned(), true));
    }

    #[test]
    fn a_replaced_file_keeps_its_link_and_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("real")).unwrap();
        std::fs::write(at("real/file"), "old").unwrap();
        std::fs::set_permissions(at("real/file"), Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real/file", at("link")).unwrap();
        replace(&at("link"), b"new").unwrap();
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read(at("real/file")).unwrap(), b"new");
        let mode = at("real/file").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        replace(&at("other"), b"new").unwrap();
        assert_eq!(std::fs::read(at("other")).unwrap(), b"new");
    }

    #[test]
    fn a_log_that_others_could_read_is_closed_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("open.log");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let file = open_private(&path).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
