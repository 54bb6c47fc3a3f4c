//! A Lua state with one user at a time, and the figures that others can read without waiting for that user.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::super::host::Host;

pub(super) struct Seat {
    host: Mutex<Host>,
    /// Its memory in bytes when it was last measured.
    memory: AtomicUsize,
}

impl Seat {
    pub(super) fn new(host: Host) -> Self {
        Self {
            memory: AtomicUsize::new(host.lua.used_memory()),
            host: Mutex::new(host),
        }
    }

    /// Waits for its current user.
    pub(super) fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock()
    }

    /// Measures its memory, for [`Seat::memory_bytes`] while it is in use.
    pub(super) fn note_memory(&self, host: &Host) {
        self.memory.store(host.lua.used_memory(), Ordering::Relaxed);
    }

    /// Its memory in bytes; while it is in use, as it was last measured.
    pub(super) fn memory_bytes(&self) -> usize {
        if let Some(host) = self.host.try_lock() {
            self.note_memory(&host);
        }
        self.memory.load(Ordering::Relaxed)
    }
}
