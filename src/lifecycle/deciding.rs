//! The policies, as the supervisor asks them for its [`Machine`]: about the state that is true now, and so
//! that nobody but the supervisor waits for those of the user's.

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use super::publish::publish;
use super::registry::Registry;
use super::watchdog;
use crate::core::machine::{Decide, Machine};
use crate::policy::{
    Exit, ExitVerdict, IdleVerdict, LoadVerdict, PendingLoad, Policies, Trouble, TroubleVerdict,
};

/// The registry and the policies: what the machine asks.
pub(super) struct Deciding {
    pub(super) registry: Arc<Registry>,
    pub(super) policies: Policies,
}

impl Deciding {
    /// Lets the policies decide, apart from other work while those of the user's may take long.
    fn think<R>(&self, about: impl FnOnce(&Policies) -> R) -> R {
        match self.policies.are_quick() {
            true => about(&self.policies),
            false => apart(|| about(&self.policies)),
        }
    }
}

/// Does something that takes long; what else this thread has to do, another one takes over.
pub(super) fn apart<R>(task: impl FnOnce() -> R) -> R {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(task),
        _ => task(),
    }
}

impl Decide for Deciding {
    fn on_load(&mut self, machine: &Machine, model: &str, pending: PendingLoad) -> LoadVerdict {
        // Policies see what is published: it has to be what is true now.
        publish(machine, &self.registry, &self.policies);
        self.think(|policies| policies.on_load(model, pending))
    }

    fn on_exit(&mut self, machine: &Machine, model: &str, exit: Exit) -> ExitVerdict {
        publish(machine, &self.registry, &self.policies);
        self.think(|policies| policies.on_exit(model, exit))
    }

    fn on_trouble(
        &mut self,
        machine: &Machine,
        model: &str,
        trouble: Trouble,
        spell: u64,
    ) -> TroubleVerdict {
        publish(machine, &self.registry, &self.policies);
        let verdict = self.think(|policies| policies.on_trouble(model, trouble));
        let table = self.registry.table.load();
        let lasts = table
            .find(model)
            .is_some_and(|model| watchdog::lasts(model, trouble.kind, spell));
        match verdict {
            // An answer that came meanwhile wins.
            TroubleVerdict::Restart { .. } if !lasts => {
                self.policies.note_recovered(model);
                TroubleVerdict::Keep(0.0)
            }
            verdict => verdict,
        }
    }

    fn on_idle(&mut self, machine: &Machine, model: &str) -> IdleVerdict {
        publish(machine, &self.registry, &self.policies);
        let table = self.registry.table.load();
        let Some(model) = table.find(model) else {
            return IdleVerdict::Keep(0.0);
        };
        if model.gate.active() > 0 {
            return IdleVerdict::Keep(0.0);
        }
        match self.think(|policies| policies.on_idle(&model.name)) {
            IdleVerdict::Keep(seconds) => IdleVerdict::Keep(seconds),
            // A request that came meanwhile wins.
            _ if !model.gate.close_if_idle() => {
                self.policies.note_overtaken(&model.name);
                IdleVerdict::Keep(0.0)
            }
            verdict => verdict,
        }
    }
}
