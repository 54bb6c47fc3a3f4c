//! The hands of the real hub: they carry out the machine's effects on gates, workers and waiters.
//!
//! Slow work (processes, draining) runs in tracked tasks that report back as messages; nothing here waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::messages::{Mailbox, Message, Reply, Waiting, Wanted};
use super::publish::publish;
use super::running_workers::RunningWorkers;
use super::watchdog;
use crate::api::{ReloadReport, unix_now};
use crate::core::hands::{self, Judge as _};
use crate::core::interface::questions::{ModelQuestion, ModelVerdict};
use crate::core::machine::{Answer, Goal, Launch, Machine, Now, QuestionId, Waiter};
use crate::core::refusals::{left_memory, wrong_reply};
use crate::hub::published::gate::Tokio;
use crate::hub::published::grant::Grant;
use crate::hub::published::parking::Arrival;
use crate::hub::published::registry::{Model, Registry};
use crate::policy::{Policies, TroubleKind};
use crate::worker::launch::Instruction;

pub(super) struct Hands {
    pub(super) registry: Arc<Registry>,
    pub(super) policies: Policies,
    pub(super) mailbox: Mailbox,
    pub(super) waiting: Waiting,
    pub(super) workers: RunningWorkers,
    pub(super) tracker: TaskTracker,
    /// Told when a model has no request in flight any more, while a load is parked.
    pub(super) idle: Arc<Notify>,
    /// True if the gates tell.
    pub(super) listens: bool,
    pub(super) finished: bool,
}

impl Hands {
    /// While a load is parked, the supervisor wants to hear of models that become idle.
    pub(super) fn listen(&mut self, is_parked: bool) {
        if !is_parked && !self.listens {
            return;
        }
        let table = self.registry.table.load();
        table.tell_when_idle(is_parked.then_some(&self.idle));
        if is_parked && !self.listens {
            // One may have become idle since the policies were asked.
            self.idle.notify_one();
        }
        self.listens = is_parked;
    }
}

impl hands::Hands for Hands {
    type World = Registry;
    type Judge = Policies;
    type Runtime = Tokio;
    type Model = Model;

    fn world(&self) -> &Registry {
        &self.registry
    }

    fn judge(&self) -> &Policies {
        &self.policies
    }

    fn now(&self) -> Now {
        Now {
            at: self.registry.begun.elapsed(),
            unix: unix_now(),
        }
    }

    fn model(&self, name: &str) -> Option<Arc<Model>> {
        let table = self.registry.table.load();
        table.present_or_leaving(name).cloned()
    }

    fn ask(
        &mut self,
        id: QuestionId,
        model: &str,
        question: &ModelQuestion,
    ) -> Option<ModelVerdict> {
        if self.policies.are_quick() {
            return Some(self.policies.judge(model, question));
        }
        let (policies, mailbox) = (self.policies.clone(), self.mailbox.clone());
        let (model, question) = (model.to_owned(), *question);
        self.tracker.spawn(async move {
            let verdict = policies.judge_apart(model, question).await;
            mailbox.send(Message::Judged { id, verdict });
        });
        None
    }

    fn publish(&mut self, machine: &Machine) {
        publish(machine, &self.registry, &self.policies);
    }

    fn lasts(&self, model: &str, kind: TroubleKind, spell: u64) -> bool {
        let table = self.registry.table.load();
        let model = table.find(model);
        model.is_some_and(|model| watchdog::lasts(model, kind, spell))
    }

    fn launch(&mut self, model: &str, launch: Launch, goal: Goal) {
        self.workers
            .begin(&self.registry, &self.mailbox, model, launch, goal);
    }

    fn load(&mut self, launch: Launch) {
        let config = Arc::clone(&self.registry.table.load().config);
        let model = self.workers.model(launch);
        if let Some(model) = model.and_then(|name| config.model(name)) {
            self.registry.make_room_for(model);
        }
        self.workers.instruct(launch, Instruction::Load);
    }

    fn end(&mut self, launch: Launch) {
        self.workers.instruct(launch, Instruction::End);
    }

    fn recycle(&mut self, launch: Launch, reason: String) {
        let model = self.workers.model(launch);
        tracing::warn!(hub_model = model, "its worker is replaced: {reason}");
        self.workers.instruct(launch, Instruction::Recycle(reason));
    }

    fn connect(&self, model: &Model, launch: Launch) -> bool {
        let upstream = self.workers.upstream(launch);
        let is_there = upstream.is_some();
        if is_there {
            model.upstream.store(upstream);
        }
        is_there
    }

    fn drain(&mut self, model: &str, launch: Launch) {
        let Some(model) = self.model(model) else {
            return;
        };
        let limit = self.registry.table.load().config.drain_timeout;
        let mailbox = self.mailbox.clone();
        self.tracker.spawn(async move {
            if tokio::time::timeout(limit, model.gate.drained())
                .await
                .is_err()
            {
                tracing::warn!(
                    hub_model = %model.name,
                    active = model.gate.active(),
                    "requests still in flight after `drain_timeout` are cut"
                );
            }
            mailbox.send(Message::Drained { launch });
        });
    }

    fn answer(&mut self, waiter: Waiter, answer: Answer) {
        let Some(Wanted {
            answer: reply,
            arrival,
            policies,
        }) = self.waiting.remove(waiter)
        else {
            return;
        };
        let result = match (answer, &arrival) {
            (Answer::Granted, Some(Arrival { model, .. })) => Grant::of(model)
                .map(Reply::Granted)
                .ok_or_else(|| left_memory(&model.name)),
            // Only requests ask for a grant.
            (Answer::Granted, None) => Err(wrong_reply()),
            (Answer::Verb(outcome), _) => Ok(Reply::Verb(outcome)),
            (Answer::Reloaded(report), _) => {
                Ok(Reply::Reloaded(ReloadReport { policies, ..report }))
            }
            (Answer::Refused(error), _) => Err(error),
        };
        // It has its lease and waits no more, before anybody is told.
        drop(arrival);
        // A lease that is not taken is returned by being dropped here.
        let _ = reply.send(result);
    }

    fn measure(&mut self) {
        self.registry.measure_soon.notify_one();
    }

    fn wake(&mut self, after: Duration) {
        let mailbox = self.mailbox.clone();
        self.tracker.spawn(async move {
            tokio::time::sleep(after).await;
            mailbox.send(Message::Wake);
        });
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}
