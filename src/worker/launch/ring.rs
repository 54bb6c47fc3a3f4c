//! Whether the machines of a model compute together.
//!
//! If one of them hangs, the others wait for it with busy processors, and the first answers `/health` as before. So
//! progress is what counts: bytes for clients, lines in the log, and, while nobody asks, the request that loads a
//! model, which all of them take part in.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::load_request::ask_to_load;
use super::{Order, Spawned};
use crate::worker::group::Group;
use crate::worker::output::Log;
use crate::worker::ranks::Watched;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The machines are asked for a token after so long without progress.
const ASK_AFTER: Duration = Duration::from_secs(5);
/// Without progress for so long while there is something to do, they hang.
const HANGS_AFTER: Duration = Duration::from_secs(20);

const STOPPED_HERE: &str = "one of its processes on this machine is stopped";

/// What a model's requests have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulse {
    /// Another number after every byte of an answer.
    pub signs: u64,
    /// Requests in flight.
    pub active: usize,
    /// Requests that have ended.
    pub ended: u64,
}

/// A request for a token that has not been answered yet.
type Asking<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Completes when the machines of a model do not compute together any more, with a sentence about it. Never for a
/// model of one machine.
pub(super) async fn falls_apart(
    spawned: &Spawned,
    log: &Log,
    group: Group,
    order: &Order,
) -> String {
    if !order.model.spans_machines() {
        return std::future::pending().await;
    }
    tokio::select! {
        lost = spawned.ranks.lost(Watched::There) => lost,
        hangs = hangs(spawned, log, group, order) => hangs,
    }
}

/// Completes when a machine of a model that is not loaded yet is lost, with a sentence about it. What they compute is not
/// looked at: nothing may be to be computed for a long time. Never unless the model `spans_machines`.
pub(super) async fn is_lost(spawned: &Spawned, group: Group, spans_machines: bool) -> String {
    if !spans_machines {
        return std::future::pending().await;
    }
    let stopped = async {
        while !group.is_stopped() {
            sleep(LOOK_EVERY).await;
        }
        STOPPED_HERE.to_owned()
    };
    tokio::select! {
        lost = spawned.ranks.lost(Watched::ToCome) => lost,
        stopped = stopped => stopped,
    }
}

async fn hangs(spawned: &Spawned, log: &Log, group: Group, order: &Order) -> String {
    let look = || ((order.pulse)(), log.size());
    let (mut before, mut moved) = (look(), Instant::now());
    let mut asked: Option<Asking<'_>> = None;
    loop {
        let answered = async {
            match &mut asked {
                Some(answer) => answer.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            has_answered = answered => {
                asked = None;
                if has_answered {
                    moved = Instant::now();
                }
            }
            () = sleep(LOOK_EVERY) => {}
        }
        let now = look();
        let has_written = now.1 != before.1
            // Requests that come and go may be why it logs.
            && (now.0.active, now.0.ended) == (before.0.active, before.0.ended);
        if now.0.signs != before.0.signs || has_written {
            moved = Instant::now();
        }
        before = now;
        let is_at_work = asked.is_some() || now.0.active > 0;
        if is_at_work && moved.elapsed() >= HANGS_AFTER {
            let limit = HANGS_AFTER.as_secs();
            return format!("its machines have computed nothing together for {limit} s");
        }
        if group.is_stopped() {
            return STOPPED_HERE.to_owned();
        }
        if !is_at_work && moved.elapsed() >= ASK_AFTER {
            moved = Instant::now();
            let asking = ask_to_load(&spawned.upstream, &order.model.engine);
            asked = Some(Box::pin(async move { asking.await.is_ok() }));
        }
    }
}
