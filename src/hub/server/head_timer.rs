//! The time limit for message heads, without a timer per request.
//!
//! hyper starts a timer whenever it waits for a head and drops it when the head is there: with a
//! timer of the runtime that would be taken into its wheel and out again for each request. So a
//! connection has one timer of the runtime, and the ones hyper makes only say what it is to wait for.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

use crate::hub::decimal::micros;

/// What hyper gets as its timer; a connection has one of its own, since it waits for one head at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadTimer(Arc<Deadline>);

/// Until when a head is waited for. Read and written by one task, so that no order has to be kept.
#[derive(Debug)]
struct Deadline {
    made: Instant,
    /// Microseconds since then; [`NONE`] while none is waited for.
    micros: AtomicU64,
    /// Whether that has been noticed to be over.
    is_over: AtomicBool,
}

const NONE: u64 = u64::MAX;

impl Default for Deadline {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            micros: AtomicU64::new(NONE),
            is_over: AtomicBool::new(false),
        }
    }
}

impl HeadTimer {
    /// Completes when a head has been waited for too long; hyper must be polled then. Looks when it is
    /// time, and every `limit`.
    pub(super) async fn expired(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let next = self.deadline().filter(|deadline| *deadline > now);
            // What begins to wait from now on does so for as long at least.
            tokio::time::sleep_until(next.unwrap_or(now + limit)).await;
            let deadline = self.deadline();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.0.is_over.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Whether hyper waits for a head, or has just failed at one.
    pub(super) fn is_waited_for(&self) -> bool {
        self.deadline().is_some()
    }

    fn deadline(&self) -> Option<Instant> {
        let micros = self.0.micros.load(Ordering::Relaxed);
        (micros != NONE).then(|| self.0.made + Duration::from_micros(micros))
    }

    fn wait_until(&self, deadline: Instant) {
        let micros = micros(deadline - self.0.made);
        self.0.micros.store(micros, Ordering::Relaxed);
        // The wait before may have been over just when its head came.
        self.0.is_over.store(false, Ordering::Relaxed);
    }
}

impl Timer for HeadTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn Sleep>> {
        self.wait_until(deadline.into());
        Box::pin(Wait(self.clone()))
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, deadline: StdInstant) {
        self.wait_until(deadline.into());
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

/// One wait for a head.
struct Wait(HeadTimer);

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        // Whoever awaits `expired` wakes the task of this one.
        match self.0.0.is_over.load(Ordering::Relaxed) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Sleep for Wait {}

impl Drop for Wait {
    fn drop(&mut self) {
        self.0.0.micros.store(NONE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_in_time_however_many_were_given_up_before() {
        let timer = HeadTimer::default();
        let began = Instant::now();
        let requests = async {
            for _ in 0..10 {
                let wait = timer.sleep(LIMIT);
                tokio::time::sleep(Duration::from_secs(20)).await;
                drop(wait);
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            let last = timer.sleep(LIMIT);
            (Instant::now(), last)
        };
        let ((), (last_began, last)) = tokio::join!(timer.expired(LIMIT), requests);
        last.await;
        assert_eq!(last_began - began, Duration::from_secs(230));
        assert_eq!(last_began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_came_at_the_last_moment_takes_no_time_from_the_next() {
        let timer = HeadTimer::default();
        let wait = timer.sleep(LIMIT);
        timer.expired(LIMIT).await;
        drop(wait);
        let began = Instant::now();
        let mut next = timer.sleep(LIMIT);
        assert!((&mut next).now_or_never().is_none());
        timer.expired(LIMIT).await;
        next.await;
        assert_eq!(began.elapsed(), LIMIT);
    }
}
