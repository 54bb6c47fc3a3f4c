//! Delivers events to the observers: a bounded queue, and the thread that empties it.
//!
//! The sender of an event never waits: without an observer it reads one number, with one it pushes. The thread
//! starts with the first observed event and ends with the policies. It knows nothing of Lua: the set of
//! policies runs the observers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::{Condvar, Mutex};

use crate::core::interface::event::{Event, EventName};

/// Events that may wait. At 250 ms for each it would take minutes to empty a longer queue.
const MAX_WAITING: usize = 1024;

/// The names of the observed events.
#[derive(Debug, Default)]
pub(super) struct Observed(AtomicU32);

impl Observed {
    /// True if `name` has an observer.
    pub(super) fn contains(&self, name: EventName) -> bool {
        self.0.load(Ordering::Relaxed) & bit(name) != 0
    }

    /// Replaces the names.
    pub(super) fn set(&self, names: impl IntoIterator<Item = EventName>) {
        let bits = names.into_iter().fold(0, |bits, name| bits | bit(name));
        self.0.store(bits, Ordering::Relaxed);
    }
}

fn bit(name: EventName) -> u32 {
    1 << name as u32
}

/// Runs the observers of an event.
pub(super) trait Observe: Send + Sync + 'static {
    /// Returns when all of them have.
    fn observe(&self, event: &Event);
}

/// The queue of events.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    waiting: VecDeque<Event>,
    dropped: u64,
    has_thread: bool,
    is_closed: bool,
}

impl Queue {
    /// Adds an event; a full queue drops its oldest. `observers` run it on a thread of the
    /// queue's own.
    pub(super) fn push<O: Observe>(self: &Arc<Self>, event: Event, observers: &Arc<O>) {
        let mut state = self.state.lock();
        if state.waiting.len() >= MAX_WAITING {
            state.waiting.pop_front();
            state.dropped += 1;
        }
        state.waiting.push_back(event);
        if !state.has_thread {
            state.has_thread = self.start_thread(Arc::downgrade(observers));
        }
        drop(state);
        self.changed.notify_one();
    }

    fn start_thread<O: Observe>(self: &Arc<Self>, observers: Weak<O>) -> bool {
        let queue = Arc::clone(self);
        let thread = thread::Builder::new().name("observers".to_owned());
        let started = thread.spawn(move || {
            while let (Some(event), Some(observers)) = (queue.next(), observers.upgrade()) {
                observers.observe(&event);
            }
        });
        if let Err(error) = &started {
            tracing::error!(%error, "the thread of the observers does not start");
        }
        started.is_ok()
    }

    /// The oldest event, once there is one; `None` when the queue is closed.
    fn next(&self) -> Option<Event> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(event) = state.waiting.pop_front() {
                return Some(event);
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends the thread; queued events are lost.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }

    /// Clears the count of dropped events, and the warning with it.
    pub(super) fn forgive(&self) {
        self.state.lock().dropped = 0;
    }

    /// The sentence for the status, once events were dropped.
    pub(super) fn warning(&self) -> Option<String> {
        let dropped = self.state.lock().dropped;
        (dropped > 0).then(|| {
            format!(
                "The observers of the policies are too slow: {dropped} events were dropped before \
                 they saw them. At most {MAX_WAITING} wait."
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::core::interface::event::ModelEvent;

    /// Reports each event it saw, after waiting for a permission.
    struct Slow {
        seen: mpsc::Sender<f64>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl Observe for Slow {
        fn observe(&self, event: &Event) {
            self.seen.send(event.time).unwrap();
            // An error means that the test is over.
            let _ = self.go_on.lock().recv();
        }
    }

    fn event(time: f64) -> Event {
        let event = Event::of_model(EventName::ModelLoaded, ModelEvent::default(), 0.0);
        Event { time, ..event }
    }

    #[test]
    fn the_oldest_of_too_many_events_are_dropped_and_the_rest_come_in_order() {
        let (seen, sees) = mpsc::channel();
        let (go_on, waits) = mpsc::channel();
        let slow = Arc::new(Slow {
            seen,
            go_on: Mutex::new(waits),
        });
        let queue = Arc::new(Queue::default());
        queue.push(event(-1.0), &slow);
        assert_eq!(sees.recv().unwrap(), -1.0);
        for time in 0..MAX_WAITING + 3 {
            queue.push(event(time as f64), &slow);
        }
        insta::assert_snapshot!(queue.warning().unwrap(), @"The observers of the policies are too slow: 3 events were dropped before they saw them. At most 1024 wait.");
        for time in 3..MAX_WAITING + 3 {
            go_on.send(()).unwrap();
            assert_eq!(sees.recv().unwrap(), time as f64);
        }
        queue.forgive();
        assert_eq!(queue.warning(), None);
        queue.close();
        drop(go_on);
    }

    #[test]
    fn the_thread_ends_with_those_it_works_for() {
        let (seen, sees) = mpsc::channel();
        let (_, waits) = mpsc::channel();
        let slow = Arc::new(Slow {
            seen,
            go_on: Mutex::new(waits),
        });
        let queue = Arc::new(Queue::default());
        queue.push(event(1.0), &slow);
        assert_eq!(sees.recv().unwrap(), 1.0);
        queue.close();
        drop(slow);
        // The thread drops the sender with its observers.
        assert!(sees.recv().is_err());
    }

    #[test]
    fn only_what_was_asked_for_is_observed() {
        let observed = Observed::default();
        assert!(!EventName::ALL.iter().any(|name| observed.contains(*name)));
        observed.set([EventName::ModelLoaded, EventName::ConfigReloaded]);
        let names = EventName::ALL.into_iter();
        assert_eq!(
            names
                .filter(|name| observed.contains(*name))
                .collect::<Vec<_>>(),
            [EventName::ModelLoaded, EventName::ConfigReloaded]
        );
    }
}
