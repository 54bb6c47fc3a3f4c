//! The recorder: writes every call of a hook and every event to a file, for `policy replay`. It is off unless a
//! user switches it on.
//!
//! The caller of a hook only copies values into a bounded queue; if it is full, the call is left out and
//! counted. A thread of its own formats the lines. It writes no text of a request: of a body only sizes,
//! numbers and booleans; of the headers a few. The file is new, readable by its owner only, and never larger
//! than [`LIMIT`].

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use serde_json::Value;

use super::ruling::{Question, Ruling};
use crate::api::{RecordingReport, unix_now};
use crate::policy::set::HookAnswer;
use crate::policy::{Event, World};

pub(crate) mod line;
mod seen;

use line::{Line, Said, millis};
use seen::{Before, Snapshot};

/// Largest file; the recording ends before it.
const LIMIT: u64 = 64 << 20;
/// Calls that may wait for the disk.
const QUEUE: usize = 1024;
/// Bytes of bodies that may wait with them.
const BODIES: usize = 64 << 20;
/// Longer texts that clients send are clipped, in characters.
const CLIP: usize = 200;
/// Fields of a body that are recorded.
const FIELDS: usize = 40;

/// The recorder of one hub.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    is_on: AtomicBool,
    writing: Mutex<Option<Writing>>,
}

#[derive(Debug)]
struct Writing {
    /// `None` once the recording has ended.
    queue: Option<SyncSender<Snapshot>>,
    thread: Option<JoinHandle<()>>,
    file: PathBuf,
    since: f64,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    calls: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    /// Bytes of bodies in the queue.
    bodies: AtomicUsize,
    /// The reason why it ended by itself.
    error: Mutex<Option<String>>,
}

impl Recorder {
    /// True if [`Self::see`] wants calls.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Begins a recording in a new file.
    ///
    /// # Errors
    /// One sentence: when a recording is on, or the file exists already or cannot be created.
    pub(crate) fn start(&self, file: &Path) -> Result<(), String> {
        let mut writing = self.writing.lock();
        let is_going = |writing: &&Writing| self.is_on() && writing.progress.error.lock().is_none();
        if let Some(writing) = writing.as_ref().filter(is_going) {
            return Err(format!(
                "calls are being recorded in `{}` already",
                writing.file.display()
            ));
        }
        if file
            .extension()
            .is_none_or(|extension| extension != "jsonl")
            || !file.is_absolute()
        {
            return Err(format!(
                "`{}` must be an absolute path that ends in `.jsonl`",
                file.display()
            ));
        }
        let told = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => format!("`{}` already exists", file.display()),
            _ => format!("`{}` cannot be written: {error}", file.display()),
        };
        let new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(file);
        let mut out = Out {
            file: BufWriter::new(new.map_err(told)?),
            progress: Arc::default(),
        };
        let since = unix_now();
        let head = Line::Head {
            recording: line::VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            time: millis(since),
        };
        out.write(&head)
            .and_then(|()| out.file.flush())
            .map_err(told)?;
        let progress = Arc::clone(&out.progress);
        let (queue, seen) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || out.run(&seen))
            .map_err(told)?;
        *writing = Some(Writing {
            queue: Some(queue),
            thread: Some(thread),
            file: file.to_owned(),
            since,
            progress,
        });
        self.is_on.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the recording; returns when its last line is written.
    pub(crate) fn stop(&self) {
        let thread = {
            let mut writing = self.writing.lock();
            self.is_on.store(false, Ordering::Relaxed);
            let Some(writing) = writing.as_mut() else {
                return;
            };
            writing.queue = None;
            writing.thread.take()
        };
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::warn!("the recorder of policies ended badly");
        }
    }

    /// The current recording, or the last one.
    pub(crate) fn report(&self) -> RecordingReport {
        let mut report = RecordingReport {
            limit_bytes: LIMIT,
            ..RecordingReport::default()
        };
        if let Some(writing) = self.writing.lock().as_ref() {
            let progress = &writing.progress;
            report.recording = self.is_on() && progress.error.lock().is_none();
            report.file = Some(writing.file.display().to_string());
            report.since = Some(writing.since);
            report.calls = progress.calls.load(Ordering::Relaxed);
            report.bytes = progress.bytes.load(Ordering::Relaxed);
            report.dropped = progress.dropped.load(Ordering::Relaxed);
            report.error.clone_from(&progress.error.lock());
        }
        report
    }

    /// Records a call of a hook. Only copies values; never waits for the disk.
    pub(crate) fn see(
        &self,
        asked: &Question<'_>,
        ruling: &Ruling,
        policy: Option<&str>,
        world: &dyn World,
    ) {
        // A policy that waits for the body is asked again.
        if matches!(ruling.answer, HookAnswer::NeedBody) {
            return;
        }
        self.put(|room| Snapshot::call(asked, ruling, policy, world, room));
    }

    /// Records an event that observers may receive, in the same way.
    pub(crate) fn hear(&self, event: &Event, world: &dyn World) {
        self.put(|_| Snapshot::event(event, world));
    }

    /// Queues the result of `make`, which gets the room left for a body.
    fn put(&self, make: impl FnOnce(usize) -> Snapshot) {
        let writing = self.writing.lock();
        let Some((queue, progress)) = writing
            .as_ref()
            .and_then(|writing| Some((writing.queue.as_ref()?, &writing.progress)))
        else {
            return;
        };
        let seen = make(BODIES.saturating_sub(progress.bodies.load(Ordering::Relaxed)));
        let body = seen.body_len();
        progress.bodies.fetch_add(body, Ordering::Relaxed);
        match queue.try_send(seen) {
            Ok(()) => {}
            Err(std::sync::mpsc::TrySendError::Full(_)) => {
                progress.bodies.fetch_sub(body, Ordering::Relaxed);
                progress.dropped.fetch_add(1, Ordering::Relaxed);
            }
            // The file is full, or cannot be written: the report says so.
            Err(std::sync::mpsc::TrySendError::Disconnected(_)) => {
                self.is_on.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// The ruling, without texts that a policy may have made from the request.
pub(crate) fn said(
    asked: &Question<'_>,
    ruling: &Ruling,
    policy: Option<&str>,
    world: &dyn World,
) -> Said {
    let mut fields = ruling.fields();
    for text in ["message", "code", "client", "reason"] {
        fields.remove(text);
    }
    if let Some(Value::String(model)) = fields.get_mut("model")
        && world.model(model).is_none()
    {
        *model = "?".to_owned();
    }
    for names in ["set", "unset", "headers"] {
        if let Some(Value::Array(names)) = fields.get_mut(names) {
            names.retain(|name| name.as_str().is_some_and(is_name));
            names.truncate(FIELDS);
        }
    }
    Said {
        verdict: ruling.word(asked.hook()).to_owned(),
        fields,
        place: ruling.place.as_deref().or(policy).map(str::to_owned),
    }
}

/// The file and its length.
struct Out {
    file: BufWriter<File>,
    progress: Arc<Progress>,
}

impl Out {
    /// Writes queued entries until all senders are gone.
    fn run(mut self, seen: &Receiver<Snapshot>) {
        let mut before = Before::default();
        let ended = loop {
            let next = match seen.try_recv() {
                Ok(seen) => Some(seen),
                Err(TryRecvError::Disconnected) => break Ok("off"),
                // The queue is empty: flush, so that readers see the lines.
                Err(TryRecvError::Empty) => match self.file.flush() {
                    Err(error) => break Err(error),
                    Ok(()) => seen.recv().ok(),
                },
            };
            let Some(next) = next else { break Ok("off") };
            self.progress
                .bodies
                .fetch_sub(next.body_len(), Ordering::Relaxed);
            if self.progress.bytes.load(Ordering::Relaxed) >= LIMIT - LIMIT / 64 {
                break Ok("limit");
            }
            let calls = u64::from(next.is_call());
            if let Err(error) = self.write(&before.line(next)) {
                break Err(error);
            }
            self.progress.calls.fetch_add(calls, Ordering::Relaxed);
        };
        let ended = ended.and_then(|end| {
            let dropped = self.progress.dropped.load(Ordering::Relaxed);
            let (end, time) = (end.to_owned(), millis(unix_now()));
            if end == "limit" {
                let limit = LIMIT >> 20;
                *self.progress.error.lock() = Some(format!("the file has reached {limit} MiB"));
            }
            self.write(&Line::End { end, time, dropped })?;
            self.file.flush()
        });
        if let Err(error) = ended {
            tracing::warn!(%error, "the recording of policies cannot be written");
            *self.progress.error.lock() = Some(format!("it cannot be written: {error}"));
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)?;
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// True if it is a name rather than a text.
fn is_name(text: impl AsRef<str>) -> bool {
    let text = text.as_ref();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.len() <= 40 && text.chars().all(allowed)
}

fn clipped(text: &str) -> String {
    text.chars().take(CLIP).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Unstarted;

    /// The reason for the end of a recording, after a call that came when `bytes` were written.
    fn ended(file: File, bytes: u64) -> String {
        let config = crate::config::from_yaml("models: [{name: a, model_path: org/a}]");
        let out = Out {
            file: BufWriter::new(file),
            progress: Arc::default(),
        };
        let progress = Arc::clone(&out.progress);
        progress.bytes.store(bytes, Ordering::Relaxed);
        let (queue, seen) = sync_channel(1);
        let event = Event::config_reloaded(0.0);
        queue
            .send(Snapshot::event(&event, &Unstarted::new(config)))
            .unwrap();
        drop(queue);
        out.run(&seen);
        progress.error.lock().clone().unwrap()
    }

    #[test]
    fn a_recording_that_ends_by_itself_says_why() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let full = ended(file.reopen().unwrap(), LIMIT);
        insta::assert_snapshot!(full, @"the file has reached 64 MiB");
        let read_only = File::open(file.path()).unwrap();
        insta::assert_snapshot!(ended(read_only, 0), @"it cannot be written: Bad file descriptor (os error 9)");
    }
}
