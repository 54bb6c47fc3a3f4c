//! The hooks: their names, their time limits and the verdicts each may return. An observer is called
//! like a hook that decides nothing.

use std::time::Duration;

use crate::policy::bindings::verdicts::Verdict;

/// One of the functions a policy may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Request,
    Load,
    Idle,
    Exit,
    Trouble,
    /// No key of the table: `hub.on` takes it.
    Observer,
}

impl Hook {
    /// Number of hooks, that of observers included.
    pub(crate) const COUNT: usize = 6;

    /// All that a policy returns.
    pub(crate) const ALL: [Self; 5] = [
        Self::Request,
        Self::Load,
        Self::Idle,
        Self::Exit,
        Self::Trouble,
    ];

    /// Its key in the table a policy returns, or what made it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "on_request",
            Self::Load => "on_load",
            Self::Idle => "on_idle",
            Self::Exit => "on_exit",
            Self::Trouble => "on_trouble",
            Self::Observer => "hub.on",
        }
    }

    /// Time limit of one policy.
    pub(crate) fn allowed(self) -> Duration {
        match self {
            Self::Request => Duration::from_millis(50),
            Self::Load | Self::Idle | Self::Exit | Self::Trouble | Self::Observer => {
                Duration::from_millis(250)
            }
        }
    }

    /// True if the hook may return this verdict.
    pub(crate) fn takes(self, verdict: &Verdict) -> bool {
        use Verdict::{Allow, Evict, Keep, Leave, Reject, Restart, Route, Stop, Unload, Wait};
        match self {
            Self::Request => matches!(verdict, Route(_) | Reject(_) | Wait(_)),
            Self::Load => matches!(verdict, Allow | Evict(_) | Wait(_) | Reject(_)),
            Self::Idle => matches!(verdict, Unload | Stop | Keep(_)),
            Self::Exit => matches!(verdict, Restart(_) | Leave),
            Self::Trouble => matches!(verdict, Restart(_) | Leave | Keep(_)),
            Self::Observer => false,
        }
    }

    /// Its possible verdicts, for an error.
    pub(crate) fn choices(self) -> &'static str {
        match self {
            Self::Request => "nil, hub.route{…}, hub.wait{…} or hub.reject{…}",
            Self::Load => "nil, hub.allow(), hub.evict{…}, hub.wait{…} or hub.reject{…}",
            Self::Idle => "nil, hub.unload(), hub.stop() or hub.keep{…}",
            Self::Exit => "nil, hub.restart{…} or hub.leave()",
            Self::Trouble => "nil, hub.restart{…}, hub.leave() or hub.keep{…}",
            // What it returns is not looked at.
            Self::Observer => "nil",
        }
    }
}
