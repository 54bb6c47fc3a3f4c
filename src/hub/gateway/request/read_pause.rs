//! Whether a request's body is left unread for the time being.
//!
//! hyper misses a client only where it reads, and it does not read on while nobody takes a body. So
//! whoever stops taking it says so here and sees to it that the connection is polled now and then, and
//! the connection's socket looks meanwhile whether the client is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One per connection, which has one request at a time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ReadPause(Arc<AtomicBool>);

/// For as long as it lives, the body is held up.
#[derive(Debug)]
pub(crate) struct Hold(ReadPause);

impl ReadPause {
    /// Whether the body of the connection's request is held up.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Holds the body up.
    pub(crate) fn hold(&self) -> Hold {
        self.0.store(true, Ordering::Relaxed);
        Hold(self.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}
