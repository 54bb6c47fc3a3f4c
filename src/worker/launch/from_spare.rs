//! A worker that began as a spare: it takes its command line, tells when it listens, and if it comes to nothing
//! before it is ready, it is found out whose fault that was.
//!
//! A load that fails by the fault of its spare is begun again, by the program itself. One that fails by its own (a path
//! that is no model, too little memory) has failed: it would fail again, and have its user wait for it twice.

use std::time::Duration;

use tokio::time::timeout;

use super::process::{BEFORE_READY, FirstEvent, Process, how_it_ended};
use super::{End, Report, RunningLaunch};
use crate::worker::group;
use crate::worker::spare::{Begun, NotTaken, SpareFault, Teacher};

/// A worker that has taken so many bytes since it began was at its weights: whoever killed it may have been the
/// system, for want of memory.
const GROWN: u64 = 512 * 1024 * 1024;
/// Longest wait for the exit code of a process whose channel has closed.
const ENDING: Duration = Duration::from_millis(100);

/// A worker that began as a spare.
pub(super) enum FromSpare {
    /// It has been sent its command line, and is not ready.
    Begun(Begun),
    /// It is ready, and may tell what it imports.
    Ready(Option<Teacher>),
}

/// The reason for beginning again without a spare.
#[derive(Debug, PartialEq)]
struct Rescue {
    reason: String,
    /// True if the next spare may come to nothing too: nobody has struck this one.
    is_doubtful: bool,
}

impl Rescue {
    /// That of a worker that has ended, with the fault that it told of, and had grown by so many bytes; `None` if its
    /// program has failed.
    fn after(fault: Option<SpareFault>, exit_code: Option<i32>, grown: u64) -> Option<Self> {
        let by_signal = exit_code.filter(|code| *code < 0);
        let killed =
            by_signal.map(|code| SpareFault::Killed(how_it_ended(Some(code), BEFORE_READY)));
        let (reason, is_doubtful) = match fault.or(killed)? {
            SpareFault::Unlike(reason) => (reason, true),
            SpareFault::Killed(_) if grown >= GROWN => return None,
            SpareFault::Killed(reason) => (reason, false),
        };
        Some(Self {
            reason,
            is_doubtful,
        })
    }
}

/// Completes when a worker that began as a spare listens on a port, if it tells that.
pub(super) async fn listening(spare: Option<&mut FromSpare>) {
    match spare {
        Some(FromSpare::Begun(begun)) => begun.listening().await,
        _ => std::future::pending().await,
    }
}

impl Process {
    /// Waits for a spare to take its command line; returns the end of one that has not.
    pub(super) async fn take_over<R: Fn(Report) + Send + Sync>(
        &mut self,
        launch: &mut RunningLaunch<'_, R>,
    ) -> Option<End> {
        let Some(FromSpare::Begun(mut begun)) = self.spare.take() else {
            return None;
        };
        let taken = self.step(begun.taken(), launch).await;
        if let FirstEvent::Done(Err(NotTaken::Changed(reason))) = taken {
            // Its next start learns what the program imports now, or takes a spare that is newer.
            launch.order.spares.forget(begun.kind());
            return Some(self.end_spare(reason, false).await);
        }
        self.spare = Some(FromSpare::Begun(begun));
        let (reason, exit_code) = match taken {
            FirstEvent::Done(Ok(())) => return None,
            FirstEvent::Done(Err(NotTaken::Changed(reason) | NotTaken::Failed(reason))) => {
                let ended = timeout(ENDING, self.leader.ended()).await;
                (reason, ended.unwrap_or_default())
            }
            FirstEvent::Exited(code) => (how_it_ended(code, " before it began"), code),
            other => return Some(self.broken_off(other, launch).await),
        };
        let is_struck = exit_code.is_some_and(|code| code < 0) || self.group.is_stopped();
        let rescue = Rescue {
            reason,
            is_doubtful: !is_struck,
        };
        Some(self.no_spare(rescue, launch).await)
    }

    /// The end of a worker that was not ready.
    pub(super) async fn not_ready<T, R: Fn(Report) + Send + Sync>(
        &mut self,
        step: FirstEvent<T>,
        launch: &mut RunningLaunch<'_, R>,
    ) -> End {
        let rescue = match &step {
            FirstEvent::Exited(code) => self.rescue(*code).await,
            FirstEvent::Silent if self.spare.is_some() && self.group.is_stopped() => Some(Rescue {
                reason: "its processes were stopped".to_owned(),
                is_doubtful: false,
            }),
            _ => None,
        };
        if let Some(rescue) = rescue {
            return self.no_spare(rescue, launch).await;
        }
        if matches!(step, FirstEvent::Exited(_) | FirstEvent::Silent) {
            self.doubt_spare(launch);
        }
        self.broken_off(step, launch).await
    }

    /// A load has failed: with a spare, the next one shows whose fault it was.
    pub(super) fn doubt_spare<R>(&self, launch: &RunningLaunch<'_, R>) {
        if self.spare.is_some() {
            let order = &launch.order;
            order.spares.note_failed(&order.model.name);
        }
    }

    /// The reason why a worker that has ended is no failure of its program.
    async fn rescue(&mut self, exit_code: Option<i32>) -> Option<Rescue> {
        let Some(FromSpare::Begun(begun)) = &mut self.spare else {
            return None;
        };
        let fault = begun.fault().await;
        Rescue::after(fault, exit_code, self.growth.bytes())
    }

    /// Ends a worker that began as a spare and came to nothing.
    async fn no_spare<R>(&mut self, rescue: Rescue, launch: &RunningLaunch<'_, R>) -> End {
        if rescue.is_doubtful {
            self.doubt_spare(launch);
        }
        self.end_spare(rescue.reason, true).await
    }

    async fn end_spare(&mut self, reason: String, is_failed: bool) -> End {
        let launch = &self.spawned.identity.launch;
        group::kill(&mut self.leader, self.group, launch).await;
        End::NoSpare { reason, is_failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_begun_again_only_where_its_program_has_not_failed() {
        let rescued = |fault, exit_code, grown| {
            let rescue = Rescue::after(fault, exit_code, grown)?;
            Some((rescue.reason, rescue.is_doubtful))
        };
        let unlike = || Some(SpareFault::Unlike("unlike".to_owned()));
        let killed = || Some(SpareFault::Killed("killed".to_owned()));
        assert_eq!(rescued(None, Some(0), 0), None);
        assert_eq!(rescued(None, Some(1), 0), None);
        assert_eq!(rescued(None, None, 0), None);
        assert_eq!(
            rescued(unlike(), Some(1), GROWN),
            Some(("unlike".into(), true))
        );
        assert_eq!(
            rescued(killed(), Some(1), GROWN - 1),
            Some(("killed".into(), false))
        );
        let itself = "the worker was ended by signal 9 before it was ready".to_owned();
        assert_eq!(rescued(None, Some(-9), 0), Some((itself, false)));
        // It was at its weights: perhaps there was no memory for them.
        assert_eq!(rescued(killed(), Some(1), GROWN), None);
        assert_eq!(rescued(None, Some(-9), GROWN), None);
    }
}
