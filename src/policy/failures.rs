//! The failures of a policy, which switch it off.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;

use super::interface::hook::Hook;

/// Number of failures of a hook in a row that switches its policy off.
const MAX_IN_A_ROW: u32 = 10;

/// The failures of one policy since it was loaded.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// By hook: one that always succeeds does not make up for one that always fails.
    in_a_row: [AtomicU32; Hook::COUNT],
    is_off: AtomicBool,
    seen: Mutex<FailureCount>,
}

#[derive(Debug, Default)]
struct FailureCount {
    total: u64,
    last: Option<String>,
}

impl Failures {
    /// Notes that a hook succeeded.
    pub(crate) fn succeeded(&self, hook: Hook) {
        let in_a_row = &self.in_a_row[hook as usize];
        // Read first: a store would take the cache line from other cores at every request.
        if in_a_row.load(Ordering::Relaxed) != 0 {
            in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a hook failed.
    pub(crate) fn failed(&self, hook: Hook, text: String) {
        let in_a_row = self.in_a_row[hook as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let mut seen = self.seen.lock();
        seen.total += 1;
        seen.last = Some(text);
        if in_a_row == MAX_IN_A_ROW {
            self.is_off.store(true, Ordering::Relaxed);
            tracing::warn!("policy switched off after {MAX_IN_A_ROW} failures in a row");
        }
    }

    /// True if the policy is switched off.
    pub(crate) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }

    /// The number of failures, and the last one.
    pub(crate) fn total_and_last(&self) -> (u64, Option<String>) {
        let seen = self.seen.lock();
        (seen.total, seen.last.clone())
    }

    /// The sentence for the status, once there was a failure.
    pub(crate) fn warning(&self, policy: &str) -> Option<String> {
        let seen = self.seen.lock();
        let last = seen.last.as_deref()?;
        Some(if self.is_off() {
            format!(
                "Policy `{policy}` is switched off until it is reloaded, after {MAX_IN_A_ROW} \
                 failures in a row. The last: {last}"
            )
        } else {
            let times = match seen.total {
                1 => "once".to_owned(),
                total => format!("{total} times"),
            };
            format!("Policy `{policy}` failed {times}. The last: {last}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_ends_the_row_and_ten_failures_switch_off() {
        let failures = Failures::default();
        assert_eq!(failures.warning("a.lua"), None);
        for _ in 0..9 {
            failures.failed(Hook::Idle, "a.lua:1: no".to_owned());
            failures.succeeded(Hook::Request);
        }
        failures.succeeded(Hook::Idle);
        assert!(!failures.is_off());
        assert_eq!(
            failures.warning("a.lua").unwrap(),
            "Policy `a.lua` failed 9 times. The last: a.lua:1: no"
        );
        for _ in 0..10 {
            failures.failed(Hook::Idle, "a.lua:2: no".to_owned());
            failures.succeeded(Hook::Request);
        }
        assert!(failures.is_off());
        insta::assert_snapshot!(failures.warning("a.lua").unwrap(), @"Policy `a.lua` is switched off until it is reloaded, after 10 failures in a row. The last: a.lua:2: no");
    }
}
