//! Lets the machine of the lifecycle ask [`Policies`].

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::{
    Exit, ExitVerdict, IdleVerdict, LoadVerdict, PendingLoad, Policies, Trouble, TroubleVerdict,
};
use crate::core::hands::Judge;

impl Policies {
    /// Asks the policies, in a blocking section while the user's may take long.
    fn think<R>(&self, about: impl FnOnce(&Self) -> R) -> R {
        match self.are_quick() {
            true => about(self),
            false => apart(|| about(self)),
        }
    }
}

/// Runs a long task; another thread takes over this one's other work.
pub(crate) fn apart<R>(task: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(task),
        _ => task(),
    }
}

impl Judge for Policies {
    fn on_load(&self, model: &str, pending: PendingLoad) -> LoadVerdict {
        self.think(|policies| policies.on_load(model, pending))
    }

    fn on_idle(&self, model: &str) -> IdleVerdict {
        self.think(|policies| policies.on_idle(model))
    }

    fn on_exit(&self, model: &str, exit: Exit) -> ExitVerdict {
        self.think(|policies| policies.on_exit(model, exit))
    }

    fn on_trouble(&self, model: &str, trouble: Trouble) -> TroubleVerdict {
        self.think(|policies| policies.on_trouble(model, trouble))
    }

    fn note_overtaken(&self, model: &str) {
        self.note_overtaken(model);
    }

    fn note_recovered(&self, model: &str) {
        self.note_recovered(model);
    }
}
