//! One spare process: started, handed a command line, asked for what it has imported.
//!
//! The hub and the process have the two ends of a channel, the process as its stdin. Messages are JSON behind eight
//! hexadecimal digits, their length in bytes; `spare.py` is the other side. A spare ends when the hub's end closes,
//! until it has been handed a command line; after that it tells when it listens, or what ended it before.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until, timeout};

use super::SpareKind;
use super::interpreter::Interpreter;
use super::lessons::Modules;
use crate::worker::command::not_run;
use crate::worker::environment;
use crate::worker::group::Group;
use crate::worker::mark::Owner;

/// The program of the process.
const SOURCE: &str = include_str!("spare.py");
/// Reads [`SOURCE`] from a descriptor, and runs the code that it returns as `python PROGRAM` would.
const BOOT: &str = r#"import os,sys
d,n=map(int,sys.argv[1:3]);t=b""
while len(t)<n:t+=os.read(d,n-len(t)) or sys.exit()
s={"__name__":"spare"};exec(compile(t,"spare.py","exec"),s);exec(*s["begin"](d))"#;

/// Longest import.
const MAKING: Duration = Duration::from_secs(180);
/// Longest time in which a spare takes a command line.
const TAKING: Duration = Duration::from_secs(2);
/// The same for one that has to be started first, as on a cold disk.
const STARTING: Duration = Duration::from_secs(15);
/// Longest wait for what a process has said that has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest wait for the names of modules.
const TELLING: Duration = Duration::from_secs(10);
/// Times after a load at which a worker tells what it has imported, the first at the end.
const LESSONS: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(10),
    Duration::ZERO,
];
/// Has a spare that imports do so at the usual priority; any other process does nothing about it.
pub(super) const HURRY: Signal = Signal::SIGURG;
/// Digits in front of a message.
const SIZE: usize = 8;
/// Longest message in bytes: thousands of names.
const LONGEST: usize = 1 << 24;
/// A command line and the source fit, so that handing them over never waits.
const ROOM: usize = 1 << 20;

/// All that a worker that begins as a spare receives, besides its environment.
#[derive(Debug, Serialize)]
pub(in crate::worker) struct HandOver<'a> {
    /// Arguments behind the program.
    pub(in crate::worker) args: &'a [String],
    /// Variables that the spare was started without.
    pub(in crate::worker) environment: &'a std::collections::BTreeMap<String, String>,
    /// Working directory.
    pub(in crate::worker) folder: &'a Path,
    /// File for stdout and stderr.
    pub(in crate::worker) log: &'a Path,
}

/// A spare process. Dropped, its channel closes, by which it ends if it has no command line yet.
#[derive(Debug)]
pub(in crate::worker) struct Spare {
    pub(super) kind: SpareKind,
    pub(super) pid: u32,
    group: Group,
    /// The name that its processes are marked with.
    launch: String,
    pub(super) child: Child,
    channel: Channel,
    /// True if it tells what the program imports.
    teaches: bool,
}

/// A process that was handed a command line.
#[derive(Debug)]
pub(in crate::worker) struct Begun {
    /// The name that its processes are marked with.
    pub(in crate::worker) launch: String,
    channel: Channel,
    kind: SpareKind,
    teaches: bool,
    fault: Option<SpareFault>,
}

/// What ended a worker that began as a spare, and was not its program itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::worker) enum SpareFault {
    /// It found its modules or its environment in another state than a program that is started by itself.
    Unlike(String),
    /// One of its processes was ended by a signal.
    Killed(String),
}

/// The reason why a spare has not taken its command line.
#[derive(Debug)]
pub(in crate::worker) enum NotTaken {
    /// A file that it had imported is another one now.
    Changed(String),
    /// Any other.
    Failed(String),
}

/// The hub's end.
#[derive(Debug)]
struct Channel {
    stream: UnixStream,
    /// The begin of a message that is not whole yet.
    received: Vec<u8>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Ready,
    Taken,
    Listening,
    Changed(String),
    Failed(String),
    Killed(String),
    Told(Told),
}

#[derive(Debug, Deserialize)]
struct Told {
    modules: Vec<String>,
    model_modules: Option<Vec<String>>,
}

impl Spare {
    /// Starts one that imports these modules; without any it teaches which there are.
    ///
    /// # Errors
    /// When no process can be started.
    pub(super) fn start(
        kind: &SpareKind,
        interpreter: &Interpreter,
        owner: &Owner,
        launch: String,
        folder: &Path,
    ) -> Result<Self, String> {
        let failed = |error: &io::Error| {
            let interpreter = interpreter.path.display();
            format!("`{interpreter}`: {}", not_run(error))
        };
        let (ours, theirs) = channel().map_err(|error| failed(&error))?;
        let mut command = Command::new(&interpreter.path);
        environment(&mut command, &kind.env, owner, &launch);
        let child = command
            .args(&interpreter.options)
            .args(["-c", BOOT, "0", &SOURCE.len().to_string(), &launch])
            .current_dir(folder)
            .stdin(theirs)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| failed(&error))?;
        let pid = child
            .id()
            .expect("a child that nobody has waited for has an id");
        Ok(Self {
            kind: kind.clone(),
            pid,
            group: Group::led_by(pid).expect("a child leads the group it was put into"),
            launch,
            child,
            channel: ours,
            teaches: false,
        })
    }

    /// The first message: what to import.
    fn setup(&self, modules: Option<&Modules>) -> Vec<u8> {
        let setup = json!({
            "boot": BOOT,
            "source": SOURCE,
            "name": self.launch,
            "program": self.kind.program.path(),
            "modules": modules.map_or(&[][..], |modules| &modules.server),
            "model_modules": modules.and_then(|modules| modules.model.as_ref()),
            "teaches": modules.is_none(),
        });
        [SOURCE.as_bytes(), message(&setup).as_slice()].concat()
    }

    /// Has it import these modules; completes when it has.
    ///
    /// # Errors
    /// A sentence about why it cannot be used.
    pub(super) async fn import(&mut self, modules: &Modules) -> Result<(), String> {
        let setup = self.setup(Some(modules));
        let importing = async {
            let sent = self.channel.stream.write_all(&setup).await;
            sent.map_err(|error| error.to_string())?;
            self.channel.hear().await
        };
        match timeout(MAKING, importing).await {
            Ok(Ok(Said::Ready)) => Ok(()),
            Ok(Ok(Said::Failed(reason)) | Err(reason)) => Err(reason),
            Ok(Ok(_)) => Err("it spoke out of turn".to_owned()),
            Err(_) => Err(format!("it was not ready within {} s", MAKING.as_secs())),
        }
    }

    /// Has it import nothing, and tell later what the program did.
    ///
    /// # Errors
    /// When the message does not get through.
    pub(super) fn learn(&mut self) -> io::Result<()> {
        let setup = self.setup(None);
        self.teaches = true;
        self.channel.send(&setup)
    }

    /// Hands it a command line, at once. What happens to the hub afterwards does not concern it.
    ///
    /// # Errors
    /// When the message does not get through; the process is ended then.
    pub(in crate::worker) fn hand_over(
        mut self,
        order: &HandOver<'_>,
    ) -> io::Result<(Child, Begun)> {
        match self.channel.send(&message(order)) {
            Ok(()) => {
                let begun = Begun {
                    launch: self.launch,
                    channel: self.channel,
                    kind: self.kind,
                    teaches: self.teaches,
                    fault: None,
                };
                Ok((self.child, begun))
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// True if its process has not ended.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends both its processes.
    pub(super) fn end(&self) {
        self.group.signal(Signal::SIGKILL);
    }

    /// Describes how it ended.
    pub(super) async fn reason(&mut self, said: String) -> String {
        match timeout(TAKING, self.child.wait()).await {
            Ok(Ok(status)) => format!("{said} ({status})"),
            _ => said,
        }
    }
}

impl Begun {
    /// Completes when the process has taken its command line.
    ///
    /// # Errors
    /// When it has not in time, or says why it cannot.
    pub(in crate::worker) async fn taken(&mut self) -> Result<(), NotTaken> {
        let limit = if self.teaches { STARTING } else { TAKING };
        let taking = async {
            loop {
                match self.channel.hear().await.map_err(NotTaken::Failed)? {
                    Said::Taken => return Ok(()),
                    Said::Changed(reason) => return Err(NotTaken::Changed(reason)),
                    Said::Failed(reason) => return Err(NotTaken::Failed(reason)),
                    _ => {}
                }
            }
        };
        match timeout(limit, taking).await {
            Ok(taken) => taken,
            Err(_) => {
                let limit = limit.as_secs();
                Err(NotTaken::Failed(format!(
                    "it did not begin within {limit} s"
                )))
            }
        }
    }

    /// Completes when it listens on a port, if it tells that.
    pub(in crate::worker) async fn listening(&mut self) {
        loop {
            match self.channel.hear().await {
                Ok(Said::Listening) => return,
                Ok(said) => self.note(said),
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// The fault that the process has told of, which has ended; `None` if its program ended by itself, or after it
    /// had listened.
    pub(in crate::worker) async fn fault(&mut self) -> Option<SpareFault> {
        let hearing = async {
            while self.fault.is_none()
                && let Ok(said) = self.channel.hear().await
            {
                self.note(said);
            }
        };
        let _ = timeout(LAST_WORDS, hearing).await;
        self.fault.take()
    }

    fn note(&mut self, said: Said) {
        match said {
            Said::Failed(reason) => self.fault = Some(SpareFault::Unlike(reason)),
            Said::Killed(reason) => self.fault = Some(SpareFault::Killed(reason)),
            _ => {}
        }
    }

    /// The processes that may stand in for it.
    pub(in crate::worker) fn kind(&self) -> &SpareKind {
        &self.kind
    }

    /// The teacher in it, if it is to tell what it imports.
    pub(in crate::worker) fn teacher(self) -> Option<Teacher> {
        self.teaches.then_some(Teacher {
            channel: self.channel,
            kind: self.kind,
            times: Vec::new(),
        })
    }
}

/// A worker that can tell what it has imported: as soon as it has loaded its model, and later again, since the first
/// requests import something too.
#[derive(Debug)]
pub(in crate::worker) struct Teacher {
    channel: Channel,
    pub(super) kind: SpareKind,
    /// When it tells; the next time at the end. None before the load, and after the last time.
    times: Vec<Instant>,
}

impl Teacher {
    /// Its model is loaded.
    pub(in crate::worker) fn begin(&mut self) {
        let now = Instant::now();
        self.times = LESSONS.map(|after| now + after).to_vec();
    }

    /// The modules in its processes, when it is time; never completes when it has told all.
    pub(super) async fn tell(&mut self) -> Option<Modules> {
        let Some(at) = self.times.last() else {
            return std::future::pending().await;
        };
        sleep_until(*at).await;
        self.times.pop();
        let told = self.ask().await;
        if told.is_none() {
            self.times.clear();
        }
        told
    }

    async fn ask(&mut self) -> Option<Modules> {
        self.channel.send(&message(&json!({}))).ok()?;
        let telling = async {
            loop {
                match self.channel.hear().await {
                    Ok(Said::Told(told)) => return Some(told),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        let told = timeout(TELLING, telling).await.ok()??;
        Some(Modules {
            server: told.modules,
            model: told.model_modules,
        })
    }
}

impl Channel {
    /// Sends all of it without waiting.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Not by tokio, which learns only later that a new stream can be written to.
        match SockRef::from(&self.stream).send(bytes)? {
            all if all == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// The next message. Dropped, it loses nothing of one.
    async fn hear(&mut self) -> Result<Said, String> {
        loop {
            if let Some(text) = self.whole()? {
                let said = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
                if matches!(said, Said::Listening) {
                    tracing::debug!("the worker listens");
                }
                return Ok(said);
            }
            let read = self.stream.read_buf(&mut self.received).await;
            if !read.is_ok_and(|bytes| bytes > 0) {
                return Err("it ended".to_owned());
            }
        }
    }

    /// Takes a message that is whole.
    fn whole(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some((size, rest)) = self.received.split_at_checked(SIZE) else {
            return Ok(None);
        };
        let size = std::str::from_utf8(size).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.filter(|size| *size <= LONGEST);
        let size = size.ok_or("it sent what is no message")?;
        if rest.len() < size {
            return Ok(None);
        }
        let rest = self.received.split_off(SIZE + size);
        let mut message = std::mem::replace(&mut self.received, rest);
        Ok(Some(message.split_off(SIZE)))
    }
}

/// The hub's end, and the one that becomes a process's stdin.
fn channel() -> io::Result<(Channel, OwnedFd)> {
    let (ours, theirs) = StdStream::pair()?;
    for end in [&ours, &theirs] {
        // A system that gives less takes shorter command lines.
        let _ = SockRef::from(end).set_send_buffer_size(ROOM);
        let _ = SockRef::from(end).set_recv_buffer_size(ROOM);
    }
    ours.set_nonblocking(true)?;
    let ours = Channel {
        stream: UnixStream::from_std(ours)?,
        received: Vec::new(),
    };
    Ok((ours, theirs.into()))
}

fn message(content: &impl Serialize) -> Vec<u8> {
    let text = serde_json::to_vec(content).unwrap_or_default();
    let size = format!("{:0SIZE$x}", text.len());
    [size.as_bytes(), &text].concat()
}
