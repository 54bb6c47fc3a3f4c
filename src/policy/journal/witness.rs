//! Who looks on when a hook is called: the history of decisions and the recorder.
//!
//! The set of policies tells it of every call, under the lock of the Lua state. A call that nobody
//! keeps costs two looks at what is there already.

use std::sync::Arc;

use super::history::History;
use super::record::Recorder;
use super::ruling::{Asked, Ruling};
use crate::policy::host::Policy;
use crate::policy::{Event, World};

/// The two of them, and the world that the call was about.
pub(crate) struct Witness {
    pub(crate) world: Arc<dyn World>,
    pub(crate) history: History,
    pub(crate) recorder: Recorder,
}

impl Witness {
    pub(crate) fn new(world: Arc<dyn World>) -> Self {
        Self {
            world,
            history: History::default(),
            recorder: Recorder::default(),
        }
    }

    /// Something happened that observers may hear of.
    pub(crate) fn hear(&self, event: &Event) {
        self.history.observe(event);
        if self.recorder.is_on() {
            self.recorder.hear(event, &*self.world);
        }
    }

    /// A hook was called.
    pub(crate) fn see(&self, asked: &Asked<'_>, ruling: &Ruling, policies: &[Policy]) {
        let is_kept = match asked {
            Asked::Request(_) | Asked::Idle(_) | Asked::Trouble(..) => ruling.is_verdict(),
            // There are few of these, and each changes something.
            Asked::Load(..) | Asked::Exit(..) => true,
        };
        if is_kept {
            self.history.decided(asked, ruling, policies, &*self.world);
        }
        if self.recorder.is_on() {
            let policy = ruling.policy.map(|number| policies[number].name.as_str());
            self.recorder.see(asked, ruling, policy, &*self.world);
        }
    }
}
