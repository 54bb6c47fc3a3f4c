//! Lets the machine of the lifecycle ask [`Policies`].

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, spawn_blocking};

use super::{Policies, failure};
use crate::core::hands::Judge;
use crate::core::interface::questions::{ModelQuestion, ModelVerdict};

impl Policies {
    /// [`Judge::judge`] on a thread that it may block, for policies that take long.
    pub(crate) async fn judge_apart(&self, model: String, question: ModelQuestion) -> ModelVerdict {
        let policies = self.clone();
        let judging = spawn_blocking(move || policies.judge(&model, &question));
        let judged = judging.await;
        judged.unwrap_or_else(|_| ModelVerdict::without_policies(&question, failure()))
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
    fn judge(&self, model: &str, question: &ModelQuestion) -> ModelVerdict {
        match *question {
            ModelQuestion::Load(pending) => ModelVerdict::Load(self.on_load(model, pending)),
            ModelQuestion::Idle => ModelVerdict::Idle(self.on_idle(model)),
            ModelQuestion::Exit(exit) => ModelVerdict::Exit(self.on_exit(model, exit)),
            ModelQuestion::Trouble { trouble, .. } => {
                ModelVerdict::Trouble(self.on_trouble(model, trouble))
            }
        }
    }

    fn note_overtaken(&self, model: &str) {
        self.note_overtaken(model);
    }

    fn note_recovered(&self, model: &str) {
        self.note_recovered(model);
    }

    fn note_discarded(&self, model: &str, question: &ModelQuestion) {
        self.note_discarded(model, question);
    }
}
