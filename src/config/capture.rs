//! The keys about bodies that are kept for a while: whether, for how long, and how much.

use std::time::Duration;

use super::raw::Table;

/// Bounds of the bodies of requests and answers that the hub keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureLimits {
    /// For how long each is kept from its request's arrival on.
    pub time: Duration,
    /// Bytes of all of them; the oldest go first.
    pub bytes: usize,
}

/// Reads the keys of the hub; `None` where no bodies are kept.
pub(super) fn read(table: &mut Table<'_, '_>) -> Option<CaptureLimits> {
    let is_on = table.flag("capture").unwrap_or(false);
    let minutes = table.int("capture_minutes", 1..=24 * 60_u32).unwrap_or(10);
    let megabytes = table.int("capture_max_mb", 1..=1024_u16).unwrap_or(16);
    is_on.then(|| CaptureLimits {
        time: Duration::from_mins(minutes.into()),
        bytes: usize::from(megabytes) << 20,
    })
}
