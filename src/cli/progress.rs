//! Shows a wait and its duration: a moving line on a terminal, a plain line now and then in a pipe.
//!
//! It writes to stderr, so that scripts can read a command's answer.

use std::future::Future;
use std::io::{IsTerminal as _, Write};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::render::{duration, info, width_of};

const FRAMES: [char; 4] = ['|', '/', '-', '\\'];
/// Work that ends sooner shows nothing on a terminal,
const PATIENCE: Duration = Duration::from_millis(300);
const FRAME: Duration = Duration::from_millis(100);
/// and nothing in a pipe.
const FIRST_LINE: Duration = Duration::from_secs(5);
const NEXT_LINE: Duration = Duration::from_secs(10);

/// Waits for `work`. Meanwhile stderr shows `what` and the elapsed time: a terminal in one line that is erased
/// at the end, anything else in a line every ten seconds.
pub(super) async fn show<T>(what: &str, work: impl Future<Output = T>) -> T {
    show_since(Instant::now(), what, work).await
}

/// [`show`] for work that began at `begin`.
pub(super) async fn show_since<T>(begin: Instant, what: &str, work: impl Future<Output = T>) -> T {
    show_changing(begin, &|| what.to_owned(), work).await
}

/// [`show_since`] with a text that changes.
pub(super) async fn show_changing<T>(
    begin: Instant,
    what: &dyn Fn() -> String,
    work: impl Future<Output = T>,
) -> T {
    // Here, so that the futures below hold a pointer to it and not another place for it.
    let work = pin!(work);
    if std::io::stderr().is_terminal() {
        let width = || width_of(std::io::stderr());
        spin(begin, what, work, std::io::stderr(), width).await
    } else {
        note(begin, what, work, anstream::stderr()).await
    }
}

async fn spin<T>(
    begin: Instant,
    what: &dyn Fn() -> String,
    work: impl Future<Output = T>,
    out: impl Write,
    width: impl Fn() -> Option<usize>,
) -> T {
    let mut frames = FRAMES.iter().cycle();
    let mut line = Line { out, drawn: false };
    meanwhile(begin, work, PATIENCE, FRAME, |elapsed| {
        let mark = frames.next().unwrap_or(&' ');
        let elapsed = format!(" ({})", duration(elapsed));
        line.draw(&format!("{mark} {}", fitting(&what(), &elapsed, width())));
    })
    .await
}

/// The text with its end; on a terminal the text is cut so that both fit into its line behind the mark. A line
/// that is as wide as the terminal, or wider, would not be erased whole.
fn fitting(text: &str, end: &str, width: Option<usize>) -> String {
    const MARK: usize = 2;
    let room = width.map(|width| width.saturating_sub(MARK + 1 + end.chars().count()));
    match room {
        Some(room) if text.chars().count() > room => {
            let kept: String = text.chars().take(room.saturating_sub(1)).collect();
            format!("{}…{end}", kept.trim_end())
        }
        _ => format!("{text}{end}"),
    }
}

/// A line that is erased at the end, also of a wait that is given up.
struct Line<W: Write> {
    out: W,
    drawn: bool,
}

impl<W: Write> Line<W> {
    fn draw(&mut self, text: &str) {
        write(&mut self.out, &format!("\r\x1b[K{text}"));
        self.drawn = true;
    }
}

impl<W: Write> Drop for Line<W> {
    fn drop(&mut self) {
        if self.drawn {
            write(&mut self.out, "\r\x1b[K");
        }
    }
}

async fn note<T>(
    begin: Instant,
    what: &dyn Fn() -> String,
    work: impl Future<Output = T>,
    mut out: impl Write,
) -> T {
    meanwhile(begin, work, FIRST_LINE, NEXT_LINE, |elapsed| {
        let line = info(format_args!("{} ({})", what(), duration(elapsed)));
        write(&mut out, &format!("{line}\n"));
    })
    .await
}

/// Waits for `work` and calls `tick` with the time since `begin`, first after `first`, then every `next`.
async fn meanwhile<T>(
    begin: Instant,
    work: impl Future<Output = T>,
    first: Duration,
    next: Duration,
    mut tick: impl FnMut(Duration),
) -> T {
    let mut ticks = interval_at(Instant::now() + first, next);
    // A suspended command that is resumed need not catch up.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut work = pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => tick(begin.elapsed()),
        }
    }
}

/// A missing reader must not affect the work.
fn write(out: &mut impl Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    fn alpha() -> String {
        "alpha: loading".to_owned()
    }

    fn plain(written: &[u8]) -> String {
        anstream::adapter::strip_str(std::str::from_utf8(written).unwrap()).to_string()
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_gets_a_line_after_five_seconds_and_then_every_ten() {
        let mut written = Vec::new();
        let work = async {
            sleep(Duration::from_secs(76)).await;
            "loaded"
        };
        assert_eq!(
            note(Instant::now(), &alpha, work, &mut written).await,
            "loaded"
        );
        insta::assert_snapshot!(plain(&written), @"
        [info] alpha: loading (5s)
        [info] alpha: loading (15s)
        [info] alpha: loading (25s)
        [info] alpha: loading (35s)
        [info] alpha: loading (45s)
        [info] alpha: loading (55s)
        [info] alpha: loading (1m05s)
        [info] alpha: loading (1m15s)
        ");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_soon_shows_nothing() {
        let mut written = Vec::new();
        note(
            Instant::now(),
            &alpha,
            sleep(Duration::from_millis(4900)),
            &mut written,
        )
        .await;
        spin(
            Instant::now(),
            &alpha,
            sleep(Duration::from_millis(250)),
            &mut written,
            || None,
        )
        .await;
        assert_eq!(plain(&written), "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminal_gets_one_line_that_moves_and_is_gone_at_the_end() {
        let mut written = Vec::new();
        spin(
            Instant::now(),
            &alpha,
            sleep(Duration::from_millis(1150)),
            &mut written,
            || None,
        )
        .await;
        let written = String::from_utf8(written).unwrap();
        assert!(
            written.ends_with("\r\x1b[K"),
            "the last line is still there"
        );
        let shown = written.replace("\r\x1b[K", "\n");
        insta::assert_snapshot!(shown.trim(), @r"
        | alpha: loading (0s)
        / alpha: loading (0s)
        - alpha: loading (0s)
        \ alpha: loading (0s)
        | alpha: loading (0s)
        / alpha: loading (0s)
        - alpha: loading (0s)
        \ alpha: loading (1s)
        | alpha: loading (1s)
        ");
    }

    #[test]
    fn a_line_is_narrower_than_its_terminal_and_keeps_the_time() {
        let said = "alpha: loading; beta: loading";
        assert_eq!(fitting(said, " (5s)", None), format!("{said} (5s)"));
        assert_eq!(fitting(said, " (5s)", Some(37)), format!("{said} (5s)"));
        let cut = fitting(said, " (5s)", Some(36));
        assert_eq!(cut, "alpha: loading; beta: loadi… (5s)");
        assert_eq!(cut.chars().count() + 2, 35);
        assert_eq!(fitting(said, " (5s)", Some(24)), "alpha: loading;… (5s)");
    }
}
