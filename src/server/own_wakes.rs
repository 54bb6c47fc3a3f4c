//! A task that wakes itself.
//!
//! hyper hands the pieces of a message from one half of a connection to the other and wakes the task for
//! each, which is running already. The runtime would put it at the end of its queue and wake another
//! thread for it, which costs more than the request. So [`at_once`] polls the future again on the spot.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// So often in a row at most; other tasks want their turn.
const TURNS: usize = 8;

/// Nobody polls: whoever wakes, wakes the task.
const RESTING: u8 = 0;
/// The future is being polled.
const POLLED: u8 = 1;
/// It is being polled and has been woken meanwhile.
const WOKEN: u8 = 2;

/// `future`, polled again at once when it is woken while it is being polled.
pub(super) async fn at_once<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let own = Arc::new(Own::default());
    let waker = Waker::from(Arc::clone(&own));
    poll_fn(|cx| {
        own.task.register(cx.waker());
        for _ in 0..TURNS {
            own.state.store(POLLED, Ordering::Release);
            let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_ready() || own.rest() {
                return polled;
            }
        }
        own.state.store(RESTING, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// The waker that the future sees.
#[derive(Default)]
struct Own {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Own {
    /// The poll is over; false when the future was woken meanwhile.
    fn rest(&self) -> bool {
        self.state
            .compare_exchange(POLLED, RESTING, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let during_poll = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
                (state != RESTING).then_some(WOKEN)
            });
        if during_poll.is_err() {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts what reaches the runtime.
    #[derive(Default)]
    struct Runtime(AtomicUsize);

    impl Wake for Runtime {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Runtime {
        fn wakes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_future_that_wakes_itself_goes_on_without_the_runtime() {
        let runtime = Arc::new(Runtime::default());
        let waker = Waker::from(Arc::clone(&runtime));
        let mut polls = 0;
        let mut task = pin!(at_once(poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < TURNS {
                Poll::Pending
            } else {
                Poll::Ready(polls)
            }
        })));
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Ready(TURNS));
        assert_eq!(runtime.wakes(), 0);
    }

    #[test]
    fn one_that_never_stops_lets_others_have_their_turn() {
        let runtime = Arc::new(Runtime::default());
        let waker = Waker::from(Arc::clone(&runtime));
        let mut task = pin!(at_once(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        })));
        let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(polled, Poll::Pending);
        assert_eq!(runtime.wakes(), 1);
    }

    #[test]
    fn a_wake_between_polls_reaches_the_runtime_once_per_poll() {
        let runtime = Arc::new(Runtime::default());
        let waker = Waker::from(Arc::clone(&runtime));
        let kept = std::cell::OnceCell::new();
        let mut task = pin!(at_once(poll_fn(|cx| {
            kept.get_or_init(|| cx.waker().clone());
            Poll::<()>::Pending
        })));
        for polls in 1..3 {
            let polled = task.as_mut().poll(&mut Context::from_waker(&waker));
            assert_eq!(polled, Poll::Pending);
            let kept = kept.get().unwrap();
            kept.wake_by_ref();
            kept.wake_by_ref();
            assert_eq!(runtime.wakes(), polls);
        }
    }
}
