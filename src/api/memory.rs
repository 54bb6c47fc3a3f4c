//! The machine's memory, as it is measured, shown and decided by.

use serde::{Deserialize, Serialize};

/// The machine's memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SystemMemory {
    /// Bytes built in; `None` when that cannot be measured.
    pub total: Option<u64>,
    /// Bytes that programs could take without others being swapped out; `None` when that cannot be
    /// measured.
    pub available: Option<u64>,
    /// Bytes that ended workers held and that are not available again. No probe can measure it: the
    /// lifecycle adds it.
    #[serde(default)]
    pub returning: u64,
    /// Bytes that spare processes hold: they end when a load needs them.
    #[serde(default)]
    pub spares: u64,
    /// The memory pressure.
    pub pressure: Pressure,
}

/// Memory pressure, in macOS' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressure {
    /// It cannot be measured, or has not been yet.
    #[default]
    Unknown,
    /// Enough for all.
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
            Self::Unknown => "unknown",
            Self::Normal => "normal",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}
