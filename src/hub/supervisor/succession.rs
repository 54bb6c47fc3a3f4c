//! Takes over the workers and requests of an earlier hub, and hands them over to the next.
//!
//! The supervisor calls it at its beginning, and when it is told to stand still or to leave everything.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::Supervisor;
use super::messages::{Message, Messages};
use crate::core::machine::Event;
use crate::hub::published::legacy::Legacy;
use crate::runtime_file::{RuntimeModels, RuntimeWorker};
use crate::worker::launch;

impl Supervisor {
    /// The rest to wait for.
    pub(super) fn end(self) -> TaskTracker {
        if self.is_left {
            TaskTracker::new()
        } else {
            self.endings
        }
    }

    /// Ends, and leaves every process to the next hub.
    pub(super) fn leave(&mut self) {
        self.close_parking();
        self.hands.workers.leave_all();
        self.hands.finished = true;
        self.is_left = true;
    }

    /// Tells what another hub has to know to take over, and waits whether it does. Meanwhile no request is
    /// let in and nothing is begun.
    pub(super) async fn stand_still(
        &mut self,
        told: oneshot::Sender<Legacy>,
        taken: oneshot::Receiver<()>,
        messages: &mut Messages,
    ) {
        self.hands.workers.hold_back();
        let later = self.hear_workers(messages);
        let table = self.hands.registry.table.load_full();
        let open: Vec<_> = table.all().filter(|model| model.gate.is_open()).collect();
        for model in &open {
            model.gate.close();
        }
        let registry = &self.hands.registry;
        self.hands.workers.publish(registry);
        let (found, state) = (
            self.hands.workers.for_next_hub(),
            self.hands.policies.state(),
        );
        let legacy = registry.legacy(found, self.machine.past(), state);
        let is_taken = told.send(legacy).is_ok() && taken.await.is_ok();
        if is_taken {
            return self.leave();
        }
        self.hands.workers.go_on();
        for model in open {
            model.gate.reopen();
        }
        for message in later {
            self.receive(message);
        }
    }

    /// Hears what there is of the workers, whose processes the next hub has to know. Returns what else has come
    /// meanwhile.
    fn hear_workers(&mut self, messages: &mut Messages) -> Vec<Message> {
        let mut later = Vec::new();
        while let Ok(message) = messages.try_recv() {
            match message {
                Message::Worker { launch, report } => self.worker(launch, report),
                message => later.push(message),
            }
        }
        later
    }

    /// Takes over what the hub before left.
    pub(super) fn take_over(&mut self, mut legacy: Legacy) {
        self.hands.registry.inherit(&mut legacy);
        self.hands.policies.inherit_state(&legacy.state);
        let workers = &legacy.found.workers;
        let has_worker = |name: &str| workers.iter().any(|worker| worker.model == name);
        let events: Vec<_> = legacy
            .past
            .iter()
            .cloned()
            .map(|past| Event::Inherit {
                has_worker: has_worker(past.model()),
                past: Box::new(past),
            })
            .collect();
        for event in events {
            self.handle(event);
        }
        self.adopt(legacy.found);
        self.handle(Event::GoOn { past: legacy.past });
    }

    /// Takes over what an earlier hub left: workers of models in hub.yaml through their launches, all
    /// others are ended.
    fn adopt(&mut self, found: RuntimeModels) {
        let config = Arc::clone(&self.hands.registry.table.load().config);
        for worker in found.workers {
            let (name, pid, load) = (worker.model.clone(), worker.pid, worker.loaded);
            let Some(model) = config.model(&name) else {
                tracing::info!(
                    hub_model = name,
                    pid,
                    "ending the worker of a model that hub.yaml no longer names"
                );
                self.end_unnamed(worker, config.stop_timeout);
                continue;
            };
            tracing::info!(hub_model = name, pid, "found the worker of an earlier hub");
            let fits = worker.settings == model.launch_settings();
            self.hands.workers.leave_to_next(worker);
            self.handle(Event::Adopt {
                model: name,
                load,
                fits,
            });
        }
        for model in found.standby {
            self.handle(Event::Resume { model });
        }
    }

    /// Ends a worker whose model hub.yaml no longer names. If the model comes back meanwhile, its first
    /// launch waits for that.
    fn end_unnamed(&mut self, worker: RuntimeWorker, stop_timeout: Duration) {
        let (model, ended) = (worker.model.clone(), worker.clone());
        self.hands.workers.leave_to_next(RuntimeWorker {
            // Fits no entry: it is being ended.
            settings: serde_json::Value::Null,
            ..worker
        });
        let mailbox = self.hands.mailbox.clone();
        let gate = self.hands.registry.gate(&model);
        self.endings.spawn(async move {
            // The hub before may still serve requests of it.
            gate.drained().await;
            launch::end_found(&ended, stop_timeout).await;
            mailbox.send(Message::UnnamedEnded { model });
        });
    }
}
