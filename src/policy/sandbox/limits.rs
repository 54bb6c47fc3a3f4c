//! How long and how large a policy may get, and the interrupts it cannot swallow.
//!
//! A count hook looks at the clock every few hundred instructions, and the library of the sandbox before
//! what takes long in C. What they raise, and the want of a body, is remembered here as well: `pcall` in
//! the sandbox raises it again, and the host looks here after the call, whatever the hook returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mlua::Lua;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::failures::running_line;
use super::interrupt;
use super::patterns::{Budget, Trouble};

/// Memory of one policy set, in bytes.
pub(crate) const MEMORY: usize = 64 << 20;

/// Instructions between two looks at the clock: a microsecond or two, unless they compare or join large
/// strings, which no function stands in front of.
const INSTRUCTIONS: i32 = 512;

/// Steps of pattern matching between two looks at the clock: some tens of microseconds.
const STEPS: usize = 8192;

/// Stands in for a time that the clock cannot tell.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// Runs `make`, which makes a small value or a few, without the memory limit. Under one mlua guards every
/// allocation by a protected call, which costs more than the value. It counts all the same: Lua's own
/// next allocation fails if it was one too many.
pub(crate) fn unlimited<R>(lua: &Lua, make: impl FnOnce() -> mlua::Result<R>) -> mlua::Result<R> {
    let limit = lua.set_memory_limit(0)?;
    let made = make();
    lua.set_memory_limit(limit)?;
    made
}

/// Why a call ended before the policy wanted it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// It read a part of the body that has not arrived.
    NeedBody,
    /// It took too long.
    Overrun,
}

/// The limits of one Lua state.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// Whether calls may take as long as they like.
    is_lifted: AtomicBool,
    allowed_ms: AtomicU64,
    /// Set at the first look at the clock, so that a short call never pays for reading it.
    deadline: Mutex<Option<Instant>>,
    /// Nobody has looked since the call began: the deadline is that of an earlier one.
    is_fresh: AtomicBool,
    interrupt: AtomicU8,
    /// Steps of pattern matching until the next look at the clock.
    steps: AtomicUsize,
}

impl Limits {
    /// Sets the memory limit and the count hook of `lua`.
    pub(crate) fn install(lua: &Lua) -> mlua::Result<Arc<Self>> {
        lua.set_memory_limit(MEMORY)?;
        let limits = Arc::new(Self::default());
        // What runs before the first call is ours.
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

    /// Lets the calls that begin from now on take as long as they like, so that Lua need not count its
    /// instructions, which takes a quarter of a short call. The memory of `lua` stays limited.
    pub(crate) fn lift(&self, lua: &Lua) -> mlua::Result<()> {
        interrupt::remove(lua)?;
        self.is_lifted.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A call begins that may take so long.
    pub(crate) fn begin(&self, allowed: Duration) {
        let allowed = match self.is_lifted.load(Ordering::Relaxed) {
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

    /// What interrupted the call since it began.
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

    /// What a match may spend until the clock says otherwise.
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

    /// Whether the time is up; if it is, that interrupts the call.
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

/// Looks at the clock once in so many steps, over all matches of a call.
pub(crate) struct Steps<'a>(&'a Limits);

impl Budget for Steps<'_> {
    fn spend(&mut self, steps: usize) -> Result<(), Trouble> {
        let left = self.0.steps.load(Ordering::Relaxed);
        if steps < left {
            self.0.steps.store(left - steps, Ordering::Relaxed);
            return Ok(());
        }
        self.0.steps.store(STEPS, Ordering::Relaxed);
        match self.0.is_over() {
            true => Err(Trouble::Overrun),
            false => Ok(()),
        }
    }
}
