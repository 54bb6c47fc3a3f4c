//! Policies that decide by chance, at once or later, for the properties.

use super::properties::MODELS;
use super::*;
use crate::core::interface::questions::TroubleVerdict;

/// Verdicts drawn from a fixed list, one after the other. Some come later.
pub(super) struct Dice {
    rolls: Vec<u8>,
    next: usize,
    /// The question under judgement, and the verdict on it.
    pub(super) thinks: Option<(QuestionId, ModelVerdict)>,
    /// At most so many models may hold memory, as the policies see it when they are asked.
    pub(super) cap: Option<usize>,
}

impl Dice {
    pub(super) fn new(rolls: Vec<u8>) -> Self {
        Self {
            rolls,
            next: 0,
            thinks: None,
            cap: None,
        }
    }

    fn roll(&mut self) -> u8 {
        self.next += 1;
        self.rolls[self.next % self.rolls.len()]
    }

    fn verdict(&mut self, machine: &Machine, question: &ModelQuestion) -> ModelVerdict {
        match question {
            ModelQuestion::Load(_) => ModelVerdict::Load(self.on_load(machine)),
            ModelQuestion::Idle => ModelVerdict::Idle(match self.roll() % 8 {
                0 => IdleVerdict::Unload,
                1 => IdleVerdict::Stop,
                _ => IdleVerdict::Keep(1.0),
            }),
            ModelQuestion::Exit(_) => ModelVerdict::Exit(match self.roll() % 2 {
                0 => ExitVerdict::Restart(2.0),
                _ => ExitVerdict::Leave,
            }),
            ModelQuestion::Trouble { .. } => ModelVerdict::Trouble(match self.roll() % 4 {
                0 => TroubleVerdict::Leave,
                1 => TroubleVerdict::Keep(3.0),
                _ => TroubleVerdict::Restart {
                    seconds: 2.0,
                    reason: None,
                },
            }),
        }
    }

    fn on_load(&mut self, machine: &Machine) -> LoadVerdict {
        if self.cap.is_some_and(|cap| holding(machine) >= cap) {
            return LoadVerdict::Wait(2.0);
        }
        let full = || ApiError::new(http::StatusCode::TOO_MANY_REQUESTS, "full");
        match self.roll() % 8 {
            0 => LoadVerdict::Reject(full()),
            1 => LoadVerdict::Wait(3.0),
            2 => LoadVerdict::Evict(vec!["a".into(), "j".into()]),
            3 => LoadVerdict::Evict(MODELS.map(String::from).to_vec()),
            _ => LoadVerdict::Allow,
        }
    }
}

/// Number of models that hold memory.
pub(super) fn holding(machine: &Machine) -> usize {
    let entries = machine.entries.iter();
    let holding = entries.filter(|entry| entry.memory_state().holds_memory());
    holding.count()
}

impl Decide for Dice {
    fn ask(
        &mut self,
        machine: &Machine,
        id: QuestionId,
        _: &str,
        question: &ModelQuestion,
    ) -> Option<ModelVerdict> {
        assert!(self.thinks.is_none(), "a second question under judgement");
        let verdict = self.verdict(machine, question);
        if self.roll().is_multiple_of(3) {
            self.thinks = Some((id, verdict));
            return None;
        }
        Some(verdict)
    }

    fn confirm(&mut self, _: &str, _: &ModelQuestion, verdict: ModelVerdict) -> ModelVerdict {
        verdict
    }

    fn discard(&mut self, _: &str, _: &ModelQuestion) {}
}
