//! The machine told as stories: what happens, and what it does about it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::*;
use crate::api::Verb;
use crate::core::interface::questions::TroubleVerdict;

mod exits;
mod judgement;
mod memory;
mod park;
mod reload;
mod settling;
mod states;
mod trouble;

/// Policies that say what the test says, and allow otherwise.
#[derive(Default)]
struct Script {
    on_load: HashMap<String, LoadVerdict>,
    on_idle: HashMap<String, IdleVerdict>,
    asked: Vec<(String, LoadReason, usize)>,
    on_exit: ExitVerdict,
    exits: Vec<Exit>,
    on_trouble: Option<TroubleVerdict>,
    troubles: Vec<Trouble>,
    /// Its verdicts come later, as it finds when it is asked.
    is_slow: bool,
    thinks: Option<(QuestionId, ModelVerdict)>,
    /// The models whose verdicts counted for nothing.
    discarded: Vec<String>,
}

impl Script {
    fn verdict(&mut self, model: &str, question: &ModelQuestion) -> ModelVerdict {
        match *question {
            ModelQuestion::Load(pending) => {
                self.asked
                    .push((model.to_owned(), pending.reason, pending.waiting));
                let verdict = self.on_load.get(model).cloned();
                ModelVerdict::Load(verdict.unwrap_or(LoadVerdict::Allow))
            }
            ModelQuestion::Idle => {
                let verdict = self.on_idle.get(model).copied();
                ModelVerdict::Idle(verdict.unwrap_or(IdleVerdict::Keep(0.0)))
            }
            ModelQuestion::Exit(exit) => {
                self.exits.push(exit);
                ModelVerdict::Exit(self.on_exit)
            }
            ModelQuestion::Trouble { trouble, .. } => {
                self.troubles.push(trouble);
                let verdict = self.on_trouble.clone();
                ModelVerdict::Trouble(verdict.unwrap_or(TroubleVerdict::Keep(0.0)))
            }
        }
    }
}

impl Decide for Script {
    fn ask(
        &mut self,
        _: &Machine,
        id: QuestionId,
        model: &str,
        question: &ModelQuestion,
    ) -> Option<ModelVerdict> {
        let verdict = self.verdict(model, question);
        if self.is_slow {
            assert!(self.thinks.is_none(), "two questions at a time");
            self.thinks = Some((id, verdict));
            return None;
        }
        Some(verdict)
    }

    fn confirm(&mut self, _: &str, _: &ModelQuestion, verdict: ModelVerdict) -> ModelVerdict {
        verdict
    }

    fn discard(&mut self, model: &str, _: &ModelQuestion) {
        self.discarded.push(model.to_owned());
    }
}

struct Story {
    machine: Machine,
    policies: Script,
    seconds: u64,
    waiters: u64,
}

impl Story {
    /// Models whose name begins with `j` are JIT.
    fn of(names: &[&str]) -> Self {
        let machine = Machine::new(names.iter().map(|name| spec(name)).collect());
        Self {
            machine,
            policies: Script::default(),
            seconds: 0,
            waiters: 0,
        }
    }

    /// Of three models `a` was loaded, and is drained for a request of `b`, which evicts it.
    fn evicting() -> (Self, Launch, Waiter) {
        let mut story = Self::of(&["a", "b", "c"]);
        let held = story.loaded("a");
        story
            .policies
            .on_load
            .insert("b".into(), LoadVerdict::Evict(vec!["a".into()]));
        let (request, _) = story.request("b");
        story.tell(Event::Drained { launch: held });
        (story, held, request)
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        self.seconds += 1;
        let now = Now {
            at: Duration::from_secs(self.seconds),
            unix: 1000.0 + self.seconds as f64,
        };
        self.machine.handle(event, now, &mut self.policies)
    }

    fn waiter(&mut self, is_request: bool) -> Waiter {
        self.waiters += 1;
        Waiter {
            id: self.waiters,
            is_request,
        }
    }

    fn request(&mut self, model: &str) -> (Waiter, Vec<Effect>) {
        self.request_of("somebody", model, Duration::ZERO)
    }

    /// A request of that client that has been parked for so long.
    fn request_of(&mut self, client: &str, model: &str, parked: Duration) -> (Waiter, Vec<Effect>) {
        let waiter = self.waiter(true);
        let seen = self.entry(model).stops;
        (
            waiter,
            self.tell(Event::Acquire {
                model: model.into(),
                waiter,
                seen,
                client: client.into(),
                parked,
            }),
        )
    }

    fn verb(&mut self, verb: &str, model: &str) -> (Waiter, Vec<Effect>) {
        let waiter = self.waiter(false);
        let model = model.to_owned();
        let verb = Verb::named(verb).unwrap_or_else(|| panic!("no verb is called {verb}"));
        let event = Event::Verb {
            verb,
            model,
            waiter,
        };
        (waiter, self.tell(event))
    }

    /// The process has ended as it was asked to.
    fn ended(&mut self, launch: Launch) -> Vec<Effect> {
        self.tell(Event::Gone {
            launch,
            exit_code: None,
            reason: String::new(),
        })
    }

    fn entry(&self, model: &str) -> &Entry {
        self.machine
            .entries()
            .find(|entry| entry.spec.name == model)
            .unwrap()
    }

    fn states(&self, model: &str) -> (&'static str, &'static str) {
        let entry = self.entry(model);
        (
            entry.process_state().as_str(),
            entry.memory_state().as_str(),
        )
    }

    /// Starts a model that is not JIT and brings it into memory.
    fn loaded(&mut self, model: &str) -> Launch {
        let (_, effects) = self.verb("start", model);
        let launch = launched(&effects);
        self.tell(Event::Spawned {
            launch,
            pid: 40 + launch as u32,
        });
        self.tell(Event::Loaded { launch });
        assert_eq!(self.states(model), ("running", "loaded"));
        launch
    }
}

fn spec(name: &str) -> Spec {
    Spec {
        name: name.into(),
        jit: name.starts_with('j'),
        default: false,
        queue: QueueLimits {
            size: 3,
            timeout: Duration::from_secs(30),
        },
    }
}

fn launched(effects: &[Effect]) -> Launch {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::Launch { launch, .. } => Some(*launch),
            _ => None,
        })
        .unwrap_or_else(|| panic!("nothing was launched: {effects:?}"))
}

fn answered(effects: &[Effect], waiter: Waiter) -> Option<&Answer> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer {
            waiter: told,
            answer,
        } if *told == waiter => Some(answer),
        _ => None,
    })
}

fn status_of(effects: &[Effect], waiter: Waiter) -> u16 {
    match answered(effects, waiter) {
        Some(Answer::Refused(error)) => error.status,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
