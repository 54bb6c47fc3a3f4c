//! The messages of two hubs while one replaces the other, and the files they hand over.
//!
//! A [`Channel`] is one end of a pair of sockets: words as JSON, and open files beside them. The other
//! process gets its end as its stdin, so that no third process can have it, and each sees by its end that
//! the other is gone.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::hub::gateway::HandedResponses;
use crate::hub::lifecycle::{InFlight, Legacy};
use crate::hub::server::HandedSessions;
use crate::runtime_file::RuntimeModels;

/// A word may come with so many open files.
const MAX_FILES: usize = 64;

/// Bytes per read.
const PIECE: usize = 64 * 1024;

/// Length of the text, and number of files.
const HEAD: usize = 5;

/// A message of one to the other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// The old hub, first of all. With it come the listeners, the lock of the log folder, and the new hub's
    /// channel to the service's process, if there is one.
    Hello(Box<Hello>),
    /// The new hub could serve now.
    Ready,
    /// The new hub cannot serve.
    Refused { reason: String },
    /// The old hub stands still, and this is all it knows.
    Legacy(Box<Everything>),
    /// The new hub serves: it listens there and keeps its records in that folder.
    Serving {
        address: SocketAddr,
        log_path: PathBuf,
    },
    /// The old hub still serves these requests.
    InFlight(InFlight),
    /// The old hub was told to end while the new one took over.
    Shutdown,
    /// There is a still newer hub, at this address.
    Moved { address: SocketAddr },
    /// All is to end: the old hub cuts what it still serves.
    End,

    /// To the service's process: start that program, with the file that comes along as its stdin.
    Start { program: PathBuf },
    /// It is started.
    Started { pid: u32 },
    /// It is not.
    NotStarted { reason: String },
    /// The hub is that process now.
    Current { pid: u32 },
    /// From the service's process, which got a signal.
    Signal(Signalled),
}

/// All that a hub knows. One of another version may know less.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Everything {
    pub(super) legacy: Legacy,
    #[serde(default)]
    pub(super) sessions: HandedSessions,
    #[serde(default)]
    pub(super) responses: HandedResponses,
}

/// The meaning of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Signalled {
    /// The hub is to end.
    Terminate,
    /// hub.yaml is to be read again.
    Reload,
}

/// The facts that the new hub needs to get ready.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Mark of the requests that one hub sends on to the other.
    pub(super) proof: String,
    /// hub.yaml's words for the address to listen at.
    pub(super) host: String,
    /// The same.
    pub(super) port: u16,
    /// Number of listeners among the files.
    pub(super) listeners: usize,
    /// True if a service manager holds them: then no others will do.
    #[serde(default)]
    pub(super) activated: bool,
    /// The log folder that the lock is for.
    pub(super) log_path: PathBuf,
    /// For how long the clock has been going.
    pub(super) clock: Duration,
    /// The models as they are before the old hub stands still.
    pub(super) found: RuntimeModels,
    /// Their ports.
    pub(super) ports: BTreeMap<String, u16>,
    /// The service's process, if there is one.
    pub(super) service: Option<u32>,
    /// The processes of this and earlier hubs that end later.
    pub(super) processes: Vec<u32>,
}

/// One end.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UnixStream,
    unread: BytesMut,
    files: VecDeque<OwnedFd>,
}

impl Channel {
    /// Both ends, one of them for another process.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) = StdStream::pair()?;
        Ok((Self::of(own)?, other.into()))
    }

    /// The end that this process was started with as its stdin.
    pub(super) fn from_stdin() -> io::Result<Self> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        // What this process starts must not have it.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Self::of(end.into())
    }

    /// An end that came over another channel.
    pub(super) fn of(end: StdStream) -> io::Result<Self> {
        end.set_nonblocking(true)?;
        Ok(Self {
            stream: UnixStream::from_std(end)?,
            unread: BytesMut::new(),
            files: VecDeque::new(),
        })
    }

    /// This end, once more.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Says `word`, with `files`.
    pub(super) async fn say(&self, word: &Word, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        let length = u32::try_from(text.len()).map_err(|_| ErrorKind::InvalidData)?;
        let count = u8::try_from(files.len())
            .ok()
            .filter(|_| files.len() <= MAX_FILES)
            .ok_or(ErrorKind::InvalidInput)?;
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.push(count);
        bytes.extend(text);
        let (mut rest, mut files) = (bytes.as_slice(), files);
        while !rest.is_empty() {
            let write = || write(&self.stream, rest, files);
            let written = self.stream.async_io(Interest::WRITABLE, write).await?;
            rest = &rest[written..];
            files = &[];
        }
        Ok(())
    }

    /// The next word, with its files; `None` when the other process is gone or has closed its end. Dropping
    /// the future loses nothing.
    pub(super) async fn hear(&mut self) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        loop {
            if let Some(heard) = self.take()? {
                return Ok(Some(heard));
            }
            let (stream, unread, files) = (&self.stream, &mut self.unread, &mut self.files);
            let read = stream
                .async_io(Interest::READABLE, || read(stream, unread, files))
                .await?;
            if read == 0 {
                return Ok(None);
            }
        }
    }

    /// All that the other process has said by now: what it said last, if it is gone.
    pub(super) fn heard_already(&mut self) -> Vec<(Word, Vec<OwnedFd>)> {
        let mut heard = Vec::new();
        loop {
            match self.take() {
                Ok(Some(word)) => heard.push(word),
                // Not tokio's word for it, which may not know yet what has just come.
                Ok(None) => match read(&self.stream, &mut self.unread, &mut self.files) {
                    Ok(read) if read > 0 => {}
                    _ => return heard,
                },
                Err(_) => return heard,
            }
        }
    }

    fn take(&mut self) -> io::Result<Option<(Word, Vec<OwnedFd>)>> {
        let Some((head, text)) = self.unread.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [length @ .., count] = *head;
        let length = u32::from_be_bytes(length) as usize;
        let Some(text) = text.get(..length) else {
            return Ok(None);
        };
        let word = serde_json::from_slice(text)?;
        self.unread.advance(HEAD + length);
        let count = usize::from(count).min(self.files.len());
        Ok(Some((word, self.files.drain(..count).collect())))
    }
}

fn write(stream: &UnixStream, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let bytes = [IoSlice::new(bytes)];
    Ok(sendmsg(stream, &bytes, &mut beside, SendFlags::empty())?)
}

fn read(
    stream: &UnixStream,
    unread: &mut BytesMut,
    files: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut piece = vec![0; PIECE];
    let mut into = [IoSliceMut::new(&mut piece)];
    let read = recvmsg(stream, &mut into, &mut beside, RecvFlags::empty())?.bytes;
    unread.extend_from_slice(&piece[..read]);
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            for file in received {
                // macOS has no way to receive them so.
                fcntl_setfd(&file, FdFlags::CLOEXEC)?;
                files.push_back(file);
            }
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};

    use super::*;

    #[tokio::test]
    async fn words_and_files_arrive_in_order_and_the_end_is_seen() {
        let (one, other) = Channel::pair().unwrap();
        let mut other = Channel::of(other.into()).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kept").unwrap();
        let long = "x".repeat(3 * PIECE);
        let said = async {
            one.say(&Word::Ready, &[]).await.unwrap();
            let refused = Word::Refused {
                reason: long.clone(),
            };
            one.say(&refused, &[file.as_fd(), file.as_fd()])
                .await
                .unwrap();
            one.say(&Word::End, &[]).await.unwrap();
            drop(one);
        };
        let heard = async {
            let (word, files) = other.hear().await.unwrap().unwrap();
            assert!(matches!(word, Word::Ready) && files.is_empty());
            let (word, mut files) = other.hear().await.unwrap().unwrap();
            assert!(matches!(word, Word::Refused { reason } if reason == long));
            assert_eq!(files.len(), 2);
            let mut same = std::fs::File::from(files.remove(0));
            same.rewind().unwrap();
            let mut text = String::new();
            same.read_to_string(&mut text).unwrap();
            assert_eq!(text, "kept");
            let (word, _) = other.hear().await.unwrap().unwrap();
            assert!(matches!(word, Word::End));
            assert!(other.hear().await.unwrap().is_none());
        };
        tokio::join!(said, heard);
    }

    #[tokio::test]
    async fn the_last_words_of_one_that_is_gone_are_heard_at_once() {
        let (one, other) = Channel::pair().unwrap();
        let mut other = Channel::of(other.into()).unwrap();
        assert!(other.heard_already().is_empty());
        for pid in [1, 2] {
            one.say(&Word::Current { pid }, &[]).await.unwrap();
        }
        drop(one);
        let heard = other.heard_already().into_iter().map(|(word, _)| word);
        let pids = heard.filter_map(|word| match word {
            Word::Current { pid } => Some(pid),
            _ => None,
        });
        assert_eq!(pids.collect::<Vec<_>>(), [1, 2]);
    }
}
