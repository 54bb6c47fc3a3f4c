//! Limits the lines that policies write to the hub's log, in number and in length.
//!
//! `print`, `hub.log` and the failures of hooks go through here, because a policy runs as often as its
//! clients like. Dropped lines are counted, and their number is logged afterwards.

use std::borrow::Cow;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Lines in a [`WINDOW`].
const MAX_LINES: u64 = 1000;
const WINDOW: Duration = Duration::from_secs(60);
/// Longest line in bytes.
const MAX_LINE_BYTES: usize = 4096;

/// The recent lines of one set of policies.
#[derive(Debug, Default)]
pub(crate) struct Flood(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    ends: Option<Instant>,
    lines: u64,
}

impl Flood {
    /// True if another line may be logged now.
    pub(crate) fn admits(&self) -> bool {
        let mut window = self.0.lock();
        let now = Instant::now();
        if window.ends.is_none_or(|ends| now >= ends) {
            let left_out = window.lines.saturating_sub(MAX_LINES);
            if left_out > 0 {
                tracing::warn!("{left_out} lines of policies were left out of this log");
            }
            *window = Window {
                ends: Some(now + WINDOW),
                lines: 0,
            };
        }
        window.lines += 1;
        if window.lines == MAX_LINES + 1 {
            tracing::warn!(
                "policies log more than {MAX_LINES} lines in a minute: the rest of this minute is left out"
            );
        }
        window.lines <= MAX_LINES
    }
}

/// A policy's text as it may be logged: shortened, and as one line.
pub(crate) fn loggable(text: &str) -> Cow<'_, str> {
    let kept = &text[..text.floor_char_boundary(MAX_LINE_BYTES)];
    let is_odd = |c: char| c != '\t' && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'));
    let line = match kept.contains(is_odd) {
        false => Cow::Borrowed(kept),
        // Otherwise a client's text could end the line and forge the next one.
        true => kept
            .chars()
            .fold(String::with_capacity(kept.len()), |mut line, c| {
                match is_odd(c) {
                    true => line.extend(c.escape_default()),
                    false => line.push(c),
                }
                line
            })
            .into(),
    };
    match kept.len() == text.len() {
        true => line,
        false => format!("{line}… ({} bytes in all)", text.len()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_thousand_lines_a_minute_and_then_a_thousand_more() {
        let flood = Flood::default();
        let admitted = || (0..5000).filter(|_| flood.admits()).count();
        assert_eq!(admitted(), 1000);
        assert_eq!(admitted(), 0);
        tokio::time::advance(WINDOW).await;
        assert_eq!(admitted(), 1000);
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        assert_eq!(loggable("short"), "short");
        let long = "ö".repeat(MAX_LINE_BYTES);
        let cut = loggable(&long);
        assert!(cut.len() < MAX_LINE_BYTES + 40, "{}", cut.len());
        assert!(cut.ends_with("ö… (8192 bytes in all)"), "{cut}");
        assert!(loggable(&format!("a{long}")).len() < MAX_LINE_BYTES + 40);
    }

    #[test]
    fn a_text_stays_one_line_whatever_is_in_it() {
        for (text, line) in [
            ("a\tb ö", "a\tb ö"),
            ("x\n2026-03-02 ERROR forged", "x\\n2026-03-02 ERROR forged"),
            ("x\r\ny", "x\\r\\ny"),
            (
                "\u{1b}[2K\u{85}\u{2028}\0",
                "\\u{1b}[2K\\u{85}\\u{2028}\\u{0}",
            ),
        ] {
            assert_eq!(loggable(text), line);
        }
    }
}
