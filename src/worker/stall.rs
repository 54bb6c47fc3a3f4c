//! Green but dead: a worker that takes requests and does nothing about them.
//!
//! A server can outlive the process that holds its model and go on answering `/health`. What gives it
//! away, whatever the dialect: requests are in flight, no byte of an answer comes, and the whole
//! process group uses no CPU. A long prefill uses CPU and is left alone.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::group::{CpuTimes, Group};

/// Looks per stall timeout.
const LOOKS: u32 = 10;
/// A server that only waits still turns its event loop: less than half a percent of a core is nothing.
const IDLE_SHARE: f64 = 0.005;

/// Completes when requests were in flight for `limit` without a sign of life. `traffic` is a number
/// that changes with every sign of life, or none without requests. A `limit` of zero never completes.
pub(super) async fn stalled(
    limit: Duration,
    group: Group,
    traffic: &(dyn Fn() -> Option<u64> + Send + Sync),
) {
    if limit.is_zero() {
        return std::future::pending().await;
    }
    let pause = (limit / LOOKS).max(Duration::from_millis(20));
    let mut since: Option<Quiet> = None;
    loop {
        sleep(pause).await;
        let Some(signs) = traffic() else {
            since = None;
            continue;
        };
        if let Some(quiet) = &since
            && quiet.signs == signs
        {
            let lasted = quiet.began.elapsed();
            if lasted < limit {
                continue;
            }
            // Only now is it worth looking at processes.
            let used = cpu_times(group).await.since(&quiet.cpu_times);
            if used.is_some_and(|used| used.as_secs_f64() < lasted.as_secs_f64() * IDLE_SHARE) {
                return;
            }
        }
        since = Some(Quiet {
            began: Instant::now(),
            signs,
            cpu_times: cpu_times(group).await,
        });
    }
}

/// Since when nothing has come.
struct Quiet {
    began: Instant,
    signs: u64,
    /// Of the group at that moment.
    cpu_times: CpuTimes,
}

async fn cpu_times(group: Group) -> CpuTimes {
    tokio::task::spawn_blocking(move || group.cpu_times())
        .await
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::time::timeout;

    use super::*;

    const LIMIT: Duration = Duration::from_millis(400);

    /// A process in a group of its own, ended when dropped.
    struct Worker(Child);

    impl Worker {
        fn running(script: &str) -> (Self, Group) {
            let child = Command::new("sh")
                .args(["-c", script])
                .process_group(0)
                .spawn()
                .unwrap();
            let group = Group::led_by(child.id()).unwrap();
            (Self(child), group)
        }
    }

    impl Drop for Worker {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn a_group_that_does_nothing_about_its_requests_is_stalled() {
        let (_worker, group) = Worker::running("exec sleep 60");
        timeout(LIMIT * 10, stalled(LIMIT, group, &|| Some(7)))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn one_that_computes_answers_or_has_no_requests_is_left_alone() {
        let (_busy, group) = Worker::running("while :; do :; done");
        assert!(
            timeout(LIMIT * 4, stalled(LIMIT, group, &|| Some(7)))
                .await
                .is_err(),
            "it computes"
        );
        let (_idle, group) = Worker::running("exec sleep 60");
        let signs = AtomicU64::new(0);
        let answering = || Some(signs.fetch_add(1, Ordering::Relaxed));
        assert!(
            timeout(LIMIT * 4, stalled(LIMIT, group, &answering))
                .await
                .is_err(),
            "it answers"
        );
        assert!(
            timeout(LIMIT * 4, stalled(LIMIT, group, &|| None))
                .await
                .is_err(),
            "nobody asks"
        );
        assert!(
            timeout(LIMIT * 4, stalled(Duration::ZERO, group, &|| Some(7)))
                .await
                .is_err(),
            "switched off"
        );
    }
}
