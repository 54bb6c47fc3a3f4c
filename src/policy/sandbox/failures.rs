//! The failures of a policy, and the text of a Lua error: one line that begins with `file:line:`.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use mlua::Lua;
use parking_lot::Mutex;

use crate::policy::interface::hook::Hook;

/// The sandbox's own chunk name in tracebacks: no file's, so that it differs from every policy's.
pub(crate) const SANDBOX: &str = "[sandbox]";

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

/// One line about a Lua error. If Lua gave no position, it is the innermost line of a policy in the
/// traceback, or else `fallback` (`file:line`, or empty for none).
pub(crate) fn describe(error: &mlua::Error, fallback: &str) -> String {
    let (place, text) = located(error);
    joined(place.as_deref().unwrap_or(fallback), &text)
}

/// `text` with the position of the error, as [`describe`] finds it.
pub(crate) fn at_place(error: &mlua::Error, fallback: &str, text: &str) -> String {
    joined(located(error).0.as_deref().unwrap_or(fallback), text)
}

fn joined(place: &str, text: &str) -> String {
    match place {
        "" => text.to_owned(),
        place => format!("{place}: {text}"),
    }
}

/// The position and the message of an error.
fn located(error: &mlua::Error) -> (Option<String>, String) {
    let (error, outer_traceback) = root(error);
    let text = match error {
        mlua::Error::SyntaxError { message, .. } | mlua::Error::RuntimeError(message) => {
            message.clone()
        }
        mlua::Error::MemoryError(_) => format!(
            "not enough memory: all policies together may use {} MiB",
            super::limits::MEMORY >> 20
        ),
        other => other.to_string(),
    };
    let (text, traceback) = match text.split_once("\nstack traceback:") {
        Some((text, traceback)) => (text, traceback),
        None => (&*text, outer_traceback.unwrap_or_default()),
    };
    let text = without_sandbox(text.trim_end()).replace('\n', " ");
    if let Some(place) = place(&text) {
        let said = text[place.len()..].trim_start_matches(':').trim_start();
        return (Some(place.to_owned()), said.to_owned());
    }
    let place = traceback.lines().find_map(|line| place(line.trim_start()));
    (place.map(str::to_owned), text)
}

/// The innermost line of a policy that runs now, as `file:line`.
pub(crate) fn running_line(lua: &Lua) -> Option<String> {
    (0..)
        .map_while(|level| {
            lua.inspect_stack(level, |frame| {
                let source = frame.source();
                let file = source.short_src.as_deref().unwrap_or_default();
                let line = frame.current_line().filter(|_| file.ends_with(".lua"))?;
                Some(format!("{file}:{line}"))
            })
        })
        .find_map(|line| line)
}

/// A position in the sandbox itself means nothing to the author of a policy.
pub(crate) fn without_sandbox(text: &str) -> &str {
    let inside = text
        .strip_prefix(SANDBOX)
        .and_then(|rest| rest.strip_prefix(':'));
    match inside.and_then(|rest| rest.split_once(": ")) {
        Some((_, text)) => text,
        None => text,
    }
}

/// The error below the layers that mlua puts around it, and the innermost traceback.
fn root(mut error: &mlua::Error) -> (&mlua::Error, Option<&str>) {
    let mut innermost = None;
    while let mlua::Error::CallbackError { traceback, cause } = error {
        innermost = Some(traceback.as_str());
        error = cause;
    }
    (error, innermost)
}

/// The `file.lua:12` that `line` begins with.
pub(crate) fn place(line: &str) -> Option<&str> {
    let file = line.find(".lua:")? + ".lua:".len();
    let digits = line[file..].bytes().take_while(u8::is_ascii_digit).count();
    let end = file + digits;
    let is_place = digits > 0 && line[end..].starts_with(':') && !line[..file].contains(": ");
    is_place.then(|| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_lua_file_and_a_line_at_the_beginning() {
        assert_eq!(place("a.lua:12: in function"), Some("a.lua:12"));
        assert_eq!(place("lib/my names.lua:1: no"), Some("lib/my names.lua:1"));
        assert_eq!(place("[C]: in function 'error' of a.lua:3:"), None);
        assert_eq!(place("a.lua: no line"), None);
    }

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
