//! A worker's log: a file that the worker itself writes to, so that it survives the hub.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

use crate::config::older_log;
use crate::files;

/// Bytes at the end of a log that are searched for its last lines.
const TAIL_BYTES: u64 = 8 * 1024;
/// Number of last lines that an error shows.
const TAIL_LINES: usize = 8;

/// Interval of the looks for a text.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bytes that one of them reads; a log grows slower.
const MOST_AT_ONCE: u64 = 1 << 20;

/// The log of one launch: the part of the file that this launch has written.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// Byte offset of this launch's output.
    begin: u64,
}

impl Log {
    /// Opens the file for appending, readable by its owner only from then on; makes its folder.
    ///
    /// # Errors
    /// When the folder or the file cannot be written.
    pub(super) fn open(path: &Path) -> std::io::Result<(Self, File)> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = files::open_private(path)?;
        let begin = file.metadata()?.len();
        Ok((
            Self {
                path: path.to_owned(),
                begin,
            },
            file,
        ))
    }

    /// The log of a worker that an earlier hub started; its output begins at that byte.
    pub(super) fn of_earlier(path: &Path, begin: u64) -> Self {
        Self {
            path: path.to_owned(),
            begin,
        }
    }

    /// Byte offset of this launch's output.
    pub(super) fn begin(&self) -> u64 {
        self.begin
    }

    /// The file's length now; 0 when it is gone.
    pub(super) fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    /// Completes when this launch has written that text, and what follows it.
    pub(super) async fn says(&self, text: &str) {
        let (mut seen, mut begun) = (self.begin, Vec::new());
        let mut has_said = false;
        loop {
            let size = self.size();
            if has_said && size == seen {
                return;
            }
            if size < seen {
                // It was emptied.
                (seen, begun) = (0, Vec::new());
            }
            if size > seen
                && let Ok(read) = self.read_from(seen, &mut begun)
            {
                seen += read;
                has_said |= memchr::memmem::find(&begun, text.as_bytes()).is_some();
                // A line may be half written.
                let rest = begun.len().saturating_sub(text.len());
                begun.drain(..rest);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Adds what stands in the file from that byte on, and returns how much that is.
    fn read_from(&self, offset: u64, to: &mut Vec<u8>) -> std::io::Result<u64> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let read = file.take(MOST_AT_ONCE).read_to_end(to)?;
        Ok(read as u64)
    }

    /// The last lines this launch has written, without colours and blank lines.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.read_end().unwrap_or_default()
    }

    fn read_end(&self) -> std::io::Result<Vec<String>> {
        let mut file = File::open(&self.path)?;
        let size = self.size();
        // A file that was emptied holds no output of an earlier launch.
        let own = if self.begin <= size { self.begin } else { 0 };
        let begin = own.max(size.saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let plain = anstream::adapter::strip_str(&text).to_string();
        let lines: Vec<&str> = plain
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
            .collect();
        let skip = lines.len().saturating_sub(TAIL_LINES);
        Ok(lines[skip..].iter().map(|&line| line.to_owned()).collect())
    }
}

/// Empties a log that is longer than `most` bytes, after copying its last `most` bytes to the older file
/// beside it. The worker has the file open, so it cannot be renamed, and lines written meanwhile may be lost.
/// Returns true if the log was that long; a device such as /dev/null never is.
///
/// # Errors
/// When the older file cannot be written, as on a full disk; the log is emptied all the same.
pub fn keep_below(most: u64, path: &Path) -> std::io::Result<bool> {
    let is_long = std::fs::metadata(path).is_ok_and(|log| log.is_file() && log.len() > most);
    if !is_long {
        return Ok(false);
    }
    let log = files::open_private(path)?;
    let kept = keep_end(most, &log, path);
    log.set_len(0)?;
    kept.map(|()| true)
}

fn keep_end(most: u64, mut log: &File, path: &Path) -> std::io::Result<()> {
    let mut older = files::open_private(&older_log(path))?;
    // First, as the older file may hold the disk's only free space.
    older.set_len(0)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    std::io::copy(&mut log.take(most), &mut older)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_this_launch_is_shown_without_colours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/a.log");
        let (_, mut file) = Log::open(&path).unwrap();
        writeln!(file, "an earlier launch").unwrap();
        let (log, mut file) = Log::open(&path).unwrap();
        assert!(log.last_lines().is_empty());
        for n in 0..20 {
            writeln!(file, "\x1b[31mline {n}\x1b[0m\n").unwrap();
        }
        let lines = log.last_lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines[TAIL_LINES - 1], "line 19");
    }

    #[tokio::test]
    async fn a_text_is_noticed_in_what_this_launch_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, "Exception in an earlier launch\n").unwrap();
        let (log, mut file) = Log::open(&path).unwrap();
        let says = log.says("Exception in");
        tokio::pin!(says);
        let soon = Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, &mut says).await.is_err());
        write!(file, "no\nExcep").unwrap();
        assert!(tokio::time::timeout(soon, &mut says).await.is_err());
        writeln!(file, "tion in thread").unwrap();
        tokio::time::timeout(20 * soon, says).await.unwrap();
    }

    #[test]
    fn a_long_log_goes_on_empty_and_its_end_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let (_, mut worker) = Log::open(&path).unwrap();
        let older = || std::fs::read_to_string(older_log(&path)).unwrap();
        write!(worker, "0123456789").unwrap();
        assert!(!keep_below(10, &path).unwrap());
        write!(worker, "abc").unwrap();
        assert!(keep_below(10, &path).unwrap());
        assert_eq!(older(), "3456789abc");
        write!(worker, "goes on at the beginning").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "goes on at the beginning");
        assert!(keep_below(10, &path).unwrap());
        assert_eq!(older(), " beginning");
        assert_eq!(path.metadata().unwrap().len(), 0);
        assert!(!keep_below(0, Path::new("/dev/null")).unwrap());
    }

    #[test]
    fn a_log_is_emptied_also_when_no_older_one_can_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::create_dir(older_log(&path)).unwrap();
        std::fs::write(&path, "0123456789abc").unwrap();
        keep_below(10, &path).unwrap_err();
        assert_eq!(path.metadata().unwrap().len(), 0);
    }

    #[test]
    fn an_adopted_launch_is_shown_from_its_begin_and_an_emptied_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, "an earlier launch\nthis launch\n").unwrap();
        let log = Log::of_earlier(&path, "an earlier launch\n".len() as u64);
        assert_eq!(log.last_lines(), ["this launch"]);
        std::fs::write(&path, "after it\n").unwrap();
        assert_eq!(log.last_lines(), ["after it"]);
    }
}
