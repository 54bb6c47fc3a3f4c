//! Marks a request whose body is left unread for now, and one that was cancelled.
//!
//! hyper notices that a client has left only when it reads, and it does not read while no one takes the body. So
//! the part that stops reading marks it here and polls the connection now and then, and the connection's socket
//! checks meanwhile that the client is still there. Of a cancelled request the client is told, unless it does not
//! read: then its socket fails, since hyper would hold the answer, and the model with it, until it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One per connection, which has one request at a time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ReadPause {
    is_held_up: Arc<AtomicBool>,
    is_cancelled: Arc<AtomicBool>,
}

/// For as long as it lives, the body is held up.
#[derive(Debug)]
pub(crate) struct Hold(ReadPause);

impl ReadPause {
    /// True if the body of the connection's request is held up.
    pub fn is_set(&self) -> bool {
        self.is_held_up.load(Ordering::Relaxed)
    }

    /// True if the connection's request was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// The mark of that, for a request that begins.
    pub(crate) fn cancelled(&self) -> Arc<AtomicBool> {
        self.is_cancelled.store(false, Ordering::Relaxed);
        Arc::clone(&self.is_cancelled)
    }

    /// Holds the body up.
    pub(crate) fn hold(&self) -> Hold {
        self.is_held_up.store(true, Ordering::Relaxed);
        Hold(self.clone())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.is_held_up.store(false, Ordering::Relaxed);
    }
}
