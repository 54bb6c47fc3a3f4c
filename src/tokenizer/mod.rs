//! Counts tokens by a model's own `tokenizer.json`, in a process apart.
//!
//! A tokenizer of Qwen3's size (151,000 words, 11 MB) takes 103 MB of memory, and an allocator may keep all of
//! that once it is dropped (glibc's does, as measured). So this program is run again (`count-tokens FILE`) as
//! a [`process`]: it reads texts and answers numbers, and is ended when nobody has asked for [`IDLE`]. There
//! are at most [`MOST`] of them. One that cannot be started, dies or takes longer than [`LIMIT`] counts
//! nothing, and the caller estimates.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

mod process;

pub(crate) use process::serve;

/// The hidden command of this program that is a counting process.
pub(crate) const COMMAND: &str = "count-tokens";

/// Time without a count after which a process is ended.
const IDLE: Duration = Duration::from_secs(300);
/// Longest time for reading a tokenizer, and for one count.
const LIMIT: Duration = Duration::from_secs(30);
/// Processes at a time.
const MOST: usize = 2;
/// Counts that may wait for a process; more are not counted.
const WAITING: usize = 256;

/// The counting processes. Cheap to clone; they end with the last clone.
#[derive(Debug, Clone)]
pub(crate) struct Tokenizers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The command line before the tokenizer's file; `None` if it is unknown.
    command: Option<Vec<OsString>>,
    idle: Duration,
    limit: Duration,
    /// The one that was used last comes last.
    counters: Mutex<Vec<Counter>>,
    tasks: TaskTracker,
}

/// A process, by its tokenizer's file.
#[derive(Debug)]
struct Counter {
    file: PathBuf,
    changed: SystemTime,
    asks: mpsc::Sender<Ask>,
}

struct Ask {
    /// Texts, as a line of JSON.
    texts: Vec<u8>,
    answer: oneshot::Sender<Option<usize>>,
}

impl Default for Tokenizers {
    fn default() -> Self {
        let program = std::env::current_exe().ok();
        let command = program.map(|program| vec![program.into(), COMMAND.into()]);
        Self::new(command, IDLE, LIMIT)
    }
}

impl Tokenizers {
    fn new(command: Option<Vec<OsString>>, idle: Duration, limit: Duration) -> Self {
        Self {
            shared: Arc::new(Shared {
                command,
                idle,
                limit,
                counters: Mutex::default(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// The tokens of all texts by the tokenizer in `file`, without special tokens; `None` if they could not be
    /// counted. However many ask at once, the file is read once.
    pub(crate) async fn count(&self, file: &Path, texts: &[impl AsRef<str>]) -> Option<usize> {
        let changed = tokio::fs::metadata(file).await.ok()?.modified().ok()?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let mut line = serde_json::to_vec(&texts).ok()?;
        line.push(b'\n');
        let (answer, counted) = oneshot::channel();
        let ask = Ask {
            texts: line,
            answer,
        };
        self.asks(file, changed)?.try_send(ask).ok()?;
        counted.await.ok()?
    }

    /// The way to the process of that file, which is started if there is none.
    fn asks(&self, file: &Path, changed: SystemTime) -> Option<mpsc::Sender<Ask>> {
        let mut counters = self.shared.counters.lock();
        counters.retain(|counter| !counter.asks.is_closed());
        let at = counters
            .iter()
            .position(|counter| counter.file == file && counter.changed == changed);
        let counter = match at {
            Some(at) => counters.remove(at),
            None => {
                // An earlier version of the file is not asked again.
                counters.retain(|counter| counter.file != file);
                if counters.len() == MOST {
                    counters.remove(0);
                }
                self.start(file, changed)?
            }
        };
        let asks = counter.asks.clone();
        counters.push(counter);
        Some(asks)
    }

    fn start(&self, file: &Path, changed: SystemTime) -> Option<Counter> {
        let command = self.shared.command.clone()?;
        let (asks, asked) = mpsc::channel(WAITING);
        let (idle, limit) = (self.shared.idle, self.shared.limit);
        let path = file.to_owned();
        self.shared
            .tasks
            .spawn(keep(command, path, asked, idle, limit));
        Some(Counter {
            file: file.to_owned(),
            changed,
            asks,
        })
    }
}

/// A running process.
struct Process {
    child: Child,
    texts: ChildStdin,
    counts: Lines<BufReader<ChildStdout>>,
}

/// Has a process of that file answer until nobody has asked for `idle`.
async fn keep(
    command: Vec<OsString>,
    file: PathBuf,
    mut asked: mpsc::Receiver<Ask>,
    idle: Duration,
    limit: Duration,
) {
    let mut process = match timeout(limit, Process::start(&command, &file)).await {
        Ok(Ok(process)) => Some(process),
        Ok(Err(error)) => {
            tracing::warn!(file = %file.display(), "tokens are estimated: {error}");
            None
        }
        Err(_) => {
            tracing::warn!(file = %file.display(), "tokens are estimated: reading took too long");
            None
        }
    };
    while let Ok(Some(ask)) = timeout(idle, asked.recv()).await {
        if ask.answer.is_closed() {
            continue;
        }
        let mut counted = None;
        // Taken out: what does not answer well once is not asked again.
        if let Some(mut running) = process.take()
            && let Ok(Ok(count)) = timeout(limit, running.count(&ask.texts)).await
        {
            counted = count;
            process = Some(running);
        }
        let _ = ask.answer.send(counted);
    }
    if let Some(process) = process {
        process.end().await;
    }
}

impl Process {
    /// # Errors
    /// When it cannot be run, or cannot read the tokenizer.
    async fn start(command: &[OsString], file: &Path) -> std::io::Result<Self> {
        let mut words = command.iter().map(OsString::as_os_str);
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let (Some(texts), Some(counts)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(std::io::Error::other("no pipes"));
        };
        let mut counts = BufReader::new(counts).lines();
        match counts.next_line().await?.as_deref() {
            Some(process::READY) => Ok(Self {
                child,
                texts,
                counts,
            }),
            Some(error) => Err(std::io::Error::other(error.to_owned())),
            None => Err(std::io::Error::other("the process that counts has ended")),
        }
    }

    /// The number of a line of texts; `None` if the tokenizer refuses them.
    ///
    /// # Errors
    /// When the process has ended.
    async fn count(&mut self, texts: &[u8]) -> std::io::Result<Option<usize>> {
        self.texts.write_all(texts).await?;
        let line = self.counts.next_line().await?;
        let line = line.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(line.parse().ok())
    }

    async fn end(mut self) {
        drop(self.texts);
        let _ = self.child.kill().await;
    }
}

#[cfg(test)]
mod tests;
