//! A waker for one part of a task, which polls that part again without a trip through the runtime.
//!
//! hyper passes the pieces of a message from one half of a connection to the other and wakes the task for each,
//! although it is running. The runtime would queue the task and wake another thread, which costs more than
//! the request. So [`OwnWakes`] polls such a part again at once; and a part that was not woken, like a timer,
//! is not polled when another one was. An event of a stream takes 10.4k instead of 13.8k instructions.
//!
//! ```text
//!  during the task's poll                       between two polls
//!
//!  task ── poll ──> OwnWakes ── turn ──> part   part's event
//!                      ^                  │        │ wake
//!                      └── wake: WOKEN ───┘        v
//!                  next turn at once, no       OwnWakes: WOKEN
//!                  runtime, at most TURNS          │ wake, once
//!                                                  v
//!                                               runtime ── poll ──> task
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Turns in a row; then other tasks run.
const TURNS: usize = 8;

/// The part is being polled: a wake is seen afterwards.
const POLLED: u8 = 1;
/// The part has to be polled.
const WOKEN: u8 = 2;

/// The waker of one part of a task.
#[derive(Debug)]
pub(crate) struct OwnWakes {
    own: Arc<Own>,
    waker: Waker,
    /// The task to wake for the part. It hardly ever changes.
    task: Option<Waker>,
}

impl Default for OwnWakes {
    fn default() -> Self {
        let own = Arc::new(Own {
            state: AtomicU8::new(WOKEN),
            task: Mutex::new(None),
        });
        let waker = Waker::from(Arc::clone(&own));
        Self {
            own,
            waker,
            task: None,
        }
    }
}

impl OwnWakes {
    /// Takes a turn for the task of `cx`, and another one as long as the part was woken in the last one.
    /// A turn gets the part's own context if the part is to be polled: at first, when it has been woken,
    /// and when the turn before was the last of a call that ended with `Poll::Ready`. What wakes the part
    /// between two calls wakes the task.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut turn: impl FnMut(Option<&mut Context<'_>>) -> Poll<T>,
    ) -> Poll<T> {
        if !self
            .task
            .as_ref()
            .is_some_and(|task| task.will_wake(cx.waker()))
        {
            self.task = Some(cx.waker().clone());
            *self.own.task.lock() = self.task.clone();
        }
        let state = &self.own.state;
        let mut own = Context::from_waker(&self.waker);
        for _ in 0..TURNS {
            let is_woken = state.swap(POLLED, Ordering::AcqRel) & WOKEN != 0;
            let polled = turn(is_woken.then_some(&mut own));
            if polled.is_ready() {
                state.store(WOKEN, Ordering::Release);
                return polled;
            }
            let rests = state.compare_exchange(POLLED, 0, Ordering::AcqRel, Ordering::Acquire);
            if rests.is_ok() {
                return polled;
            }
        }
        state.store(WOKEN, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// True if the part is to be polled.
    pub(crate) fn is_woken(&self) -> bool {
        self.own.state.load(Ordering::Acquire) & WOKEN != 0
    }

    /// Lets the next call poll the part, although nothing has woken it.
    pub(crate) fn note(&self) {
        self.own.state.fetch_or(WOKEN, Ordering::AcqRel);
    }
}

#[derive(Debug)]
struct Own {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Wake for Own {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.state.fetch_or(WOKEN, Ordering::AcqRel);
        if before & POLLED == 0 {
            let task = self.task.lock();
            if let Some(task) = &*task {
                task.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts the wakes that reach the runtime.
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

    fn runtime() -> (Arc<Runtime>, Waker) {
        let runtime = Arc::new(Runtime::default());
        let waker = Waker::from(Arc::clone(&runtime));
        (runtime, waker)
    }

    #[test]
    fn a_part_that_wakes_itself_goes_on_without_the_runtime() {
        let (runtime, waker) = runtime();
        let mut wakes = OwnWakes::default();
        let mut polls = 0;
        let polled = wakes.poll(&mut Context::from_waker(&waker), |own| {
            polls += 1;
            own.unwrap().waker().wake_by_ref();
            if polls < TURNS {
                Poll::Pending
            } else {
                Poll::Ready(polls)
            }
        });
        assert_eq!(polled, Poll::Ready(TURNS));
        assert_eq!(runtime.wakes(), 0);
    }

    #[test]
    fn one_that_never_stops_lets_others_have_their_turn() {
        let (runtime, waker) = runtime();
        let mut wakes = OwnWakes::default();
        let polled = wakes.poll(&mut Context::from_waker(&waker), |own| {
            own.unwrap().waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert_eq!(polled, Poll::Pending);
        assert_eq!(runtime.wakes(), 1);
    }

    #[test]
    fn a_part_is_polled_when_it_was_woken_and_not_when_another_was() {
        let (runtime, waker) = runtime();
        let mut wakes = OwnWakes::default();
        let mut kept = None;
        let mut is_polled = |wakes: &mut OwnWakes, ends: bool| {
            let mut is_polled = false;
            let _ = wakes.poll(&mut Context::from_waker(&waker), |own| {
                if let Some(own) = own {
                    is_polled = true;
                    kept = Some(own.waker().clone());
                }
                if ends { Poll::Ready(()) } else { Poll::Pending }
            });
            (is_polled, kept.clone().unwrap())
        };
        assert!(is_polled(&mut wakes, false).0, "at first");
        let (again, own) = is_polled(&mut wakes, false);
        assert!(!again);
        own.wake_by_ref();
        assert_eq!(runtime.wakes(), 1);
        assert!(is_polled(&mut wakes, true).0);
        // What ended, or what it gave, makes room for more.
        assert!(is_polled(&mut wakes, false).0);
        assert!(!is_polled(&mut wakes, false).0);
        wakes.note();
        assert!(is_polled(&mut wakes, false).0);
        assert_eq!(runtime.wakes(), 1);
    }

    #[test]
    fn a_wake_after_a_part_was_ready_reaches_the_runtime() {
        let (runtime, waker) = runtime();
        let mut wakes = OwnWakes::default();
        let mut kept = None;
        let polled = wakes.poll(&mut Context::from_waker(&waker), |own| {
            let own = own.unwrap().waker();
            own.wake_by_ref();
            kept = Some(own.clone());
            Poll::Ready(())
        });
        assert_eq!((polled, runtime.wakes()), (Poll::Ready(()), 0));
        kept.unwrap().wake();
        assert_eq!(runtime.wakes(), 1);
    }
}
