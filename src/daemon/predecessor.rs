//! The hub before this one, seen from the one that takes its place.
//!
//! The new hub learns from it what it needs to get ready, takes over when it is, and then hears how many
//! requests the old one still serves.

use std::fs::File;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;

use anyhow::{Context as _, bail};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::{Channel, Everything, Hello, Word};
use crate::hub::lifecycle::{Held, InFlight, Lifecycle, Models};

const BROKE_OFF: &str = "the hub that was to be replaced has said nothing more";

/// The old hub, before this one serves.
#[derive(Debug)]
pub(super) struct Predecessor {
    channel: Channel,
    pub(super) hello: Hello,
}

/// Things that it hands over at once.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) listeners: Vec<StdListener>,
    pub(super) lock: File,
    /// To the process that a service manager follows, if there is one.
    pub(super) service: Option<Channel>,
}

impl Predecessor {
    /// Hears what it has to say, on the stdin of this process.
    pub(super) async fn meet() -> anyhow::Result<(Self, Handed)> {
        let mut channel = Channel::from_stdin().context("stdin is no channel to another hub")?;
        let Some((Word::Hello(hello), files)) = channel.hear().await? else {
            bail!(BROKE_OFF);
        };
        let mut files = files.into_iter();
        let listeners = files.by_ref().take(hello.listeners);
        let listeners = listeners.map(StdListener::from).collect();
        let lock = files.next().context(BROKE_OFF)?.into();
        let service = files.next().map(|end| Channel::of(StdStream::from(end)));
        let handed = Handed {
            listeners,
            lock,
            service: service.transpose()?,
        };
        let hello = *hello;
        Ok((Self { channel, hello }, handed))
    }

    /// Tells it that this hub cannot take over; it serves on.
    pub(super) async fn refuse(&self, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        // Without the word it sees this process end.
        let _ = self.channel.say(&Word::Refused { reason }, &[]).await;
    }

    /// Tells it that this hub could serve now: then it stands still and says all that it knows.
    pub(super) async fn legacy(&mut self) -> anyhow::Result<Everything> {
        self.channel.say(&Word::Ready, &[]).await?;
        match self.channel.hear().await? {
            Some((Word::Legacy(everything), _)) => Ok(*everything),
            _ => bail!(BROKE_OFF),
        }
    }

    /// Tells it that this hub serves; from now on it only ends what it has begun. If it was killed meanwhile, this
    /// one is the hub all the same: it has all there is.
    pub(super) async fn serving(&self, address: SocketAddr, log_path: &Path) {
        let log_path = log_path.to_owned();
        let serving = Word::Serving { address, log_path };
        if let Err(error) = self.channel.say(&serving, &[]).await {
            tracing::warn!(%error, "the hub before is gone; this one serves in its place");
        }
    }

    /// Keeps as many leases in `held` as it serves requests, until it is gone; `lifecycle` hears what was
    /// asked of it too late.
    pub(super) fn follow(
        self,
        held: Held,
        lifecycle: Lifecycle,
        tracker: &TaskTracker,
    ) -> Following {
        let (words, to_say) = mpsc::unbounded_channel();
        let gone = CancellationToken::new();
        let at_its_end = gone.clone().drop_guard();
        let processes = self.hello.processes;
        tracker.spawn(async move {
            let _at_its_end = at_its_end;
            follow(self.channel, held, lifecycle, to_say).await;
        });
        Following {
            words,
            gone,
            processes,
        }
    }
}

async fn follow(
    mut channel: Channel,
    mut held: Held,
    lifecycle: Lifecycle,
    mut to_say: mpsc::UnboundedReceiver<Word>,
) {
    loop {
        tokio::select! {
            heard = channel.hear() => match heard {
                Ok(Some((Word::InFlight(now), _))) => held.update(&now),
                Ok(Some((Word::Shutdown, _))) => lifecycle.request_shutdown(Models::Stop),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return held.update(&InFlight::new()),
            },
            Some(word) = to_say.recv() => {
                // If it does not hear, it is gone.
                let _ = channel.say(&word, &[]).await;
            }
        }
    }
}

/// The old hub, while it still serves what it has begun.
#[derive(Debug)]
pub(super) struct Following {
    words: mpsc::UnboundedSender<Word>,
    gone: CancellationToken,
    /// It, and hubs before it.
    pub(super) processes: Vec<u32>,
}

impl Following {
    pub(super) fn say(&self, word: Word) {
        // If the other hub does not hear it, it is gone.
        let _ = self.words.send(word);
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Cancelled when it is.
    pub(super) fn goes(&self) -> CancellationToken {
        self.gone.clone()
    }

    /// Completes when it is.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}
