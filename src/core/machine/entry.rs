//! One model in the machine: its phase, its waiters, and its state in the contract's words.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::trouble::Troubles;
use super::{Asking, Goal, Launch, LoadReason, MemoryState, Now, ProcessState, Spec, Waiter};
use crate::core::fair::Fair;

/// A worker that ran so long starts the count of its ends anew.
const GOOD_RUN: Duration = Duration::from_secs(5 * 60);

/// The phase of a model. The contract's two states are derived from it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Phase {
    /// Not started; no process.
    Down(Ended),
    /// Started, not in memory; with a resident process or without one.
    Standby { process: bool },
    /// As `Standby`, and a load waits until the policy allows it.
    Parked {
        process: bool,
        place: u64,
        /// The policy wants to be asked again then, at the latest.
        ask_at: Duration,
    },
    /// As `Standby`, with memory reserved: these models are being unloaded first.
    Evicting { process: bool, left: Vec<String> },
    /// As `Evicting`, and no process holds the memory any more: it is on its way back to the system.
    Settling { process: bool },
    /// A worker is on its way to the goal.
    Launching(Goal),
    /// A resident worker loads its weights.
    Loading,
    /// In memory; the gate is open.
    Loaded,
    /// The gate is closed and requests in flight may finish.
    Draining(Next),
    /// The process group is being ended; `held` says whether it held memory.
    Ending { next: Next, held: bool },
}

/// The reason why a model is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    Never,
    Asked,
    Failed,
}

/// The step after the end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Next {
    /// Stay started, without memory.
    Unload,
    /// Be started again, as it is now in hub.yaml.
    Restart,
    /// Be failed for a moment, and started again: its worker hung.
    Replace,
    /// Be stopped.
    Stop,
}

impl Phase {
    /// True if the entry's launch number belongs to a worker task that is still there.
    pub(super) fn has_launch(&self) -> bool {
        match self {
            Self::Down(_) => false,
            Self::Standby { process }
            | Self::Parked { process, .. }
            | Self::Evicting { process, .. }
            | Self::Settling { process } => *process,
            Self::Launching(_)
            | Self::Loading
            | Self::Loaded
            | Self::Draining(_)
            | Self::Ending { .. } => true,
        }
    }

    /// The next step after the end of its process, which is on its way out.
    pub(super) fn next(&self) -> Option<Next> {
        match self {
            Self::Draining(next) | Self::Ending { next, .. } => Some(*next),
            _ => None,
        }
    }

    /// True if it is on its way to a stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.next() == Some(Next::Stop)
    }

    /// True if it is on its way to a stop and the start that follows. It takes requests: they wait.
    pub(super) fn is_restarting(&self) -> bool {
        self.next() == Some(Next::Restart)
    }

    /// Changes what comes when its process, which is on its way out, has ended.
    pub(super) fn turn_to(&mut self, other: Next) {
        if let Self::Draining(next) | Self::Ending { next, .. } = self {
            *next = other;
        }
    }
}

/// Times of a model's transitions, Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) memory_changed: Option<f64>,
    pub(crate) loaded: Option<f64>,
    /// The same on the clock of [`Now::at`].
    pub(crate) loaded_since: Option<Duration>,
    pub(crate) unloaded: Option<f64>,
    pub(crate) started: Option<f64>,
    pub(crate) stopped: Option<f64>,
    /// Seconds the last load took.
    pub(crate) load_took: Option<f64>,
}

/// One model.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) spec: Spec,
    pub(super) phase: Phase,
    /// The number of the latest launch; 0 before the first.
    pub(super) launch: Launch,
    /// True if it has been running since it was last started.
    pub(super) up: bool,
    /// Since when its process has been ready to serve.
    pub(super) ready_since: Option<Duration>,
    /// Unasked ends in a row.
    pub(super) crashes: usize,
    /// Time at which a failed model is started again.
    pub(super) retry_at: Option<Duration>,
    /// They wait for it to be loaded, for a lease.
    pub(super) requests: Fair<Asking>,
    /// They wait for it to be loaded.
    pub(super) load: Vec<Waiter>,
    /// They wait for it to be running.
    pub(super) start: Vec<Waiter>,
    /// They wait for it to be unloaded.
    pub(super) unload: Vec<Waiter>,
    /// They wait for it to be stopped.
    pub(super) stop: Vec<Waiter>,
    /// Time at which the policy was first asked about the pending load.
    pub(super) asked_at: Duration,
    /// Unload it once those who wait for the load have had their lease.
    pub(super) unload_when_loaded: bool,
    /// Its state before the current start.
    pub(super) before_start: Ended,
    /// `on_idle` need not be asked before.
    pub(super) keep_until: Duration,
    /// The policies' verdicts on its trouble.
    pub(super) troubles: Troubles,
    /// Begin of the load under way; none for one that an earlier hub began.
    pub(super) load_began: Option<Duration>,
    /// hub.yaml no longer names it; it is forgotten once it is down.
    pub(super) removed: bool,
    pub(crate) pid: Option<u32>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) error: Option<String>,
    /// Number of stops.
    pub(crate) stops: u64,
    pub(crate) times: Times,
    /// True if it was running under the hub before; none once its worker is adopted.
    pub(super) was_up: Option<bool>,
    /// The states that the hub before showed, with their times: these hold again once the states are the same.
    pub(super) earlier: Option<((ProcessState, MemoryState), Times)>,
    pub(super) shown: (ProcessState, MemoryState),
}

impl Entry {
    pub(super) fn new(spec: Spec) -> Self {
        Self {
            spec,
            phase: Phase::Down(Ended::Never),
            launch: 0,
            up: false,
            ready_since: None,
            crashes: 0,
            retry_at: None,
            requests: Fair::default(),
            load: Vec::new(),
            start: Vec::new(),
            unload: Vec::new(),
            stop: Vec::new(),
            asked_at: Duration::ZERO,
            unload_when_loaded: false,
            before_start: Ended::Never,
            keep_until: Duration::ZERO,
            troubles: Troubles::default(),
            load_began: None,
            removed: false,
            pid: None,
            exit_code: None,
            error: None,
            stops: 0,
            times: Times::default(),
            was_up: None,
            earlier: None,
            shown: Default::default(),
        }
    }

    /// True if a resident process is there, for a phase that may have one.
    pub(super) fn has_resident(&self) -> bool {
        match self.phase {
            Phase::Standby { process }
            | Phase::Parked { process, .. }
            | Phase::Evicting { process, .. }
            | Phase::Settling { process } => process,
            _ => false,
        }
    }

    /// The reason for its load, as its waiters tell it.
    pub(super) fn reason(&self) -> LoadReason {
        if self.waiting() > 0 {
            LoadReason::Request
        } else if self.load.is_empty() {
            LoadReason::Start
        } else {
            LoadReason::Manual
        }
    }

    /// Requests that wait for the load.
    pub(crate) fn waiting(&self) -> usize {
        self.requests.len()
    }

    /// True if anybody waits for the load.
    pub(super) fn is_wanted(&self) -> bool {
        !self.requests.is_empty() || !self.load.is_empty()
    }

    /// The contract's `process_state`.
    pub(crate) fn process_state(&self) -> ProcessState {
        match self.phase {
            Phase::Down(Ended::Never) => ProcessState::Inactive,
            Phase::Down(Ended::Asked) => ProcessState::Stopped,
            Phase::Down(Ended::Failed) => ProcessState::Failed,
            _ if self.phase.is_stopping() => ProcessState::Stopping,
            _ if self.up => ProcessState::Running,
            _ => ProcessState::Starting,
        }
    }

    /// The contract's `memory_state`.
    pub(crate) fn memory_state(&self) -> MemoryState {
        match self.phase {
            Phase::Down(Ended::Failed) => MemoryState::Failed,
            Phase::Standby { .. } if self.error.is_some() => MemoryState::Failed,
            Phase::Down(_)
            | Phase::Standby { .. }
            | Phase::Parked { .. }
            | Phase::Launching(Goal::Standby) => MemoryState::Unloaded,
            Phase::Evicting { .. }
            | Phase::Settling { .. }
            | Phase::Launching(Goal::Loaded)
            | Phase::Loading => MemoryState::Loading,
            Phase::Loaded => MemoryState::Loaded,
            Phase::Draining(_) => MemoryState::Unloading,
            Phase::Ending { held: true, .. } => MemoryState::Unloading,
            Phase::Ending { held: false, .. } => MemoryState::Unloaded,
        }
    }

    /// Time since its process was ready to serve; none for one that is not.
    pub(super) fn uptime(&self, now: Now) -> Option<Duration> {
        let since = self.ready_since?;
        Some(now.at.saturating_sub(since))
    }

    /// Unasked ends in a row, of which this would be the next.
    pub(super) fn crashes_so_far(&self, now: Now) -> usize {
        let is_good = self.uptime(now).is_some_and(|uptime| uptime >= GOOD_RUN);
        if is_good { 0 } else { self.crashes }
    }

    /// Its process has ended unasked.
    pub(super) fn be_failed(&mut self, exit_code: Option<i32>, reason: &str, now: Now) {
        self.crashes = self.crashes_so_far(now) + 1;
        self.ready_since = None;
        self.phase = Phase::Down(Ended::Failed);
        self.up = false;
        self.unload_when_loaded = false;
        self.exit_code = exit_code;
        self.error = Some(reason.to_owned());
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.removed && matches!(self.phase, Phase::Down(_))
    }

    /// Takes down when the shown states changed.
    pub(super) fn note_times(&mut self, now: Now) {
        let shown = (self.process_state(), self.memory_state());
        self.note_changes(shown, now);
        match self.earlier {
            Some((earlier, times)) if earlier == shown => {
                (self.times, self.earlier) = (times, None);
            }
            // It has become something else. One that has never been started is about to be adopted.
            Some(_)
                if matches!(
                    self.phase,
                    Phase::Down(Ended::Asked | Ended::Failed) | Phase::Ending { .. }
                ) =>
            {
                self.earlier = None;
            }
            _ => {}
        }
    }

    fn note_changes(&mut self, shown: (ProcessState, MemoryState), now: Now) {
        let (was_process, was_memory) = std::mem::replace(&mut self.shown, shown);
        let (process, memory) = shown;
        if memory != was_memory {
            self.times.memory_changed = Some(now.unix);
            if memory == MemoryState::Loaded {
                self.times.loaded = Some(now.unix);
                self.times.loaded_since = Some(now.at);
                if let Some(began) = self.load_began.take() {
                    self.times.load_took = Some(now.at.saturating_sub(began).as_secs_f64());
                }
            }
            if was_memory.holds_memory() && memory == MemoryState::Unloaded {
                self.times.unloaded = Some(now.unix);
            }
        }
        if process == was_process {
            return;
        }
        let was_down = !matches!(was_process, ProcessState::Starting | ProcessState::Running);
        match process {
            // One that was running until now is restarted.
            ProcessState::Starting | ProcessState::Running
                if was_down || was_process == ProcessState::Running =>
            {
                self.times.started = Some(now.unix);
                self.times.stopped = None;
                self.exit_code = None;
            }
            ProcessState::Stopped | ProcessState::Failed => self.times.stopped = Some(now.unix),
            _ => {}
        }
    }
}
