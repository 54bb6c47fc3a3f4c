//! Finds out whether a signal is ignored, as `nohup` and shells set it for the programs they start.

#![expect(
    unsafe_code,
    reason = "nobody has a safe call that asks for a signal's action and leaves it"
)]

use std::mem::MaybeUninit;

use nix::libc;
use nix::sys::signal::Signal;

/// True if this process ignores `signal`.
pub(super) fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with no new action the call changes nothing, and it fills in `action` unless it fails.
    unsafe {
        libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_told_from_what_is_not() {
        // The standard library ignores the one at the start of every program.
        assert!(is_ignored(Signal::SIGPIPE));
        assert!(!is_ignored(Signal::SIGURG));
    }
}
