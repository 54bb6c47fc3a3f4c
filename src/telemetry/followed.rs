//! A log file that is read as it grows, for the command `logs` and for the status page.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files;

/// Interval at which a followed log is read.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(200);

/// Bytes per read.
const PIECE: u64 = 64 * 1024;

/// A log at a path, followed across rotation and truncation.
pub(crate) struct Followed {
    path: PathBuf,
    file: Option<File>,
    /// Number of bytes read.
    at: u64,
    /// Bytes of an incomplete character.
    rest: Vec<u8>,
}

impl Followed {
    /// Opens it at the last `lines`; the file may not exist yet.
    pub(crate) fn open(path: &Path, lines: usize) -> std::io::Result<Self> {
        let file = match files::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let at = file.as_ref().map(|file| begin_of_last(file, lines));
        Ok(Self {
            path: path.to_owned(),
            at: at.transpose()?.unwrap_or_default(),
            file,
            rest: Vec::new(),
        })
    }

    /// True if the file is there.
    pub(crate) fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// Some of the new text, in whole characters; `None` when all has been read for now.
    pub(crate) fn read(&mut self) -> std::io::Result<Option<String>> {
        if let Some(text) = self.read_file()? {
            return Ok(Some(text));
        }
        let there = self.path.metadata().ok();
        let open = self.file.as_ref().map(File::metadata).transpose()?;
        if there.is_none() || there.as_ref().map(node) == open.as_ref().map(node) {
            return Ok(None);
        }
        // Rotated: more may have been written to the old file meanwhile.
        if let Some(text) = self.read_file()? {
            return Ok(Some(text));
        }
        self.file = files::open(&self.path).ok();
        self.at = 0;
        self.read_file()
    }

    fn read_file(&mut self) -> std::io::Result<Option<String>> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        if file.metadata()?.len() < self.at {
            // Truncated: the whole content is new.
            self.at = 0;
        }
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.take(PIECE).read_to_end(&mut self.rest)?;
        self.at += read as u64;
        let whole = whole_characters(&self.rest);
        let text: Vec<u8> = self.rest.drain(..whole).collect();
        Ok((read > 0).then(|| String::from_utf8_lossy(&text).into_owned()))
    }
}

fn node(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Number of bytes before an incomplete character at the end.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// Byte offset of the last `lines`.
fn begin_of_last(mut file: &File, lines: usize) -> std::io::Result<u64> {
    let end = file.metadata()?.len();
    let (mut begin, mut found) = (end, 0);
    while begin > 0 && lines > 0 {
        let piece = begin.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(piece))?;
        let mut bytes = Vec::new();
        file.take(begin - piece).read_to_end(&mut bytes)?;
        for (at, _) in bytes
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            let after = piece + at as u64 + 1;
            // The newline at the very end closes the last line.
            if after < end {
                found += 1;
            }
            if found == lines {
                return Ok(after);
            }
        }
        begin = piece;
    }
    Ok(begin)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn last(text: &str, lines: usize) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, text).unwrap();
        let begin = begin_of_last(&File::open(&path).unwrap(), lines).unwrap();
        text[usize::try_from(begin).unwrap()..].to_owned()
    }

    #[test]
    fn the_last_lines_are_counted_from_the_end() {
        assert_eq!(last("one\ntwo\nthree\n", 2), "two\nthree\n");
        assert_eq!(last("one\ntwo\nthr", 2), "two\nthr");
        assert_eq!(last("one\n", 5), "one\n");
        assert_eq!(last("one\n", 0), "");
        assert_eq!(last("", 3), "");
        let long = "x".repeat(100_000);
        assert_eq!(last(&format!("a\n{long}\nb\n"), 2), format!("{long}\nb\n"));
    }

    #[test]
    fn a_character_that_is_not_there_whole_waits_for_the_rest() {
        assert_eq!(whole_characters("aé".as_bytes()), 3);
        assert_eq!(whole_characters(&"aé".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(b"a\xff"), 2);
    }

    #[test]
    fn what_is_added_is_read_across_truncation_and_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let all = |log: &mut Followed| {
            let mut text = String::new();
            while let Some(more) = log.read().unwrap() {
                text += &more;
            }
            text
        };
        let mut log = Followed::open(&path, 10).unwrap();
        assert!(!log.is_there());
        assert_eq!(all(&mut log), "");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(all(&mut log), "one\n");
        std::fs::write(&path, "2\n").unwrap();
        assert_eq!(all(&mut log), "2\n");
        std::fs::rename(&path, folder.path().join("old.log")).unwrap();
        assert_eq!(all(&mut log), "");
        std::fs::write(&path, "three\n").unwrap();
        assert_eq!(all(&mut log), "three\n");
        let long = "x".repeat(200_000);
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(long.as_bytes()).unwrap();
        assert_eq!(all(&mut log), long);
    }
}
