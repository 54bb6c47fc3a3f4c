//! The thread that runs the hooks of the user's policies, so that a slow one delays only its own callers.
//!
//! Connections queue their tasks here and await the results; it knows nothing of Lua. A task whose caller has
//! gone is dropped unrun. The thread starts with the first question and ends with the policies.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// The queued tasks.
#[derive(Default)]
pub(super) struct HookThread {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    /// By the order in which they came.
    waiting: BTreeMap<u64, Task>,
    come: u64,
    has_thread: bool,
    is_closed: bool,
}

type Task = Box<dyn FnOnce() + Send>;

/// A queued task; dropping it removes the task.
struct Put<'a> {
    hook_thread: &'a HookThread,
    number: u64,
}

impl Drop for Put<'_> {
    fn drop(&mut self) {
        // The task is dropped after the lock: its drop may queue another.
        let _taken = self.hook_thread.state.lock().waiting.remove(&self.number);
    }
}

impl HookThread {
    /// Runs `task` on the thread, after earlier ones; if no thread can start, on the caller's. Dropped before
    /// its turn, it never runs. `None` only for a task that panicked.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        task: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let put = self.put(Box::new(move || {
            // An error means that the caller has gone: dropping the result returns what it holds.
            let _ = tell.send(task());
        }));
        let done = told.await.ok();
        drop(put);
        done
    }

    fn put(self: &Arc<Self>, task: Task) -> Put<'_> {
        let mut state = self.state.lock();
        state.come += 1;
        let number = state.come;
        state.waiting.insert(number, task);
        if !state.has_thread {
            state.has_thread = self.start_thread();
        }
        let alone = match state.has_thread {
            true => None,
            false => state.waiting.remove(&number),
        };
        drop(state);
        self.changed.notify_one();
        if let Some(task) = alone {
            task();
        }
        Put {
            hook_thread: self,
            number,
        }
    }

    fn start_thread(self: &Arc<Self>) -> bool {
        let hook_thread = Arc::clone(self);
        let thread = thread::Builder::new().name("hooks".to_owned());
        let started = thread.spawn(move || {
            while let Some(task) = hook_thread.next() {
                if catch_unwind(AssertUnwindSafe(task)).is_err() {
                    tracing::error!("a question to the policies ended badly");
                }
            }
        });
        if let Err(error) = &started {
            tracing::error!(%error, "the thread of the policies does not start");
        }
        started.is_ok()
    }

    /// Waits for the next task; `None` when no more come.
    fn next(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if let Some((_, task)) = state.waiting.pop_first() {
                return Some(task);
            }
            if state.is_closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Ends the thread, once the queue is empty.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn tasks_run_one_after_the_other_on_one_thread_that_is_not_the_askers() {
        let hook_thread = Arc::<HookThread>::default();
        let thread = || thread::current().id();
        let (first, second) = tokio::join!(hook_thread.run(thread), hook_thread.run(thread));
        assert_eq!(first, second);
        assert_ne!(first, Some(thread()));
        hook_thread.close();
    }

    #[tokio::test]
    async fn a_task_whose_asker_has_gone_never_runs_and_is_gone_at_once() {
        let hook_thread = Arc::<HookThread>::default();
        let (go_on, waits) = mpsc::channel::<()>();
        let (begins, begun) = oneshot::channel();
        let slow = hook_thread.run(move || {
            begins.send(()).unwrap();
            waits.recv().unwrap();
        });
        let held = Arc::new(());
        let hold = Arc::clone(&held);
        let asks = async {
            begun.await.unwrap();
            let left = hook_thread.run(move || drop(hold));
            assert!(tokio::time::timeout(Duration::ZERO, left).await.is_err());
            assert_eq!(Arc::strong_count(&held), 1, "it is dropped with its asker");
            go_on.send(()).unwrap();
        };
        let (slow, ()) = tokio::join!(slow, asks);
        assert_eq!(slow, Some(()));
        hook_thread.close();
    }

    #[tokio::test]
    async fn what_comes_too_late_for_its_asker_is_dropped_and_the_thread_goes_on() {
        let hook_thread = Arc::<HookThread>::default();
        let (go_on, waits) = mpsc::channel::<()>();
        let (begins, begun) = oneshot::channel();
        let held = Arc::new(());
        let hold = Arc::clone(&held);
        {
            let slow = hook_thread.run(move || {
                begins.send(()).unwrap();
                waits.recv().unwrap();
                hold
            });
            tokio::select! {
                _ = slow => panic!("it waits"),
                begun = begun => begun.unwrap(),
            }
        }
        go_on.send(()).unwrap();
        assert_eq!(hook_thread.run(|| ()).await, Some(()));
        assert_eq!(Arc::strong_count(&held), 1);
        hook_thread.close();
    }

    #[tokio::test]
    async fn one_that_panics_ends_alone() {
        let hook_thread = Arc::<HookThread>::default();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        assert_eq!(hook_thread.run(|| panic!("no")).await, None::<()>);
        std::panic::set_hook(hook);
        assert_eq!(hook_thread.run(|| 1).await, Some(1));
        hook_thread.close();
    }
}
