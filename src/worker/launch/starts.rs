//! The gate for starts of worker processes.
//!
//! While one hub hands over to another, neither may start any: the new one would not know of it, and the model
//! would have two.

use std::sync::Arc;

use tokio::sync::watch;

/// Shared by all launches of a hub.
#[derive(Debug, Clone)]
pub struct Starts(Arc<watch::Sender<bool>>);

impl Default for Starts {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl Starts {
    /// Forbids starts. Waits for one in progress: when this returns, it has been reported.
    pub fn hold_back(&self) {
        self.0.send_replace(false);
    }

    /// Allows starts again.
    pub fn allow(&self) {
        self.0.send_replace(true);
    }

    /// Completes when starts are allowed.
    pub(super) async fn allowed(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|allowed| *allowed).await;
    }

    /// Runs `start` if starts are allowed; they cannot be forbidden meanwhile.
    pub(super) fn if_allowed<T>(&self, start: impl FnOnce() -> T) -> Option<T> {
        // The sender waits while the value is borrowed.
        let allowed = self.0.borrow();
        allowed.then(start)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_start_that_is_under_way_is_over_before_others_are_held_back() {
        let starts = Starts::default();
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let other = starts.clone();
        let start = thread::spawn(move || {
            other.if_allowed(|| {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
            })
        });
        has_begun.recv().unwrap();
        let other = starts.clone();
        let held_back = thread::spawn(move || other.hold_back());
        assert!(!held_back.is_finished());
        go_on.send(()).unwrap();
        assert_eq!(start.join().unwrap(), Some(()));
        held_back.join().unwrap();
        assert_eq!(starts.if_allowed(|| ()), None);
        assert_eq!(starts.allowed().now_or_never(), None);
        starts.allow();
        assert_eq!(starts.if_allowed(|| ()), Some(()));
        assert_eq!(starts.allowed().now_or_never(), Some(()));
    }
}
