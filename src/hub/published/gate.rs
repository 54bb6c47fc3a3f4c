//! The gates of the real hub: [those of the core](gate::Gate) on tokio's clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::core::gate::{self, Bell, Runtime};

/// Open flag and in-flight count of one model.
pub type Gate = gate::Gate<Tokio>;

/// The right to send one request to a loaded model.
pub type Lease = gate::Lease<Tokio>;

/// The clocks of the machine, and tasks that wait.
#[derive(Debug)]
pub struct Tokio {
    made: Instant,
    /// Woken when the last lease of a closed gate is returned.
    drained: Notify,
}

impl Default for Tokio {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            drained: Notify::default(),
        }
    }
}

impl Tokio {
    /// Converts a moment to the gate's clock.
    pub(in crate::hub) fn at(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.made)
    }

    /// Converts a time on the gate's clock to a moment.
    pub(in crate::hub) fn moment(&self, at: Duration) -> Instant {
        self.made + at
    }
}

impl Runtime for Tokio {
    type Bell = Arc<Notify>;

    fn now(&self) -> Duration {
        self.made.elapsed()
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }

    fn drained(&self) {
        self.drained.notify_waiters();
    }
}

impl Bell for Arc<Notify> {
    fn ring(&self) {
        self.notify_one();
    }
}

impl Gate {
    /// Completes when no lease is out. Only meaningful on a closed gate.
    pub(crate) async fn drained(&self) {
        loop {
            let mut told = std::pin::pin!(self.runtime.drained.notified());
            told.as_mut().enable();
            if self.active() == 0 {
                return;
            }
            told.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_lets_nobody_in() {
        let gate = Arc::new(Gate::default());
        assert!(gate.try_enter().is_none());
        gate.open();
        let lease = gate.try_enter().unwrap();
        assert!(!gate.close_if_idle());
        gate.close();
        assert!(gate.try_enter().is_none());
        assert_eq!(gate.active(), 1);
        drop(lease);
        assert_eq!(gate.active(), 0);
        gate.open();
        assert!(gate.close_if_idle());
        assert!(gate.try_enter().is_none());
    }

    #[tokio::test]
    async fn drained_waits_for_the_last_lease() {
        let gate = Arc::new(Gate::default());
        gate.open();
        let (one, two) = (gate.try_enter().unwrap(), gate.try_enter().unwrap());
        gate.close();
        let mut drained = tokio_test_task(gate.clone());
        assert!(!drained.is_finished());
        drop(one);
        tokio::task::yield_now().await;
        assert!(!drained.is_finished());
        drop(two);
        (&mut drained).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn idleness_is_told_from_the_later_of_opening_and_use() {
        let gate = Arc::new(Gate::default());
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        gate.open();
        assert_eq!(gate.idle(gate.runtime.now()), Duration::ZERO);
        tokio::time::advance(second).await;
        assert_eq!(gate.idle(gate.runtime.now()), second);
        let lease = gate.try_enter().unwrap();
        tokio::time::advance(second).await;
        assert_eq!(
            gate.idle(gate.runtime.now()),
            Duration::ZERO,
            "a request is inside"
        );
        drop(lease);
        tokio::time::advance(2 * second).await;
        assert_eq!(gate.idle(gate.runtime.now()), 2 * second);
    }

    #[expect(clippy::disallowed_methods, reason = "a test awaits its own task")]
    fn tokio_test_task(gate: Arc<Gate>) -> tokio::task::JoinHandle<()> {
        tokio::spawn(async move { gate.drained().await })
    }
}
