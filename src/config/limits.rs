//! The limits after which the hub gives up on a client or a worker.

use std::time::Duration;

use super::raw::Table;

const MIB: usize = 1024 * 1024;

/// The limits of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body in bytes; a larger one is refused with 413.
    pub body: usize,
    /// Bytes of all request bodies that may be held before their models are known; beyond it, 503.
    pub held: usize,
    /// Longest wait for the head of a worker's answer; it ends up to a quarter later. Zero waits for ever.
    pub first_byte: Duration,
    /// Longest silence within an answer; it ends up to a quarter later. Zero waits for ever.
    pub idle_stream: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 256 * MIB,
            held: 1024 * MIB,
            first_byte: Duration::from_hours(1),
            idle_stream: Duration::from_mins(10),
        }
    }
}

/// Reads the keys of the hub.
pub(super) fn read(table: &mut Table<'_, '_>) -> Limits {
    let default = Limits::default();
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    // No machine has more than a terabyte.
    let megabytes = 1..=1024 * 1024_u32;
    let bytes = |megabytes: u32| usize::try_from(megabytes).unwrap_or(usize::MAX / MIB) * MIB;
    Limits {
        body: table
            .int("max_body_mb", megabytes.clone())
            .map_or(default.body, bytes),
        held: table
            .int("max_held_mb", megabytes)
            .map_or(default.held, bytes),
        first_byte: table
            .int("first_byte_timeout", 0..=u32::MAX)
            .map_or(default.first_byte, seconds),
        idle_stream: table
            .int("idle_stream_timeout", 0..=u32::MAX)
            .map_or(default.idle_stream, seconds),
    }
}
