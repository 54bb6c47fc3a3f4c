//! A hub that another one has replaced: it finishes its requests, and ends.
//!
//! It tells the other one of its requests in flight, sends on what comes on connections that were open
//! already, and in the service's process stays as long as there is a hub.

use std::pin::pin;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::channel::{Signalled, Word};
use super::predecessor::Following;
use super::service::{Keeper, same};
use super::signals::Signals;
use super::successor::Raised;
use crate::hub::gateway::Successor;
use crate::hub::lifecycle::{InFlight, Lifecycle};

/// Interval at which the requests in flight are counted for the other hub.
const POLL_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Lingering {
    pub(super) lifecycle: Lifecycle,
    pub(super) connections: TaskTracker,
    /// Ends all connections.
    pub(super) shutdown: CancellationToken,
    pub(super) successor: Successor,
    pub(super) before: Option<Following>,
    pub(super) raised: Raised,
    pub(super) keeper: Option<Keeper>,
    pub(super) signals: Signals,
}

/// The reason of its end.
enum End {
    /// All is served.
    Over,
    /// The rest is to be cut.
    Cut,
    /// The hub has ended, and with it the service.
    OfService(ExitStatus),
}

impl Lingering {
    pub(super) async fn run(mut self) -> ExitCode {
        match self.serve_to_the_end().await {
            End::Over => tracing::info!("all requests that this hub had begun are over"),
            End::Cut => {
                self.shutdown.cancel();
                tracing::info!("what this hub still served is cut");
            }
            End::OfService(status) => return same(status),
        }
        let Some(mut keeper) = self.keeper else {
            return ExitCode::SUCCESS;
        };
        // The other hub need not count it any more.
        drop(self.raised);
        loop {
            tokio::select! {
                status = keeper.ended() => return same(status),
                (_, meaning) = self.signals.next() => keeper.signalled(meaning).await,
            }
        }
    }

    async fn serve_to_the_end(&mut self) -> End {
        let mut look = interval(POLL_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut told, mut is_heard) = (InFlight::new(), true);
        let lifecycle = self.lifecycle.clone();
        let mut told_to_end = pin!(
            async move {
                lifecycle.shutdown_requested().await;
            }
            .fuse()
        );
        // What came while the other hub took over, a request or a signal, was for whichever is the hub.
        if told_to_end.as_mut().now_or_never().is_some() {
            self.pass_on(Signalled::Terminate).await;
        }
        if let Some((_, meaning)) = self.signals.next().now_or_never() {
            self.pass_on(meaning).await;
        }
        loop {
            let hub_ends = async {
                match &mut self.keeper {
                    Some(keeper) => keeper.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = look.tick() => {
                    let now = self.lifecycle.in_flight();
                    let before_is_gone = self.before.as_ref().is_none_or(Following::is_gone);
                    if now.is_empty() && self.connections.is_empty() && before_is_gone {
                        return End::Over;
                    }
                    if is_heard && now != told {
                        let word = Word::InFlight(now.clone());
                        is_heard = self.raised.channel.say(&word, &[]).await.is_ok();
                        told = now;
                    }
                }
                heard = self.raised.channel.hear(), if is_heard => match heard {
                    Ok(Some((Word::Moved { address }, _))) => {
                        self.successor.set(address);
                        self.tell_before(Word::Moved { address });
                    }
                    Ok(Some((Word::End, _))) => {
                        self.tell_before(Word::End);
                        return End::Cut;
                    }
                    Ok(Some(_)) => {}
                    // It has been killed: what is being served still is.
                    Ok(None) | Err(_) => is_heard = false,
                },
                () = &mut told_to_end => self.pass_on(Signalled::Terminate).await,
                (_, meaning) = self.signals.next() => match (&self.keeper, meaning) {
                    (Some(keeper), meaning) => keeper.signalled(meaning).await,
                    (None, Signalled::Terminate) => {
                        self.tell_before(Word::End);
                        return End::Cut;
                    }
                    (None, Signalled::Reload) => {}
                },
                status = hub_ends => return End::OfService(status),
            }
        }
    }

    /// Tells the other hub what this one was told too late.
    async fn pass_on(&self, meaning: Signalled) {
        if meaning == Signalled::Terminate {
            // If it does not hear, it has ended.
            let _ = self.raised.channel.say(&Word::Shutdown, &[]).await;
        }
    }

    fn tell_before(&self, word: Word) {
        if let Some(before) = &self.before {
            before.say(word);
        }
    }
}
