//! One file on its way into the cache: `blobs/ID.incomplete` grows, is checked, and becomes `blobs/ID`.

use std::fs::{File as DiskFile, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::api::{File, Opened};
use super::error::at;
use super::{DownloadError, is_whole};

/// Attempts in a row that bring nothing.
const ATTEMPTS: u32 = 5;
/// Pause after the first of them; each further one doubles it.
const PAUSE: Duration = Duration::from_millis(500);
const PIECE: usize = 128 * 1024;

/// A file of a repository in the cache.
pub(super) struct Blob<'a> {
    /// `models--ORG--NAME`.
    pub(super) repository: &'a Path,
    pub(super) file: &'a File,
}

/// The part of a file that is here.
struct Part {
    disk: DiskFile,
    path: PathBuf,
    bytes: u64,
    sha256: Sha256,
}

impl Blob<'_> {
    fn path(&self) -> PathBuf {
        self.repository.join("blobs").join(&self.file.blob)
    }

    fn incomplete(&self) -> PathBuf {
        self.path().with_added_extension("incomplete")
    }

    /// Bytes of it that are here.
    pub(super) fn here(&self) -> u64 {
        if is_whole(&self.path(), self.file.size) {
            return self.file.size;
        }
        let part = self.incomplete().metadata();
        part.map_or(0, |part| part.len()).min(self.file.size)
    }

    /// Brings what is missing; `open` asks for the file from a byte on.
    ///
    /// # Errors
    /// When it cannot be had or written, or is not what the hub has.
    pub(super) fn bring(
        &self,
        open: &dyn Fn(u64) -> Result<Opened, DownloadError>,
    ) -> Result<(), DownloadError> {
        let path = self.path();
        // Another process may be at it, ours or Python's.
        let _lock = self.locked()?;
        if is_whole(&path, self.file.size) {
            return Ok(());
        }
        let folder = path.parent().unwrap_or(&path);
        std::fs::create_dir_all(folder).map_err(at(folder))?;
        let mut part = Part::open(self.incomplete(), self.file.size)?;
        self.fill(&mut part, open)?;
        let Part {
            disk,
            path: incomplete,
            bytes,
            sha256,
        } = part;
        if let Err(reason) = self.check(bytes, sha256) {
            let _ = std::fs::remove_file(&incomplete);
            let file = self.file.path.clone();
            return Err(DownloadError::Wrong { file, reason });
        }
        disk.sync_all().map_err(at(&incomplete))?;
        std::fs::rename(&incomplete, &path).map_err(at(&path))
    }

    /// The lock of the file, in the place where huggingface_hub has it. It is released at the end of the process
    /// at the latest.
    fn locked(&self) -> Result<DiskFile, DownloadError> {
        let cache = self.repository.parent().unwrap_or(self.repository);
        let name = self.repository.file_name().unwrap_or_default();
        let folder = cache.join(".locks").join(name);
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        let path = folder.join(format!("{}.lock", self.file.blob));
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(at(&path))?;
        file.lock().map_err(at(&path))?;
        Ok(file)
    }

    /// Asks again from where it broke off, as long as something comes.
    fn fill(
        &self,
        part: &mut Part,
        open: &dyn Fn(u64) -> Result<Opened, DownloadError>,
    ) -> Result<(), DownloadError> {
        let mut in_vain = 0;
        while part.bytes < self.file.size {
            let before = part.bytes;
            let cause = match open(part.bytes) {
                Ok(opened) => match part.take(opened, self.file.size)? {
                    Some(cause) => cause.to_string(),
                    None => return Ok(()),
                },
                Err(DownloadError::Unreachable { cause, .. }) => cause,
                Err(error) => return Err(error),
            };
            in_vain = if part.bytes > before { 1 } else { in_vain + 1 };
            if in_vain == ATTEMPTS {
                let file = self.file.path.clone();
                return Err(DownloadError::BrokenOff { file, cause });
            }
            std::thread::sleep(PAUSE * 2_u32.pow(in_vain - 1));
        }
        Ok(())
    }

    /// Compares what is there with the hub's file.
    ///
    /// # Errors
    /// The difference.
    fn check(&self, bytes: u64, sha256: Sha256) -> Result<(), String> {
        if bytes != self.file.size {
            return Err(format!("{bytes} bytes instead of {}", self.file.size));
        }
        let sum = sha256.finalize();
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        match &self.file.sha256 {
            Some(expected) if *expected != sum => Err("its SHA-256 is another".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Part {
    /// Opens what an earlier download has left, emptied if it is longer than the file.
    fn open(path: PathBuf, size: u64) -> Result<Self, DownloadError> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let disk = options.open(&path).map_err(at(&path))?;
        let mut part = Self {
            disk,
            path,
            bytes: 0,
            sha256: Sha256::new(),
        };
        let length = part.disk.metadata().map_err(at(&part.path))?.len();
        match length <= size {
            true => part.read().map_err(at(&part.path))?,
            false => part.empty()?,
        }
        Ok(part)
    }

    /// Reads what is there, for its sum.
    fn read(&mut self) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            match self.disk.read(&mut piece)? {
                0 => return Ok(()),
                read => {
                    self.sha256.update(&piece[..read]);
                    self.bytes += read as u64;
                }
            }
        }
    }

    fn empty(&mut self) -> Result<(), DownloadError> {
        let emptied = self.disk.set_len(0);
        let emptied = emptied.and_then(|()| self.disk.seek(SeekFrom::Start(0)));
        emptied.map_err(at(&self.path))?;
        self.bytes = 0;
        self.sha256 = Sha256::new();
        Ok(())
    }

    /// Writes what comes, up to a byte more than `size`; returns why it broke off, if it did.
    fn take(&mut self, opened: Opened, size: u64) -> Result<Option<io::Error>, DownloadError> {
        if opened.from != self.bytes {
            self.empty()?;
            if opened.from > 0 {
                let other = io::Error::other("the server sent another part than was asked for");
                return Ok(Some(other));
            }
        }
        let mut body = opened.body.take(size + 1 - self.bytes);
        let mut piece = vec![0; PIECE];
        loop {
            match body.read(&mut piece) {
                Ok(0) => return Ok(None),
                Ok(read) => {
                    self.disk
                        .write_all(&piece[..read])
                        .map_err(at(&self.path))?;
                    self.sha256.update(&piece[..read]);
                    self.bytes += read as u64;
                }
                Err(error) => return Ok(Some(error)),
            }
        }
    }
}
