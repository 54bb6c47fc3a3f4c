//! The limits on time and memory of a policy, and the interrupts that it cannot swallow.
//!
//! A count hook checks the clock every few hundred instructions, and the library of the sandbox does before
//! long work in C. The interrupt they raise, or that for a missing body, is also stored here: `pcall` in the
//! sandbox raises it again, and the host checks it after the call, whatever the hook returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mlua::Lua;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::errors::running_line;
use super::interrupt;
use super::patterns::{Budget, MatchError};

/// Memory of one policy set, in bytes.
pub(crate) const MEMORY: usize = 64 << 20;

/// Instructions between two checks of the clock: a microsecond or two, unless they compare or join large
/// strings, which no function of ours guards.
const INSTRUCTIONS: i32 = 512;

/// Steps of pattern matching between two checks of the clock: some tens of microseconds.
const STEPS: usize = 8192;

/// Stands for a time beyond the clock's range.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// Runs `make`, which creates a few small values, without the memory limit: under a limit mlua guards every
/// allocation by a protected call, which costs more than the value. Their memory counts all the same: Lua's
/// own next allocation fails if they exceed the limit.
pub(crate) fn unlimited<R>(lua: &Lua, make: impl FnOnce() -> mlua::Result<R>) -> mlua::Result<R> {
    let limit = lua.set_memory_limit(0)?;
    let made = make();
    lua.set_memory_limit(limit)?;
    made
}

/// The reason why a call was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// It read a part of the body that has not arrived.
    NeedBody,
    /// It took too long.
    Overrun,
}

/// The limits of one Lua state.
#[derive(Debug, Default)]
pub(crate) struct SandboxLimits {
    /// True if calls may take as long as they like.
    is_lifted: AtomicBool,
    allowed_ms: AtomicU64,
    /// Set at the first check of the clock, so that a short call never reads it.
    deadline: Mutex<Option<Instant>>,
    /// No check has run since the call began: the deadline is that of an earlier one.
    is_fresh: AtomicBool,
    interrupt: AtomicU8,
    /// Steps of pattern matching until the next check of the clock.
    steps: AtomicUsize,
}

impl SandboxLimits {
    /// Sets the memory limit and the count hook of `lua`.
    pub(crate) fn install(lua: &Lua) -> mlua::Result<Arc<Self>> {
        lua.set_memory_limit(MEMORY)?;
        let limits = Arc::new(Self::default());
        // The code before the first call is ours.
        limits.begin(Duration::MAX);
        interrupt::install(lua, &limits, INSTRUCTIONS)?;
        Ok(limits)
    }

    /// Runs `task` with `more` bytes beside the limit.
    pub(crate) fn with_memory<R>(
        &self,
        lua: &Lua,
        more: usize,
        task: impl FnOnce() -> mlua::Result<R>,
    ) -> mlua::Result<R> {
        lua.set_memory_limit(MEMORY + more)?;
        let result = task();
        lua.set_memory_limit(MEMORY)?;
        result
    }

    /// Lifts the time limit of later calls, so that Lua need not count its instructions, which takes a quarter
    /// of a short call. The memory of `lua` stays limited.
    pub(crate) fn lift(&self, lua: &Lua) -> mlua::Result<()> {
        interrupt::remove(lua)?;
        self.is_lifted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// True if calls may take as long as they like.
    pub(crate) fn is_lifted(&self) -> bool {
        self.is_lifted.load(Ordering::Relaxed)
    }

    /// Begins a call with a time limit.
    pub(crate) fn begin(&self, allowed: Duration) {
        let allowed = match self.is_lifted() {
            true => u64::MAX,
            false => u64::try_from(allowed.as_millis()).unwrap_or(u64::MAX),
        };
        self.allowed_ms.store(allowed, Ordering::Relaxed);
        self.is_fresh.store(true, Ordering::Relaxed);
        self.interrupt.store(0, Ordering::Relaxed);
    }

    /// The error that ends the call, also when a policy catches it.
    pub(crate) fn need_body(&self) -> mlua::Error {
        self.interrupt.store(1, Ordering::Relaxed);
        mlua::Error::runtime("the body has not arrived")
    }

    /// The interrupt of the current call.
    pub(crate) fn interrupted(&self) -> Option<Interrupt> {
        match self.interrupt.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Interrupt::NeedBody),
            _ => Some(Interrupt::Overrun),
        }
    }

    /// Raises an interrupt again, or the overrun when the time is up.
    pub(crate) fn check(&self, lua: &Lua) -> mlua::Result<()> {
        match self.interrupted() {
            None if self.is_over() => Err(self.overrun(lua)),
            None => Ok(()),
            Some(Interrupt::NeedBody) => Err(self.need_body()),
            Some(Interrupt::Overrun) => Err(self.overrun(lua)),
        }
    }

    /// The sentence about an overrun.
    pub(crate) fn overrun_text(&self) -> String {
        format!(
            "it took more than {} ms",
            self.allowed_ms.load(Ordering::Relaxed)
        )
    }

    /// The budget of a match until the next check of the clock.
    pub(crate) fn steps(&self) -> Steps<'_> {
        Steps(self)
    }

    pub(crate) fn overrun(&self, lua: &Lua) -> mlua::Error {
        self.interrupt.store(2, Ordering::Relaxed);
        let text = self.overrun_text();
        mlua::Error::runtime(match running_line(lua) {
            Some(line) => format!("{line}: {text}"),
            None => text,
        })
    }

    /// True if the time is up; interrupts the call then.
    pub(crate) fn overruns(&self) -> bool {
        let is_over = self.is_over();
        if is_over {
            self.interrupt.store(2, Ordering::Relaxed);
        }
        is_over
    }

    fn is_over(&self) -> bool {
        let now = Instant::now();
        let allowed = Duration::from_millis(self.allowed_ms.load(Ordering::Relaxed));
        let mut deadline = self.deadline.lock();
        if self.is_fresh.swap(false, Ordering::Relaxed) {
            *deadline = None;
        }
        let deadline =
            *deadline.get_or_insert_with(|| now.checked_add(allowed).unwrap_or(now + FOR_EVER));
        now >= deadline
    }
}

/// Checks the clock every [`STEPS`] steps, over all matches of a call.
pub(crate) struct Steps<'a>(&'a SandboxLimits);

impl Budget for Steps<'_> {
    fn spend(&mut self, steps: usize) -> Result<(), MatchError> {
        let left = self.0.steps.load(Ordering::Relaxed);
        if steps < left {
            self.0.steps.store(left - steps, Ordering::Relaxed);
            return Ok(());
        }
        self.0.steps.store(STEPS, Ordering::Relaxed);
        match self.0.is_over() {
            true => Err(MatchError::Overrun),
            false => Ok(()),
        }
    }
}
