//! The two witnesses of every call of a hook: the history of decisions and the recorder.
//!
//! The set of policies reports every call, under the lock of the Lua state. A call that neither keeps costs
//! two checks of existing values.

use std::sync::Arc;

use super::history::History;
use super::record::Recorder;
use super::ruling::{Question, Ruling};
use crate::policy::host::Policy;
use crate::policy::{Event, World};

/// The witnesses, and the world of the call.
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

    /// Notes an event that observers may receive.
    pub(crate) fn hear(&self, event: &Event) {
        self.history.observe(event);
        if self.recorder.is_on() {
            self.recorder.hear(event, &*self.world);
        }
    }

    /// Notes the call of a hook.
    pub(crate) fn see(&self, asked: &Question<'_>, ruling: &Ruling, policies: &[Policy]) {
        let is_kept = match asked {
            Question::Request(_) | Question::Idle(_) | Question::Trouble(..) => ruling.is_verdict(),
            // There are few of these, and each changes something.
            Question::Load(..) | Question::Exit(..) => true,
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
