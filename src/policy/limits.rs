//! How long and how large a policy may get, and the interrupts it cannot swallow.
//!
//! A count hook looks at the clock every few thousand instructions. What it raises, and the want of
//! a body, is remembered here as well: `pcall` in the sandbox raises it again, and the host looks
//! here after the call, whatever the hook returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use mlua::{HookTriggers, Lua, VmState};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::failures::running_line;

/// Memory of one policy set, in bytes.
pub(super) const MEMORY: usize = 64 << 20;

/// Instructions between two looks at the clock: some tens of microseconds.
const INSTRUCTIONS: u32 = 4096;

/// Runs `make`, which makes one small value, without the memory limit. Under one mlua guards every
/// allocation by a protected call, which costs more than the value. It counts all the same: Lua's own
/// next allocation fails if it was one too many.
pub(super) fn unlimited<R>(lua: &Lua, make: impl FnOnce() -> mlua::Result<R>) -> mlua::Result<R> {
    let limit = lua.set_memory_limit(0)?;
    let made = make();
    lua.set_memory_limit(limit)?;
    made
}

/// Why a call ended before the policy wanted it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupt {
    /// It read a part of the body that has not arrived.
    NeedBody,
    /// It took too long.
    Overrun,
}

/// The limits of one Lua state.
#[derive(Debug, Default)]
pub(super) struct Limits {
    allowed_ms: AtomicU64,
    /// Set at the first look at the clock, so that a short call never pays for reading it.
    deadline: Mutex<Option<Instant>>,
    interrupt: AtomicU8,
}

impl Limits {
    /// Sets the memory limit and the count hook of `lua`.
    pub(super) fn install(lua: &Lua) -> mlua::Result<Arc<Self>> {
        lua.set_memory_limit(MEMORY)?;
        let limits = Arc::new(Self::default());
        let looked = Arc::clone(&limits);
        let every = HookTriggers::new().every_nth_instruction(INSTRUCTIONS);
        // A global hook: one bound to a Lua thread is lost in others.
        lua.set_global_hook(every, move |lua, _| {
            if looked.is_over() {
                return Err(looked.overrun(lua));
            }
            Ok(VmState::Continue)
        })?;
        Ok(limits)
    }

    /// A call begins that may take so long.
    pub(super) fn begin(&self, allowed: Duration) {
        let allowed = u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX);
        self.allowed_ms.store(allowed, Ordering::Relaxed);
        *self.deadline.lock() = None;
        self.interrupt.store(0, Ordering::Relaxed);
    }

    /// The error that ends the call, also when a policy catches it.
    pub(super) fn need_body(&self) -> mlua::Error {
        self.interrupt.store(1, Ordering::Relaxed);
        mlua::Error::runtime("the body has not arrived")
    }

    /// What interrupted the call since it began.
    pub(super) fn interrupted(&self) -> Option<Interrupt> {
        match self.interrupt.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Interrupt::NeedBody),
            _ => Some(Interrupt::Overrun),
        }
    }

    /// Raises an interrupt again.
    pub(super) fn check(&self, lua: &Lua) -> mlua::Result<()> {
        match self.interrupted() {
            None => Ok(()),
            Some(Interrupt::NeedBody) => Err(self.need_body()),
            Some(Interrupt::Overrun) => Err(self.overrun(lua)),
        }
    }

    /// The sentence about an overrun.
    pub(super) fn overrun_text(&self) -> String {
        format!(
            "it took more than {} ms",
            self.allowed_ms.load(Ordering::Relaxed)
        )
    }

    fn overrun(&self, lua: &Lua) -> mlua::Error {
        self.interrupt.store(2, Ordering::Relaxed);
        let text = self.overrun_text();
        // An error raised in a hook has no traceback to find the place in later.
        mlua::Error::runtime(match running_line(lua) {
            Some(line) => format!("{line}: {text}"),
            None => text,
        })
    }

    fn is_over(&self) -> bool {
        let now = Instant::now();
        let allowed = Duration::from_millis(self.allowed_ms.load(Ordering::Relaxed));
        let deadline = *self.deadline.lock().get_or_insert(now + allowed);
        now >= deadline
    }
}
