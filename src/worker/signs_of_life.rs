//! Signs of life of a worker that loads: its log grows, or its memory does, or what it downloads.
//!
//! Downloads and big models may take many minutes; a load fails only after `load_timeout` without
//! any of these signs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::group::Group;
use super::output::Log;

const POLL_EVERY: Duration = Duration::from_millis(500);
/// A smaller change of memory is no sign of life.
const MEMORY_STEP: u64 = 1024 * 1024;

/// The memory that a worker has taken since it was first measured, as far as it was measured.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// In bytes; 0 before it was measured.
    first: AtomicU64,
    most: AtomicU64,
}

impl Growth {
    /// In bytes.
    pub(super) fn bytes(&self) -> u64 {
        let most = self.most.load(Ordering::Relaxed);
        most.saturating_sub(self.first.load(Ordering::Relaxed))
    }

    fn note(&self, memory: u64) {
        let _ = self
            .first
            .compare_exchange(0, memory, Ordering::Relaxed, Ordering::Relaxed);
        self.most.fetch_max(memory, Ordering::Relaxed);
    }
}

/// Completes when there was no sign of life for `limit`. `downloaded` reads the disk.
pub(crate) async fn silent_for(
    limit: Duration,
    log: &Log,
    group: Group,
    downloaded: Arc<dyn Fn() -> u64 + Send + Sync>,
    growth: &Growth,
) {
    let mut look = interval(POLL_EVERY.min(limit / 4).max(Duration::from_millis(10)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut length, mut most_memory, mut bytes) = (log.size(), 0, None);
    let mut last_sign = Instant::now();
    loop {
        look.tick().await;
        let now_length = log.size();
        if now_length != length {
            length = now_length;
            last_sign = Instant::now();
            continue;
        }
        // Reading these takes milliseconds for a big model: only when the log is quiet.
        let downloaded = Arc::clone(&downloaded);
        let read = move || (group.memory_bytes(), downloaded());
        let (memory, now_bytes) = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let memory = memory.unwrap_or(0);
        growth.note(memory);
        if memory > most_memory + MEMORY_STEP {
            most_memory = memory;
            last_sign = Instant::now();
        }
        if bytes.is_some_and(|bytes| now_bytes > bytes) {
            last_sign = Instant::now();
        }
        bytes = Some(now_bytes);
        if last_sign.elapsed() >= limit {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_counted_from_the_first_measurement_and_is_not_undone() {
        let growth = Growth::default();
        assert_eq!(growth.bytes(), 0);
        for (memory, grown) in [(200, 0), (100, 0), (500, 300), (50, 300)] {
            growth.note(memory);
            assert_eq!(growth.bytes(), grown, "{memory}");
        }
    }
}
