//! Logs: `<log_path>/app.log`, and stderr for a hub in the foreground; and traces.
//!
//! The daemon calls [`init`] once, before anything else. A line has time, level, message and fields;
//! lines about a model carry `hub_model` and `hub_group`. Writing happens on a thread of its own: a full
//! disk costs lines, never a request. It knows nothing of the hub's other parts.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anstream::AutoStream;
use nix::unistd::getegid;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

use crate::files;

mod followed;
mod numbers;
mod rotate;
pub mod traces;
mod troubles;

pub(crate) use followed::{Followed, POLL_EVERY};
pub(crate) use numbers::{rate, seconds};
use rotate::RotatingFile;
pub use troubles::Troubles;

/// Lines that may wait to be written; more are lost. Memory for all of them is allocated at once, 32 bytes a
/// line.
const WAITING_LINES: usize = 8192;

/// Keeps the log's writer running, and that of traces; waiting spans are sent and waiting lines written when it is
/// dropped.
#[derive(Debug)]
#[must_use = "the log ends when this is dropped"]
pub struct Guard {
    _traces: Option<traces::SpanSender>,
    _writer: WorkerGuard,
}

/// The reason why there is no log. No cause is a `source`: `{:#}` would print it twice.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The folder cannot be made.
    #[error(
        "the log folder `{}` cannot be made: {cause}\nhint: set another `log_path` in hub.yaml",
        .path.display()
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The file cannot be written.
    #[error(
        "the log `{}` cannot be written: {cause}\nhint: set another `log_path` in hub.yaml",
        .path.display()
    )]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The process logs already.
    #[error(transparent)]
    Twice(#[from] TryInitError),
}

/// Sends what the process logs to `<log_path>/app.log`, whose folder it creates, and in the `foreground`
/// to stderr too, unless that is [`stderr_log`]; sends traces, if the environment names a collector. `level` is a word of hub.yaml's `log_level`, in any case; an unknown one means INFO.
/// Lines that cannot be written are lost; `troubles` says so meanwhile.
///
/// # Errors
/// When the log cannot be written, or was set up before.
pub fn init(
    log_path: &Path,
    level: &str,
    foreground: bool,
    troubles: Troubles,
) -> Result<Guard, TelemetryError> {
    let (subscriber, writer) = subscriber(log_path, level, foreground, troubles.clone())?;
    subscriber.try_init()?;
    Ok(Guard {
        _traces: traces::begin(&troubles),
        _writer: writer,
    })
}

fn subscriber(
    log_path: &Path,
    level: &str,
    foreground: bool,
    troubles: Troubles,
) -> Result<(impl Subscriber + Send + Sync + use<>, WorkerGuard), TelemetryError> {
    let path = app_log(log_path);
    create_log_folder(log_path)?;
    let (writer, guard) = RotatingFile::open(&path, troubles)
        .map(|file| {
            let lines = NonBlockingBuilder::default();
            lines.buffered_lines_limit(WAITING_LINES).finish(file)
        })
        .map_err(|cause| TelemetryError::File { path, cause })?;
    let file = fmt::layer()
        .with_writer(writer)
        .with_ansi(false)
        .with_target(false)
        .with_filter(filter(level));
    let stderr = (foreground && !is_stderr_kept(log_path)).then(|| {
        fmt::layer()
            // Strips the colours where they do not belong.
            .with_writer(|| AutoStream::auto(io::stderr()))
            .with_target(false)
            .with_filter(filter(level))
    });
    let subscriber = tracing_subscriber::registry().with(file).with(stderr);
    Ok((subscriber, guard))
}

/// The hub's own log.
pub fn app_log(log_path: &Path) -> PathBuf {
    log_path.join("app.log")
}

/// The file that receives the stderr of a hub that nobody watches. No model's log has this name: none begins with
/// `app.`.
pub fn stderr_log(log_path: &Path) -> PathBuf {
    log_path.join("app.stderr.log")
}

/// True if stderr goes to [`stderr_log`], beside the log that has the same lines.
fn is_stderr_kept(log_path: &Path) -> bool {
    let stderr = io::stderr().as_fd().try_clone_to_owned();
    let stderr = stderr.and_then(|stderr| File::from(stderr).metadata());
    let kept = stderr_log(log_path).metadata();
    let place = |file: &Metadata| (file.dev(), file.ino());
    matches!((stderr.as_ref().map(place), kept.as_ref().map(place)), (Ok(one), Ok(other)) if one == other)
}

/// Creates the folder of the logs with its parents, for its owner only; one that exists stays as it is.
///
/// # Errors
/// When it cannot be created.
pub fn create_log_folder(log_path: &Path) -> Result<(), TelemetryError> {
    files::create_private_folder(log_path).map_err(|cause| TelemetryError::Folder {
        path: log_path.to_owned(),
        cause,
    })
}

/// The way to close a log folder that others than its owner may write into; `None` for a closed one. A group
/// counts as others unless it is this user's own.
pub fn open_to_others(log_path: &Path) -> Option<String> {
    let metadata = log_path.metadata().ok()?;
    let mode = metadata.mode();
    let is_own_group = metadata.gid() == getegid().as_raw();
    let is_open = mode & 0o002 != 0 || (mode & 0o020 != 0 && !is_own_group);
    is_open.then(|| format!("close it with `chmod go-w {}`", log_path.display()))
}

/// The hub's own lines from `level` on, and the warnings of libraries.
fn filter(level: &str) -> Targets {
    let level = level_of(level);
    let libraries = LevelFilter::from_level(level.min(Level::WARN));
    Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

fn level_of(word: &str) -> Level {
    match word.to_ascii_uppercase().as_str() {
        "DEBUG" => Level::DEBUG,
        "WARNING" => Level::WARN,
        "ERROR" | "CRITICAL" => Level::ERROR,
        _ => Level::INFO,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_level_of_the_configuration_has_one_here() {
        for (word, level) in [
            ("DEBUG", Level::DEBUG),
            ("info", Level::INFO),
            ("Warning", Level::WARN),
            ("ERROR", Level::ERROR),
            ("CRITICAL", Level::ERROR),
        ] {
            assert_eq!(level_of(word), level, "{word}");
        }
    }

    #[test]
    fn libraries_are_not_more_talkative_than_the_hub() {
        let ours = env!("CARGO_CRATE_NAME");
        let debug = filter("DEBUG");
        assert!(debug.would_enable(ours, &Level::DEBUG));
        assert!(!debug.would_enable("hyper", &Level::INFO));
        let error = filter("ERROR");
        assert!(!error.would_enable(ours, &Level::WARN));
        assert!(!error.would_enable("hyper", &Level::WARN));
    }

    #[test]
    fn a_line_has_level_message_and_fields_and_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let log_path = folder.path().join("logs");
        let (subscriber, guard) =
            subscriber(&log_path, "INFO", false, Troubles::default()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(hub_model = "qwen", hub_group = "small", "model loaded");
            tracing::debug!("not shown");
        });
        drop(guard);
        let log = app_log(&log_path);
        let text = std::fs::read_to_string(&log).unwrap();
        let (time, line) = text.split_once(' ').unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert_eq!(
            line.trim(),
            "INFO model loaded hub_model=\"qwen\" hub_group=\"small\""
        );
        assert_eq!(log.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_new_log_folder_is_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        create_log_folder(&path).unwrap();
        create_log_folder(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }
}
