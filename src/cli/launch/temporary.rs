//! A file that is there for as long as the client.
//!
//! The client takes this process over, so that nothing of it can clean up. A shell does, in a session of its
//! own: it waits for the end of a pipe whose other end the client holds, without knowing of it. However the
//! client ends, the system closes that end.

use std::io::{PipeWriter, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use process_wrap::std::{CommandWrap, ProcessSession};
use rustix::io::{FdFlags, fcntl_setfd};
use tempfile::TempDir;

use crate::clients;

/// Its first process ends at once, so that the client has no child that it knows nothing of. A command in the
/// background has another standard input, hence the third descriptor.
const CLEANER: &str = "cd /; exec 3<&0; { read -r _; rm -rf -- \"$0\"; } <&3 &";

/// A folder with a file, until the end of the process that has it.
pub(super) struct Temporary {
    folder: PathBuf,
    file: PathBuf,
    _held: PipeWriter,
}

impl Temporary {
    /// Writes it.
    ///
    /// # Errors
    /// When the folder for temporary files has no place for it, or no shell can be run.
    pub(super) fn write(file: &clients::Temporary) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("mlx-openai-server-hub-")
            .tempdir()
            .context("cannot create a temporary folder")?;
        let path = folder.path().join(file.name);
        std::fs::write(&path, &file.text)
            .with_context(|| format!("cannot write `{}`", path.display()))?;
        let held = clean_up_later(&folder).context("cannot run /bin/sh")?;
        Ok(Self {
            folder: folder.keep(),
            file: path,
            _held: held,
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn clean_up_later(folder: &TempDir) -> std::io::Result<PipeWriter> {
    let (end, held) = pipe()?;
    let mut cleaner = Command::new("/bin/sh");
    cleaner
        .args(["-c", CLEANER])
        .arg(folder.path())
        .stdin(end)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = CommandWrap::from(cleaner)
        .wrap(ProcessSession)
        .spawn()?
        .wait()?;
    if !started.success() {
        return Err(std::io::Error::other(started.to_string()));
    }
    // Only now, so that the cleaner does not hold it too.
    fcntl_setfd(&held, FdFlags::empty())?;
    Ok(held)
}
