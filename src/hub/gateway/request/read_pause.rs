//! Marks a request whose body is left unread for now.
//!
//! hyper notices that a client has left only when it reads, and it does not read while no one takes the body. So
//! the part that stops reading marks it here and polls the connection now and then, and the connection's socket
//! checks meanwhile that the client is still there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One per connection, which has one request at a time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ReadPause(Arc<AtomicBool>);

/// For as long as it lives, the body is held up.
#[derive(Debug)]
pub(crate) struct Hold(ReadPause);

impl ReadPause {
    /// True if the body of the connection's request is held up.
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
