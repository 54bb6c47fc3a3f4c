//! A Lua state that one uses at a time, and what is known of it without waiting for whoever does.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::super::host::Host;

pub(super) struct Seat {
    host: Mutex<Host>,
    /// Bytes of it when somebody looked last.
    memory: AtomicUsize,
}

impl Seat {
    pub(super) fn new(host: Host) -> Self {
        Self {
            memory: AtomicUsize::new(host.lua.used_memory()),
            host: Mutex::new(host),
        }
    }

    /// Waits for whoever uses it.
    pub(super) fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock()
    }

    /// Takes down what it holds, for [`Seat::memory_bytes`] while somebody uses it.
    pub(super) fn note_memory(&self, host: &Host) {
        self.memory.store(host.lua.used_memory(), Ordering::Relaxed);
    }

    /// What it holds; if somebody uses it, as it was after the last call.
    pub(super) fn memory_bytes(&self) -> usize {
        if let Some(host) = self.host.try_lock() {
            self.note_memory(&host);
        }
        self.memory.load(Ordering::Relaxed)
    }
}
