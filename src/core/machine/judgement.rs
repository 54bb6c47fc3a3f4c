//! The questions to the policies: one at a time, in the order in which they came up.
//!
//! An event puts its questions into a queue, and the machine asks them at the event's end. [`Decide::ask`]
//! answers at once, or later: until [`Event::Judged`] brings the verdict, events go on being handled, and no
//! other question is asked. One at a time, since two loads that were both allowed the same memory would both
//! take it.
//!
//! A verdict is about the model as it was when the policies were asked. If it is another by then (stopped, failed,
//! restarted, removed), the verdict counts for nothing. A request or a verb that would join the load under
//! judgement is held until that is over: a verdict that did not know of it decides nothing about it.

use std::collections::VecDeque;

use super::{
    Decide, Event, Exit, Launch, Machine, ModelQuestion, ModelVerdict, Now, PendingLoad, Phase,
    Trouble, Verb, Waiter,
};

/// The number of one question; never used twice.
pub(crate) type QuestionId = u64;

/// The questions that are to be asked, and the one that is.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: VecDeque<OpenQuestion>,
    judged: Option<Judged>,
    ids: QuestionId,
    /// They would join the load that is judged.
    held: Vec<Event>,
}

/// A question about a model, as it was when the question came up.
#[derive(Debug)]
struct OpenQuestion {
    model: String,
    about: About,
    seen: StateMark,
}

/// The subject of a question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum About {
    Load,
    Idle,
    Exit(Exit),
    Trouble { trouble: Trouble, spell: u64 },
}

/// The question that the policies think about.
#[derive(Debug)]
struct Judged {
    id: QuestionId,
    asked: OpenQuestion,
    question: ModelQuestion,
    /// Something changed that a parked load waits for: it is asked about again if it is to wait.
    again: bool,
    /// Other policies may be in force, or another hub.yaml: the verdict counts for nothing.
    is_void: bool,
}

/// Mark of a model's state: another state has another.
#[derive(Debug, PartialEq)]
struct StateMark {
    phase: Phase,
    launch: Launch,
    stops: u64,
    crashes: usize,
}

impl About {
    fn is_kind_of(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Machine {
    /// Has the policies asked about a model, unless they are about to be or are.
    pub(super) fn put_question(&mut self, i: usize, about: About) {
        let asked = OpenQuestion {
            model: self.entries[i].spec.name.clone(),
            about,
            seen: self.seen(i),
        };
        let is_same = |other: &OpenQuestion| {
            other.model == asked.model && other.about.is_kind_of(&asked.about)
        };
        if let Some(judged) = &mut self.questions.judged
            && !judged.is_void
            && is_same(&judged.asked)
            && judged.asked.seen == asked.seen
        {
            judged.again = true;
            return;
        }
        let waiting = &mut self.questions.waiting;
        if let Some(before) = waiting.iter_mut().find(|before| is_same(before)) {
            *before = asked;
            return;
        }
        // Somebody may wait for the others.
        let before_idle = waiting.iter().position(|other| other.about == About::Idle);
        match before_idle.filter(|_| about != About::Idle) {
            Some(place) => waiting.insert(place, asked),
            None => waiting.push_back(asked),
        }
    }

    /// True if the policies are asked about a load of that model, or about to be.
    pub(super) fn is_load_asked(&self, i: usize) -> bool {
        let name = &self.entries[i].spec.name;
        let is_load = |asked: &OpenQuestion| {
            asked.model == *name && asked.about == About::Load && self.standing(asked) == Some(i)
        };
        let judged = self.questions.judged.as_ref();
        judged.is_some_and(|judged| !judged.is_void && is_load(&judged.asked))
            || self.questions.waiting.iter().any(is_load)
    }

    /// The end of that model's last worker, if the policies have not judged it yet.
    pub(super) fn unjudged_exit(&self, model: &str) -> Option<Exit> {
        let exit = |asked: &OpenQuestion| match asked.about {
            About::Exit(exit) if asked.model == model && self.standing(asked).is_some() => {
                Some(exit)
            }
            _ => None,
        };
        let judged = self.questions.judged.iter().map(|judged| &judged.asked);
        judged.chain(&self.questions.waiting).find_map(exit)
    }

    /// True while policies think, or have something to think about.
    pub(crate) fn is_asking(&self) -> bool {
        self.questions.judged.is_some() || !self.questions.waiting.is_empty()
    }

    /// True while a load is parked or may come to be: idle models and memory are of interest.
    pub(crate) fn is_parking(&self) -> bool {
        let judged = self.questions.judged.as_ref();
        judged.is_some_and(|judged| judged.asked.about == About::Load)
            || self
                .entries
                .iter()
                .any(|entry| matches!(entry.phase, Phase::Parked { .. }))
    }

    /// Asks the next question; false when there is none, or one is being judged.
    pub(super) fn ask_next(&mut self, now: Now, decide: &mut dyn Decide) -> bool {
        if self.shutting_down {
            self.questions.waiting.clear();
        }
        if self.questions.judged.is_some() {
            return false;
        }
        let Some(asked) = self.questions.waiting.pop_front() else {
            return false;
        };
        let question = self
            .standing(&asked)
            .and_then(|i| self.question(i, asked.about, now));
        let Some(question) = question else {
            return true;
        };
        self.questions.ids += 1;
        let id = self.questions.ids;
        let verdict = decide.ask(self, id, &asked.model, &question);
        self.questions.judged = Some(Judged {
            id,
            asked,
            question,
            again: false,
            is_void: false,
        });
        if let Some(verdict) = verdict {
            self.judged(id, verdict, now, decide);
        }
        true
    }

    /// The question as it is now; none when nobody wants to know any more.
    fn question(&self, i: usize, about: About, now: Now) -> Option<ModelQuestion> {
        let entry = &self.entries[i];
        match about {
            About::Load if self.is_unwanted(i) => None,
            About::Load => Some(ModelQuestion::Load(PendingLoad {
                reason: entry.reason(),
                waiting: entry.waiting(),
                waited_seconds: now.at.saturating_sub(entry.asked_at).as_secs_f64(),
            })),
            About::Idle => Some(ModelQuestion::Idle),
            // Somebody did not wait for the verdict.
            About::Exit(_) if self.is_load_asked(i) => None,
            About::Exit(exit) => Some(ModelQuestion::Exit(exit)),
            About::Trouble { trouble, spell } => Some(ModelQuestion::Trouble { trouble, spell }),
        }
    }

    /// True if everybody has gone who wanted a model in memory that is started without.
    fn is_unwanted(&self, i: usize) -> bool {
        let entry = &self.entries[i];
        matches!(entry.phase, Phase::Standby { .. }) && !entry.is_wanted()
    }

    /// A verdict has come.
    pub(super) fn judged(
        &mut self,
        id: QuestionId,
        verdict: ModelVerdict,
        now: Now,
        decide: &mut dyn Decide,
    ) {
        let is_this = |judged: &mut Judged| judged.id == id;
        let Some(judged) = self.questions.judged.take_if(is_this) else {
            return;
        };
        let Judged {
            asked, question, ..
        } = &judged;
        let standing = self.standing(asked).filter(|i| {
            !judged.is_void && self.question(*i, asked.about, now).is_some() && !self.shutting_down
        });
        let Some(i) = standing else {
            decide.discard(&asked.model, question);
            return;
        };
        let verdict = decide.confirm(&asked.model, question, verdict);
        self.carry_out(i, asked.about, verdict, now);
        let parked = matches!(self.entries[i].phase, Phase::Parked { .. });
        if judged.again && parked {
            self.put_question(i, About::Load);
        }
    }

    fn carry_out(&mut self, i: usize, about: About, verdict: ModelVerdict, now: Now) {
        match (about, verdict) {
            (About::Load, ModelVerdict::Load(verdict)) => self.decide_load(i, verdict, now),
            (About::Idle, ModelVerdict::Idle(verdict)) => self.decide_idle(i, verdict, now),
            (About::Exit(_), ModelVerdict::Exit(verdict)) => self.decide_exit(i, verdict, now),
            (About::Trouble { trouble, spell }, ModelVerdict::Trouble(verdict)) => {
                self.decide_trouble(i, &trouble, spell, verdict, now);
            }
            // A verdict is of its question's kind.
            _ => {}
        }
    }

    /// Holds an event that would join the load under judgement; gives back any other.
    pub(super) fn hold(&mut self, event: Event) -> Option<Event> {
        let joins = match &event {
            Event::Acquire { model, .. } => self.is_load_judged(model),
            Event::Verb { verb, model, .. } => joins_load(*verb) && self.is_load_judged(model),
            _ => false,
        };
        if joins {
            self.questions.held.push(event);
            return None;
        }
        Some(event)
    }

    /// The events to handle now: before one that ends a load under judgement come those that were held for it.
    pub(super) fn let_go_before(&mut self, event: &Event) -> Vec<Event> {
        let is_over = match event {
            Event::Verb { verb, model, .. } => ends_load(*verb) && self.is_load_judged(model),
            Event::Reconcile { .. } | Event::Shutdown { .. } => true,
            _ => false,
        };
        match is_over {
            true => std::mem::take(&mut self.questions.held),
            false => Vec::new(),
        }
    }

    /// The events that need be held no longer.
    pub(super) fn let_go(&mut self) -> Vec<Event> {
        let judged = self.questions.judged.as_ref();
        let model = judged.map(|judged| judged.asked.model.clone());
        match model.is_some_and(|model| self.is_load_judged(&model)) {
            true => Vec::new(),
            false => std::mem::take(&mut self.questions.held),
        }
    }

    /// Forgets a held event of a waiter that has gone away.
    pub(super) fn forget_held(&mut self, waiter: Waiter) {
        self.questions.held.retain(|event| match event {
            Event::Acquire { waiter: other, .. } | Event::Verb { waiter: other, .. } => {
                *other != waiter
            }
            _ => true,
        });
    }

    /// A parked load is asked about again, so that the one under judgement is too, if it is to wait.
    pub(super) fn ask_again_if_judged(&mut self) {
        if let Some(judged) = &mut self.questions.judged {
            judged.again = true;
        }
    }

    /// Other policies may be in force: what the old ones think of the model is not carried out, and the new ones
    /// are asked.
    pub(super) fn judge_anew(&mut self) {
        let Some(judged) = &mut self.questions.judged else {
            return;
        };
        judged.is_void = true;
        let about = judged.asked.about;
        let judged = self.questions.judged.as_ref();
        if let Some(i) = judged.and_then(|judged| self.standing(&judged.asked)) {
            self.put_question(i, about);
        }
    }

    fn is_load_judged(&self, model: &str) -> bool {
        self.questions.judged.as_ref().is_some_and(|judged| {
            let asked = &judged.asked;
            !judged.is_void
                && asked.model == model
                && asked.about == About::Load
                && self.standing(asked).is_some()
        })
    }

    /// The index of a question's model, if it still is what it was when the question came up.
    fn standing(&self, asked: &OpenQuestion) -> Option<usize> {
        let i = self.index(&asked.model)?;
        (self.seen(i) == asked.seen).then_some(i)
    }

    fn seen(&self, i: usize) -> StateMark {
        let entry = &self.entries[i];
        StateMark {
            phase: entry.phase.clone(),
            launch: entry.launch,
            stops: entry.stops,
            crashes: entry.crashes,
        }
    }
}

/// True if a verb about a model whose load is judged waits for that load.
fn joins_load(verb: Verb) -> bool {
    match verb {
        Verb::Start | Verb::Load => true,
        Verb::Stop | Verb::Unload => false,
    }
}

/// True if a verb about a model whose load is judged ends that load.
fn ends_load(verb: Verb) -> bool {
    match verb {
        Verb::Stop => true,
        Verb::Start | Verb::Load | Verb::Unload => false,
    }
}
