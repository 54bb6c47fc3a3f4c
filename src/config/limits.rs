//! What the hub takes from clients and workers before it gives up on them.

use std::time::Duration;

use super::raw::Table;

const MIB: usize = 1024 * 1024;

/// The limits of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A request's body over so many bytes is refused with 413.
    pub body: usize,
    /// So many bytes of all bodies may be held while it is not known where they go; then 503.
    pub held: usize,
    /// From sending a request until the head of its worker's answer, and up to a quarter longer; zero for
    /// ever.
    pub first_byte: Duration,
    /// Between two parts of an answer, and up to a quarter longer; zero for ever.
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
    // More than a terabyte is none of these machines'.
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
