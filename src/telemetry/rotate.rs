//! A log file that never grows without end.
//!
//! `app.log` is renamed to `app.log.TIME` when it is full. Renamed files are removed when they are too old or
//! when all logs together are too large. Written here, because the crates lack what a hub that runs for months
//! needs: tracing-appender rotates by time alone; file-rotate limits the number of files or their age and not
//! both, loses the line when a file cannot be renamed, and hides its file, so that a log which a user moved
//! away cannot be noticed. Only [`super::init`] uses it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Troubles;
use crate::files::{create_private_folder, open_private};

/// Limits at which files are renamed and removed.
#[derive(Debug, Clone, Copy)]
struct RotationLimits {
    /// Bytes in the file that is written to.
    file: u64,
    /// Bytes in all files together.
    total: u64,
    /// Age of the last line of a renamed file.
    age: Duration,
}

const MEGABYTE: u64 = 1024 * 1024;

/// 500 MB in all, 10 days: the contract's figures.
const LIMITS: RotationLimits = RotationLimits {
    file: 50 * MEGABYTE,
    total: 500 * MEGABYTE,
    age: Duration::from_secs(10 * 24 * 3600),
};

/// Ages are checked at the next line after this time.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// At the next line after this time it is checked that the open file is still the one at its path: a user may
/// have renamed or removed it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The file that is written to, and its predecessors beside it.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    file: File,
    size: u64,
    pruned_at: SystemTime,
    looked_at: SystemTime,
    limits: RotationLimits,
    troubles: Troubles,
}

/// The trouble to report while lines cannot be written.
const TROUBLE: &str = "the hub's own log `app.log` cannot be written and loses lines";

impl RotatingFile {
    /// Opens the file at `path` to append, or creates it.
    pub(super) fn open(path: &Path, troubles: Troubles) -> io::Result<Self> {
        Self::with_limits(path, LIMITS, troubles)
    }

    fn with_limits(path: &Path, limits: RotationLimits, troubles: Troubles) -> io::Result<Self> {
        let file = open_private(path)?;
        let rotating = Self {
            path: path.to_owned(),
            size: file.metadata()?.len(),
            file,
            pruned_at: SystemTime::now(),
            looked_at: SystemTime::now(),
            limits,
            troubles,
        };
        rotating.prune();
        Ok(rotating)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let now = jiff::Timestamp::now();
        fs::rename(
            &self.path,
            self.renamed(&now.strftime("%Y%m%dT%H%M%S%.9fZ").to_string()),
        )?;
        self.file = open_private(&self.path)?;
        self.size = 0;
        self.prune();
        Ok(())
    }

    fn renamed(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }

    fn prune_when_due(&mut self) {
        if is_due(self.pruned_at, PRUNE_EVERY) {
            self.pruned_at = SystemTime::now();
            self.prune();
        }
    }

    /// Opens a new file when the path no longer names the open one. An error is retried until it succeeds.
    fn return_when_due(&mut self) -> io::Result<()> {
        if !is_due(self.looked_at, LOOK_EVERY) {
            return Ok(());
        }
        let own = node(&self.file.metadata()?);
        if !fs::metadata(&self.path).is_ok_and(|there| node(&there) == own) {
            create_private_folder(self.path.parent().unwrap_or(Path::new(".")))?;
            self.file = open_private(&self.path)?;
            self.size = self.file.metadata()?.len();
        }
        self.looked_at = SystemTime::now();
        Ok(())
    }

    /// Removes files that are too old or exceed the total, the oldest first. A failure leaves the file.
    fn prune(&self) {
        let now = SystemTime::now();
        // The file in use may fill up before the next check.
        let mut total = self.limits.file;
        for (path, size, modified) in self.predecessors() {
            total += size;
            let age = now.duration_since(modified).unwrap_or_default();
            if total > self.limits.total || age > self.limits.age {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Renamed files with size and time of the last line, the newest first.
    fn predecessors(&self) -> Vec<(PathBuf, u64, SystemTime)> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let prefix = self.renamed("");
        let prefix = prefix.file_name().unwrap_or_default().to_owned();
        let mut files: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .filter(|entry| begins_with(&entry.file_name(), &prefix))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((entry.path(), metadata.len(), metadata.modified().ok()?))
            })
            .collect();
        // The names hold the time.
        files.sort_by(|one, other| other.0.cmp(&one.0));
        files
    }
}

/// True if `every` has passed since `last`; a clock that was set back counts as due.
fn is_due(last: SystemTime, every: Duration) -> bool {
    let passed = SystemTime::now().duration_since(last);
    passed.map_or(true, |passed| passed >= every)
}

fn node(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn begins_with(name: &OsStr, prefix: &OsStr) -> bool {
    name.as_encoded_bytes()
        .starts_with(prefix.as_encoded_bytes())
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let returned = self.return_when_due();
        let size = self.size + line.len() as u64;
        if self.size > 0 && size > self.limits.file {
            // A file that cannot be renamed is still better than no log.
            let _ = self.rotate();
        }
        self.prune_when_due();
        let written = self.file.write(line);
        let went = match &returned {
            Ok(()) => written.as_ref().map(|_| ()),
            Err(error) => Err(error),
        };
        self.troubles.note(TROUBLE, went);
        self.size += *written.as_ref().unwrap_or(&0) as u64;
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::FileTimes;

    use super::*;

    const SMALL: RotationLimits = RotationLimits {
        file: 10,
        total: 30,
        age: Duration::from_secs(3600),
    };

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_is_renamed_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let mut log = RotatingFile::with_limits(&path, SMALL, Troubles::default()).unwrap();
        log.write_all(b"12345678\n").unwrap();
        log.write_all(b"second\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\n");
        let names = names(folder.path());
        assert_eq!(names.len(), 2, "{names:?}");
        assert_eq!(
            fs::read_to_string(folder.path().join(&names[1])).unwrap(),
            "12345678\n"
        );
    }

    #[test]
    fn all_files_together_stay_under_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let mut log = RotatingFile::with_limits(&path, SMALL, Troubles::default()).unwrap();
        for line in 0..20 {
            log.write_all(format!("line {line:04}").as_bytes()).unwrap();
        }
        let kept: Vec<_> = names(folder.path())
            .iter()
            .map(|name| fs::read_to_string(folder.path().join(name)).unwrap())
            .collect();
        assert_eq!(kept, ["line 0019", "line 0017", "line 0018"]);
    }

    #[test]
    fn old_files_go_and_files_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let old = folder.path().join("app.log.20200101T000000Z");
        let other = folder.path().join("qwen.log");
        for path in [&old, &other] {
            let file = File::create(path).unwrap();
            let long_ago = SystemTime::now() - 2 * SMALL.age;
            file.set_times(FileTimes::new().set_modified(long_ago))
                .unwrap();
        }
        let _log = RotatingFile::with_limits(&path, SMALL, Troubles::default()).unwrap();
        assert_eq!(names(folder.path()), ["app.log", "qwen.log"]);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_a_warning_until_one_can() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let troubles = Troubles::default();
        let mut log = RotatingFile::with_limits(&path, LIMITS, troubles.clone()).unwrap();
        log.file = File::open(&path).unwrap();
        log.write_all(b"lost\n").unwrap_err();
        insta::assert_snapshot!(troubles.warnings().join("\n"), @"the hub's own log `app.log` cannot be written and loses lines: Bad file descriptor (os error 9)");
        log.file = open_private(&path).unwrap();
        log.write_all(b"kept\n").unwrap();
        assert_eq!(troubles.warnings(), [""; 0]);
    }

    #[test]
    fn a_file_that_is_taken_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::create_dir(&logs).unwrap();
        let path = logs.join("app.log");
        let troubles = Troubles::default();
        let mut log = RotatingFile::with_limits(&path, LIMITS, troubles.clone()).unwrap();
        let mut write = |line: &str| {
            // As if a second had passed.
            log.looked_at = SystemTime::UNIX_EPOCH;
            log.write_all(line.as_bytes()).unwrap();
        };
        write("one\n");
        let elsewhere = logs.join("moved.log");
        fs::rename(&path, &elsewhere).unwrap();
        write("two\n");
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
        fs::remove_file(&path).unwrap();
        write("three\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
        fs::remove_dir_all(&logs).unwrap();
        fs::write(&logs, "no folder").unwrap();
        write("lost\n");
        insta::assert_snapshot!(troubles.warnings().join("\n"), @"the hub's own log `app.log` cannot be written and loses lines: File exists (os error 17)");
        fs::remove_file(&logs).unwrap();
        write("four\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four\n");
        assert_eq!(troubles.warnings(), [""; 0]);
    }

    #[test]
    fn a_restart_goes_on_with_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        for line in ["one\n", "two\n"] {
            let mut log = RotatingFile::with_limits(&path, SMALL, Troubles::default()).unwrap();
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
