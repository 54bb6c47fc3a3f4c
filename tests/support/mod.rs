//! What the tests share: a real daemon per test ([`Hub`], or in a user's [`home`]), a plain HTTP client ([`http`]) and the
//! control API through it ([`control`]), the simulated worker's record ([`record`]) and a look at
//! processes ([`processes`]).
//!
//! Nothing sleeps for a fixed time: [`wait_for`] looks again until a condition holds or a deadline
//! passes.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test file is a crate of its own and uses its part of this"
)]

pub mod alpha;
pub mod control;
pub mod downloads;
pub mod home;
pub mod http;
pub mod hub;
pub mod hugging_face;
pub mod model_folder;
#[cfg(target_os = "linux")]
pub mod network;
pub mod processes;
pub mod record;
pub mod spares;

use std::time::Duration;

use tokio::time::Instant;

pub use hub::{Hub, stub};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_mlx-openai-server-hub");

/// Long enough for anything that happens at all, on a machine that does much else.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks every 10 ms until `look` gives a value; panics with `what` after `deadline`.
#[track_caller]
pub fn wait_for<T>(what: &str, deadline: Duration, look: impl FnMut() -> Option<T>) -> T {
    within(deadline, look).unwrap_or_else(|| panic!("waited {deadline:?} in vain: {what}"))
}

/// [`wait_for`] for what must not panic, as in `Drop`: `None` after `deadline`.
pub fn within<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// [`wait_for`] with a condition.
#[track_caller]
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, deadline, || holds().then_some(()));
}

/// Prints what a program said, beside the failure of the test that ran it.
#[expect(
    clippy::print_stderr,
    reason = "the test runner shows it when a test fails"
)]
pub fn show(who: &str, said: &str) {
    eprintln!("--- {who} said:\n{said}");
}
