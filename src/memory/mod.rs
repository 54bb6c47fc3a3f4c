//! How much memory there is, and how much of it a worker holds.
//!
//! [`Probe`] is the one interface: the lifecycle samples through it and waits by it, tests put a scripted
//! one in its place. It knows nothing of models and policies, and keeps nothing from one call to the next.

use serde::{Deserialize, Serialize};

/// Reads memory. Every call may read files or ask the kernel, for about a millisecond: not for the hot
/// path, and not for async code that others wait for.
pub trait Probe: Send + Sync + 'static {
    /// The machine as a whole.
    fn system(&self) -> SystemMemory;

    /// Bytes that the process group led by process `leader` holds, all its processes together; `None`
    /// when there is no such group or nothing of it can be read.
    fn group(&self, leader: u32) -> Option<u64>;
}

/// The machine's memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SystemMemory {
    /// Bytes built in; `None` when that cannot be measured.
    pub total: Option<u64>,
    /// Bytes that programs could take without others being swapped out; `None` when that cannot be
    /// measured.
    pub available: Option<u64>,
    /// How hard the system works to find memory.
    pub pressure: Pressure,
}

/// The words of macOS for how scarce memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    /// Enough for all, or not measured.
    #[default]
    Normal,
    /// The system compresses and swaps.
    Warning,
    /// Programs stall, and may soon be ended.
    Critical,
}

impl Pressure {
    /// The word that Lua and the status use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
