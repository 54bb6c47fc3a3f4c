//! Signs of life of a worker that loads: its log grows, or its memory does.
//!
//! Downloads and big models may take many minutes; a load fails only after `load_timeout` without
//! either sign.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::group::Group;
use super::output::Log;

const POLL_EVERY: Duration = Duration::from_millis(500);
/// A smaller change of memory is no sign of life.
const MEMORY_STEP: u64 = 1024 * 1024;

/// Completes when there was no sign of life for `limit`.
pub(crate) async fn silent_for(limit: Duration, log: &Log, group: Group) {
    let mut look = interval(POLL_EVERY.min(limit / 4).max(Duration::from_millis(10)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut length, mut most_memory) = (log.size(), 0);
    let mut last_sign = Instant::now();
    loop {
        look.tick().await;
        let now_length = log.size();
        if now_length != length {
            length = now_length;
            last_sign = Instant::now();
            continue;
        }
        // Reading it takes milliseconds for a big model: only when the log is quiet.
        let memory = tokio::task::spawn_blocking(move || group.memory_bytes()).await;
        let memory = memory.ok().flatten().unwrap_or(0);
        if memory > most_memory + MEMORY_STEP {
            most_memory = memory;
            last_sign = Instant::now();
        }
        if last_sign.elapsed() >= limit {
            return;
        }
    }
}
