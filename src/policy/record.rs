//! The recorder: writes every call of a hook to a file, for `policy replay`. It is off unless somebody
//! asked for it.
//!
//! The caller of a hook only copies what is at hand and puts it into a bounded queue; when that is full
//! the call is left out and counted. A thread of its own makes the lines. It writes no text of a request:
//! of a body only sizes, and its numbers and booleans; of the headers those of [`HEADERS`]. The file is
//! its owner's alone, is never one that was there before, and does not grow over [`LIMIT`].

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::ruling::{Asked, Ruling};
use super::set::Answer;
use super::views::request::prompt_chars;
use super::{Exit, ModelView, PendingLoad, World};
use crate::memory::SystemMemory;
use crate::status::{RecordingReport, unix_now};

pub(super) mod line;

use line::{Call, Line, Row, Said, millis};

/// The recording ends before its file is larger.
const LIMIT: u64 = 64 << 20;
/// Calls that may wait for the disk.
const QUEUE: usize = 1024;
/// Bytes of bodies that may wait with them.
const BODIES: usize = 64 << 20;
/// Headers that are written down; any other may be a secret.
const HEADERS: [&str; 3] = ["content-type", "user-agent", "content-length"];
/// Longer texts that clients send are clipped, in characters.
const CLIP: usize = 200;
/// So many fields of a body are written down.
const FIELDS: usize = 40;

/// The recorder of one hub.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    is_on: AtomicBool,
    writing: Mutex<Option<Writing>>,
}

#[derive(Debug)]
struct Writing {
    /// None once it was ended.
    queue: Option<SyncSender<Seen>>,
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
    /// Why it ended by itself.
    error: Mutex<Option<String>>,
}

/// What the caller of a hook copies.
#[derive(Debug)]
struct Seen {
    time: f64,
    hook: &'static str,
    model: String,
    request: Option<SeenRequest>,
    load: Option<PendingLoad>,
    exit: Option<Exit>,
    said: Said,
    models: Vec<ModelView>,
    memory: SystemMemory,
}

#[derive(Debug)]
struct SeenRequest {
    method: http::Method,
    path: String,
    client: String,
    waited_seconds: f64,
    headers: Vec<(&'static str, HeaderValue)>,
    body: Option<Bytes>,
}

impl Recorder {
    /// Whether calls are to be told to [`Self::see`].
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Begins a recording in a new file.
    ///
    /// # Errors
    /// One sentence: when a recording is on, or the file cannot be made or is there already.
    pub(super) fn start(&self, file: &Path) -> Result<(), String> {
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
            io::ErrorKind::AlreadyExists => format!("`{}` is there already", file.display()),
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
            .map_err(|error| format!("no thread for the recorder: {error}"))?;
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
    pub(super) fn stop(&self) {
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

    /// The recording that is on, or the last one.
    pub(super) fn report(&self) -> RecordingReport {
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

    /// A hook was called. Copies what is at hand; never waits for the disk.
    pub(super) fn see(
        &self,
        asked: &Asked<'_>,
        ruling: &Ruling,
        policy: Option<&str>,
        world: &dyn World,
    ) {
        // A policy that waits for the body is asked again.
        if matches!(ruling.answer, Answer::NeedBody) {
            return;
        }
        let writing = self.writing.lock();
        let Some((queue, progress)) = writing
            .as_ref()
            .and_then(|writing| Some((writing.queue.as_ref()?, &writing.progress)))
        else {
            return;
        };
        let seen = Seen::new(asked, ruling, policy, world, progress);
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

impl Seen {
    fn new(
        asked: &Asked<'_>,
        ruling: &Ruling,
        policy: Option<&str>,
        world: &dyn World,
        progress: &Progress,
    ) -> Self {
        let mut seen = Self {
            time: world.clock(),
            hook: asked.hook().name(),
            model: clipped(asked.model()),
            request: None,
            load: None,
            exit: None,
            said: said(asked, ruling, policy, world),
            models: world
                .model_names()
                .iter()
                .filter_map(|name| world.model(name))
                .collect(),
            memory: world.memory(),
        };
        match asked {
            Asked::Request(view) => {
                let headers = HEADERS.iter().filter_map(|name| {
                    let value = view.parts.headers.get(*name)?;
                    Some((*name, value.clone()))
                });
                let room = BODIES.saturating_sub(progress.bodies.load(Ordering::Relaxed));
                seen.request = Some(SeenRequest {
                    method: view.parts.method.clone(),
                    path: clipped(view.parts.uri.path()),
                    client: view.client.ip().to_string(),
                    waited_seconds: view.parked.waited_seconds,
                    headers: headers.collect(),
                    body: view.body.clone().filter(|body| body.len() <= room),
                });
            }
            Asked::Load(_, load) => seen.load = Some(*load),
            Asked::Exit(_, exit) => seen.exit = Some(*exit),
            Asked::Idle(_) => {}
        }
        seen
    }

    fn body_len(&self) -> usize {
        let body = self
            .request
            .as_ref()
            .and_then(|request| request.body.as_ref());
        body.map_or(0, Bytes::len)
    }
}

/// What was said, without a text that a policy may have made from the request.
pub(super) fn said(
    asked: &Asked<'_>,
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

/// The file, and how far it is.
struct Out {
    file: BufWriter<File>,
    progress: Arc<Progress>,
}

impl Out {
    /// Writes what comes until nobody sends any more.
    fn run(mut self, seen: &Receiver<Seen>) {
        let mut before = Before::default();
        let ended = loop {
            let next = match seen.try_recv() {
                Ok(seen) => Some(seen),
                Err(TryRecvError::Disconnected) => break Ok("off"),
                // Nothing to do: what there is should be seen.
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
            if let Err(error) = self.write(&before.line(next)) {
                break Err(error);
            }
            self.progress.calls.fetch_add(1, Ordering::Relaxed);
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

/// The world as the lines so far say it.
#[derive(Default)]
struct Before {
    models: BTreeMap<String, Row>,
    memory: Option<SystemMemory>,
}

impl Before {
    fn line(&mut self, seen: Seen) -> Line {
        let mut models = BTreeMap::new();
        for view in &seen.models {
            let row = Row::of(view, seen.time);
            let name = &view.facts.name;
            if self
                .models
                .get(name)
                .is_none_or(|before| !before.is_about(&row))
            {
                self.models.insert(name.clone(), row.clone());
                models.insert(name.clone(), row);
            }
        }
        let memory = Some(seen.memory)
            .filter(|now| !self.memory.as_ref().is_some_and(|was| about(was, now)));
        if let Some(memory) = &memory {
            self.memory = Some(*memory);
        }
        Line::Call(Box::new(Call {
            time: millis(seen.time),
            hook: seen.hook.to_owned(),
            model: seen.model,
            request: seen.request.map(SeenRequest::line),
            load: seen.load.map(|load| line::Load {
                reason: load.reason.as_str().to_owned(),
                waiting: load.waiting,
                waited_seconds: millis(load.waited_seconds),
            }),
            exit: seen.exit,
            said: seen.said,
            models,
            memory,
        }))
    }
}

/// Whether a policy could not mean the difference.
fn about(was: &SystemMemory, now: &SystemMemory) -> bool {
    let near = match (was.available, now.available) {
        (Some(was), Some(now)) => was.abs_diff(now) <= was.max(now) / 64,
        (was, now) => was == now,
    };
    near && was.total == now.total && was.pressure == now.pressure
}

impl SeenRequest {
    fn line(self) -> line::Request {
        let headers = self.headers.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            ((*name).to_owned(), clipped(&value))
        });
        line::Request {
            method: clipped(self.method.as_str()),
            path: self.path,
            client: self.client,
            waited_seconds: millis(self.waited_seconds),
            headers: headers.collect(),
            body: self.body.as_ref().map(body),
        }
    }
}

/// Sizes, numbers and booleans of a body.
fn body(bytes: &Bytes) -> line::Body {
    let json = serde_json::from_slice::<Value>(bytes).ok();
    let object = json.as_ref().and_then(Value::as_object);
    let scalars = object
        .into_iter()
        .flatten()
        .filter(|(name, value)| is_name(name) && (value.is_number() || value.is_boolean()));
    let fields: Map<String, Value> = scalars
        .take(FIELDS)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    line::Body {
        size_bytes: bytes.len(),
        prompt_chars: json
            .as_ref()
            .filter(|json| json.is_object())
            .map_or(0, prompt_chars),
        is_json: object.is_some(),
        fields,
    }
}

/// Whether it is a name, and no text.
fn is_name(text: impl AsRef<str>) -> bool {
    let text = text.as_ref();
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    !text.is_empty() && text.len() <= 40 && text.chars().all(allowed)
}

fn clipped(text: &str) -> String {
    text.chars().take(CLIP).collect()
}
