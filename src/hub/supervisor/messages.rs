//! Messages to the supervisor and its answers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::api::{ApiError, Outcome, PolicyChanges, ReloadReport, SystemMemory, Verb};
use crate::config::Config;
use crate::core::interface::questions::ModelVerdict;
use crate::core::machine::{Launch, QuestionId, Waiter};
use crate::hub::published::grant::Grant;
use crate::hub::published::legacy::Legacy;
use crate::hub::published::parking::Arrival;
use crate::policy::Trouble;
use crate::worker::launch::Report;

/// An order of the handle.
#[derive(Debug)]
pub(in crate::hub) enum Command {
    Acquire(Arrival),
    /// To be done to the model of that name.
    Verb(Verb, String),
    Reload {
        config: Box<Config>,
        start: bool,
    },
}

/// The supervisor's answer to an accepted order.
#[derive(Debug)]
pub(in crate::hub) enum Reply {
    Granted(Grant),
    Verb(Outcome),
    Reloaded(ReloadReport),
}

pub(in crate::hub) type Answering = oneshot::Sender<Result<Reply, ApiError>>;

/// Everything that reaches the supervisor, in one ordered stream.
#[derive(Debug)]
pub(in crate::hub) enum Message {
    /// An order; the waiter for its answer has that number.
    Ask {
        command: Command,
        waiter: Waiter,
        answer: Answering,
    },
    /// Start what hub.yaml marks `default`.
    StartDefaults {
        except: HashSet<String>,
        done: oneshot::Sender<()>,
    },
    /// Stop everything; with `now`, without draining.
    Shutdown { now: bool },
    /// Memory was measured; and the most each model ever held, in bytes.
    Measured {
        system: SystemMemory,
        peaks: HashMap<String, u64>,
    },
    /// The worker of that model and process runs and does not serve.
    Trouble {
        model: String,
        pid: u32,
        trouble: Trouble,
        spell: u64,
    },
    /// The time has come that the machine wanted to be woken at.
    Wake,
    /// Other policies are in force.
    NewPolicies,
    /// End, and leave every process to the next hub.
    HandOver,
    /// Stand still and say what another hub has to know to take over; end if it does, else go on.
    Freeze {
        told: oneshot::Sender<Legacy>,
        taken: oneshot::Receiver<()>,
    },
    /// The waiter has gone away.
    Abandon(Waiter),
    /// A launch reports.
    Worker { launch: Launch, report: Report },
    /// The policies' verdict on the question of that number.
    Judged {
        id: QuestionId,
        verdict: ModelVerdict,
    },
    /// A gate has no lease out any more, or its drain limit has passed.
    Drained { launch: Launch },
    /// The worker that an earlier hub left for a model which hub.yaml no longer names is gone.
    UnnamedEnded { model: String },
}

pub(in crate::hub) type Messages = mpsc::UnboundedReceiver<Message>;

/// The sending side.
#[derive(Debug, Clone)]
pub(in crate::hub) struct Mailbox {
    sender: mpsc::UnboundedSender<Message>,
    waiters: Arc<AtomicU64>,
}

impl Mailbox {
    pub(in crate::hub) fn new() -> (Self, Messages) {
        let (sender, messages) = mpsc::unbounded_channel();
        (
            Self {
                sender,
                waiters: Arc::default(),
            },
            messages,
        )
    }

    /// Sends an order and waits for its answer. Dropping the future takes the waiter back.
    pub(in crate::hub) async fn ask(&self, command: Command) -> Result<Reply, ApiError> {
        let id = self.waiters.fetch_add(1, Ordering::Relaxed);
        let waiter = Waiter {
            id,
            is_request: matches!(command, Command::Acquire(_)),
        };
        let (answer, answered) = oneshot::channel();
        self.send(Message::Ask {
            command,
            waiter,
            answer,
        });
        let mut place = AbandonOnDrop {
            mailbox: self,
            waiter,
            answered: false,
        };
        let reply = answered.await;
        place.answered = true;
        reply.unwrap_or_else(|_| Err(ApiError::shutting_down()))
    }

    /// Has no effect once the supervisor has ended.
    pub(in crate::hub) fn send(&self, message: Message) {
        let _ = self.sender.send(message);
    }
}

/// Tells the supervisor when the future of a waiter is dropped early.
struct AbandonOnDrop<'a> {
    mailbox: &'a Mailbox,
    waiter: Waiter,
    answered: bool,
}

impl Drop for AbandonOnDrop<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.mailbox.send(Message::Abandon(self.waiter));
        }
    }
}

/// The waiters for answers, by number.
#[derive(Debug, Default)]
pub(in crate::hub) struct Waiting {
    answers: HashMap<u64, Wanted>,
}

#[derive(Debug)]
pub(in crate::hub) struct Wanted {
    pub(in crate::hub) answer: Answering,
    /// The request that wants a lease.
    pub(in crate::hub) arrival: Option<Arrival>,
    /// What the reload has changed about the policies.
    pub(in crate::hub) policies: PolicyChanges,
}

impl Waiting {
    pub(in crate::hub) fn add(
        &mut self,
        waiter: Waiter,
        answer: Answering,
        arrival: Option<Arrival>,
    ) {
        let policies = PolicyChanges::default();
        let wanted = Wanted {
            answer,
            arrival,
            policies,
        };
        self.answers.insert(waiter.id, wanted);
    }

    /// Keeps what a reload has changed about the policies for its answer.
    pub(in crate::hub) fn note_policies(&mut self, waiter: Waiter, policies: PolicyChanges) {
        if let Some(wanted) = self.answers.get_mut(&waiter.id) {
            wanted.policies = policies;
        }
    }

    pub(in crate::hub) fn remove(&mut self, waiter: Waiter) -> Option<Wanted> {
        self.answers.remove(&waiter.id)
    }
}
