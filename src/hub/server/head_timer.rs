//! The time limit for message heads, without a timer per request.
//!
//! hyper starts a timer whenever it waits for a head and drops it when the head arrives: a timer of the runtime
//! would enter its wheel and leave it again for each request. So a connection has one timer of the runtime, and
//! hyper's timers only set its deadline. Measured alone, from start to drop: 260 instructions and 65 ns a head,
//! where hyper-util's `TokioTimer` takes 670 and 480 ns. That is 0.9 % of the instructions of a small request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

use crate::hub::decimal::micros;

/// The timer for hyper; each connection has its own, since it waits for one head at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadTimer(Arc<Deadline>);

/// The deadline for a head. One task reads and writes it, so that no ordering is needed.
#[derive(Debug)]
struct Deadline {
    made: Instant,
    /// The deadline in microseconds since then; [`NONE`] without a wait.
    micros: AtomicU64,
    /// True if it has been noticed to have passed.
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
    /// Completes when a head is overdue; hyper must be polled then. Checks at the deadline, and every `limit`.
    pub(super) async fn expired(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let next = self.deadline().filter(|deadline| *deadline > now);
            // A wait that begins from now on lasts at least as long.
            tokio::time::sleep_until(next.unwrap_or(now + limit)).await;
            let deadline = self.deadline();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.0.is_over.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// True if hyper waits for a head, or has just failed at one.
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
        // The earlier wait may have ended just when its head arrived.
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
        // The waiter of `expired` wakes this one's task.
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
