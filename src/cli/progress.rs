//! The waiting line: what is waited for and since when, on a terminal only.

use std::future::Future;
use std::io::{IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, interval_at};

use super::render::duration;

const FRAMES: [char; 4] = ['|', '/', '-', '\\'];
/// Work that ends sooner shows nothing.
const PATIENCE: Duration = Duration::from_millis(300);
const FRAME: Duration = Duration::from_millis(100);

/// Waits for `work`. Meanwhile a line on stderr says `what` and how long it has taken; it is gone when
/// the work is done. Where stderr is no terminal nothing is written.
pub(super) async fn show<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    let begin = Instant::now();
    let mut frames = interval_at(begin + PATIENCE, FRAME);
    let mut work = pin!(work);
    let mut drawn = 0;
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = frames.tick() => draw(what, begin.elapsed(), drawn),
        }
        drawn += 1;
    };
    if drawn > 0 {
        clear();
    }
    result
}

fn draw(what: &str, elapsed: Duration, frame: usize) {
    let mark = FRAMES[frame % FRAMES.len()];
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "\r\x1b[K{mark} {what} ({})", duration(elapsed));
    let _ = stderr.flush();
}

fn clear() {
    let mut stderr = std::io::stderr();
    let _ = write!(stderr, "\r\x1b[K");
    let _ = stderr.flush();
}
