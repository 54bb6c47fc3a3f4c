//! Notices a silent answer without reading the clock for each of its parts.
//!
//! A timer runs for a quarter of the limit at a time, and gives up after more than four silent quarters in a
//! row: between the limit and a quarter beyond it.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

const QUARTERS: u32 = 4;

/// The idle timer of one answer.
#[derive(Debug, Default)]
pub struct Idle {
    /// Zero for none.
    limit: Duration,
    /// Only an answer that has to be waited for has one.
    timer: Option<Pin<Box<Sleep>>>,
    /// The task that the running timer wakes.
    waker: Option<Waker>,
    silent_quarters: u32,
}

impl Idle {
    /// A timer with that limit; zero for none.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// Begins to watch over another answer; the timer may be in the middle of a quarter.
    pub(super) fn begin(&mut self, limit: Duration) {
        if limit != self.limit {
            *self = Self::new(limit);
        }
        self.moved();
    }

    /// A part has come.
    pub fn moved(&mut self) {
        self.silent_quarters = 0;
    }

    /// Ready once the answer has been silent for too long; otherwise the task is woken to poll again.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.limit.is_zero() {
            return Poll::Pending;
        }
        let pause = self.limit / QUARTERS;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(pause)));
        let wakes = |waker: &Waker| waker.will_wake(cx.waker());
        if self.waker.as_ref().is_some_and(wakes) && !timer.is_elapsed() {
            return Poll::Pending;
        }
        while timer.as_mut().poll(cx).is_ready() {
            self.silent_quarters += 1;
            if self.silent_quarters > QUARTERS {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + pause);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(40);

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_after_the_limit_and_not_much_later() {
        let mut idle = Idle::new(LIMIT);
        let began = Instant::now();
        poll_fn(|cx| idle.poll(cx)).await;
        let took = began.elapsed();
        assert!(
            took >= LIMIT && took <= LIMIT * 5 / 4 + Duration::from_millis(5),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_moves_is_let_be() {
        let mut idle = Idle::new(LIMIT);
        for _ in 0..10 {
            let silent = tokio::time::timeout(LIMIT * 9 / 10, poll_fn(|cx| idle.poll(cx)));
            assert!(silent.await.is_err());
            idle.moved();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_is_none() {
        let mut idle = Idle::new(Duration::ZERO);
        let silent = tokio::time::timeout(LIMIT * 1000, poll_fn(|cx| idle.poll(cx)));
        assert!(silent.await.is_err());
    }
}
