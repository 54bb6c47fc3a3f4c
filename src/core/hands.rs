//! The actions of a hub for its machine. The real hub and the simulated one are two implementations of
//! [`Hands`]; [`handle`] is the one way in which an event becomes deeds.

use std::time::Duration;

use super::machine::{
    Answer, Decide, Effect, Event, Goal, Launch, Machine, Now, QuestionId, Waiter,
};
use crate::core::interface::questions::{
    IdleVerdict, ModelQuestion, ModelVerdict, TroubleKind, TroubleVerdict,
};
use crate::core::interface::world::World;

/// Interval of the checks of idle models and delayed loads.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Longest time until memory is measured again for a load that waits for it to come back.
pub(crate) const MEASURE_AGAIN: Duration = Duration::from_millis(100);

/// The hands of a hub: what the machine's [effects](Effect) mean there, and what has to be done around a
/// verdict.
pub(crate) trait Hands {
    type World: World + ?Sized;
    type Judge: Judge;

    /// The world of the policies.
    fn world(&self) -> &Self::World;
    /// The policies.
    fn judge(&self) -> &Self::Judge;
    /// The moment.
    fn now(&self) -> Now;
    /// Asks the policies: the verdict, or none if it comes later, as [`Event::Judged`] with that id.
    fn ask(
        &mut self,
        id: QuestionId,
        model: &str,
        question: &ModelQuestion,
    ) -> Option<ModelVerdict>;
    /// Publishes the machine's facts.
    fn publish(&mut self, machine: &Machine);
    /// True if the worker of that model is still in the trouble that was told of.
    fn lasts(&self, model: &str, kind: TroubleKind, spell: u64) -> bool;

    /// Starts a worker for the model.
    fn launch(&mut self, model: &str, launch: Launch, goal: Goal);
    /// Loads the resident worker.
    fn load(&mut self, launch: Launch);
    /// Ends the process group.
    fn end(&mut self, launch: Launch);
    /// Ends the process group of a worker that hangs, for that reason.
    fn recycle(&mut self, launch: Launch, reason: String);
    /// Lets requests in.
    fn open_gate(&mut self, model: &str, launch: Launch);
    /// Lets no more in.
    fn close_gate(&mut self, model: &str);
    /// The same, unless a request is inside; says whether the gate is closed now.
    fn close_gate_if_idle(&mut self, model: &str) -> bool;
    /// Reports [`Event::Drained`] when no lease is out, or at the drain limit.
    fn drain(&mut self, model: &str, launch: Launch);
    /// Tells a waiter.
    fn answer(&mut self, waiter: Waiter, answer: Answer);
    /// Reports [`Event::Measured`] soon.
    fn measure(&mut self);
    /// Reports [`Event::Tick`] after so long.
    fn wake(&mut self, after: Duration);
    /// Nothing runs any more, and nothing will.
    fn finish(&mut self);
}

/// The judge: the policies, asked by the hooks of the machine's events.
pub(crate) trait Judge {
    /// Their verdict on that question about that model.
    fn judge(&self, model: &str, question: &ModelQuestion) -> ModelVerdict;
    /// The last verdict of `on_idle` was not carried out: a request came.
    fn note_overtaken(&self, model: &str);
    /// The last verdict of `on_trouble` was not carried out: the worker answered.
    fn note_recovered(&self, model: &str);
    /// The last verdict on such a question was not carried out: the model is another by now.
    fn note_discarded(&self, model: &str, question: &ModelQuestion);
}

/// Hands the machine an event, shows what it says, and does what is to be done.
pub(crate) fn handle(machine: &mut Machine, hands: &mut impl Hands, event: Event) {
    let effects = machine.handle(event, hands.now(), &mut Asking(hands));
    // A state must be published before anything is told about it.
    hands.publish(machine);
    for effect in effects {
        carry_out(hands, effect);
    }
}

fn carry_out(hands: &mut impl Hands, effect: Effect) {
    match effect {
        Effect::Launch {
            model,
            launch,
            goal,
        } => hands.launch(&model, launch, goal),
        Effect::Load { launch } => hands.load(launch),
        Effect::End { launch } => hands.end(launch),
        Effect::Recycle { launch, reason } => hands.recycle(launch, reason),
        Effect::OpenGate { model, launch } => hands.open_gate(&model, launch),
        Effect::CloseGate { model } => hands.close_gate(&model),
        Effect::Drain { model, launch } => hands.drain(&model, launch),
        Effect::Answer { waiter, answer } => hands.answer(waiter, answer),
        Effect::Measure => hands.measure(),
        Effect::Wake { after } => hands.wake(after),
        Effect::Finished => hands.finish(),
    }
}

/// The machine's questions, put to the policies about the state that is true now.
struct Asking<'a, H>(&'a mut H);

impl<H: Hands> Decide for Asking<'_, H> {
    fn ask(
        &mut self,
        machine: &Machine,
        id: QuestionId,
        model: &str,
        question: &ModelQuestion,
    ) -> Option<ModelVerdict> {
        // Policies see what is published: it has to be what is true now.
        self.0.publish(machine);
        if *question == ModelQuestion::Idle {
            let seen = self.0.world().model(model);
            if seen.is_none_or(|model| model.activity.active_requests > 0) {
                return Some(ModelVerdict::Idle(IdleVerdict::Keep(0.0)));
            }
        }
        self.0.ask(id, model, question)
    }

    fn confirm(
        &mut self,
        model: &str,
        question: &ModelQuestion,
        verdict: ModelVerdict,
    ) -> ModelVerdict {
        match (question, verdict) {
            // A request that came meanwhile wins.
            (_, ModelVerdict::Idle(IdleVerdict::Unload | IdleVerdict::Stop))
                if !self.0.close_gate_if_idle(model) =>
            {
                self.0.judge().note_overtaken(model);
                ModelVerdict::Idle(IdleVerdict::Keep(0.0))
            }
            // An answer that came meanwhile wins.
            (
                ModelQuestion::Trouble { trouble, spell },
                ModelVerdict::Trouble(TroubleVerdict::Restart { .. }),
            ) if !self.0.lasts(model, trouble.kind, *spell) => {
                self.0.judge().note_recovered(model);
                ModelVerdict::Trouble(TroubleVerdict::Keep(0.0))
            }
            (_, verdict) => verdict,
        }
    }

    fn discard(&mut self, model: &str, question: &ModelQuestion) {
        self.0.judge().note_discarded(model, question);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::api::{Activity, ModelFacts, SystemMemory};
    use crate::config::{Config, Settings};
    use crate::core::interface::questions::Trouble;
    use crate::core::interface::world::ModelView;

    /// A hub of one loaded model, whose policies want to unload and to restart it.
    #[derive(Default)]
    struct OneModel {
        active: usize,
        /// True if a request comes, or an answer, while the policies think.
        moves_on: bool,
        noted: Mutex<Vec<&'static str>>,
    }

    impl OneModel {
        fn note(&self, what: &'static str) {
            self.noted.lock().push(what);
        }

        /// The verdict in the end, and the calls before.
        fn asked(mut self, question: ModelQuestion) -> (ModelVerdict, Vec<&'static str>) {
            let mut asking = Asking(&mut self);
            let verdict = asking.ask(&Machine::default(), 1, "a", &question).unwrap();
            let verdict = asking.confirm("a", &question, verdict);
            (verdict, self.noted.into_inner())
        }
    }

    impl World for OneModel {
        fn model(&self, _: &str) -> Option<ModelView> {
            let activity = Activity {
                active_requests: self.active,
                ..Activity::default()
            };
            Some(ModelView {
                activity,
                ..ModelView::at_rest(Arc::new(ModelFacts::default()))
            })
        }

        fn config(&self) -> Arc<Config> {
            Arc::new(crate::config::from_yaml(
                "models: [{name: a, model_path: org/a}]",
            ))
        }

        fn memory(&self) -> SystemMemory {
            SystemMemory::default()
        }

        fn settings(&self) -> Arc<Settings> {
            Arc::default()
        }

        fn clock(&self) -> f64 {
            0.0
        }
    }

    impl Judge for OneModel {
        fn judge(&self, _: &str, question: &ModelQuestion) -> ModelVerdict {
            match question {
                ModelQuestion::Idle => {
                    self.note("on_idle");
                    ModelVerdict::Idle(IdleVerdict::Unload)
                }
                ModelQuestion::Trouble { .. } => {
                    self.note("on_trouble");
                    restart()
                }
                other => unreachable!("{other:?}"),
            }
        }

        fn note_discarded(&self, _: &str, _: &ModelQuestion) {
            self.note("discarded");
        }

        fn note_overtaken(&self, _: &str) {
            self.note("overtaken");
        }

        fn note_recovered(&self, _: &str) {
            self.note("recovered");
        }
    }

    impl Hands for OneModel {
        type World = Self;
        type Judge = Self;

        fn world(&self) -> &Self {
            self
        }

        fn judge(&self) -> &Self {
            self
        }

        fn now(&self) -> Now {
            unreachable!("nothing happens")
        }

        fn ask(
            &mut self,
            _: QuestionId,
            model: &str,
            question: &ModelQuestion,
        ) -> Option<ModelVerdict> {
            Some(Judge::judge(self, model, question))
        }

        fn publish(&mut self, _: &Machine) {
            self.note("publish");
        }

        fn lasts(&self, _: &str, _: TroubleKind, _: u64) -> bool {
            !self.moves_on
        }

        fn close_gate_if_idle(&mut self, _: &str) -> bool {
            if !self.moves_on {
                self.note("closed");
            }
            !self.moves_on
        }

        fn launch(&mut self, _: &str, _: Launch, _: Goal) {}
        fn load(&mut self, _: Launch) {}
        fn end(&mut self, _: Launch) {}
        fn recycle(&mut self, _: Launch, _: String) {}
        fn open_gate(&mut self, _: &str, _: Launch) {}
        fn close_gate(&mut self, _: &str) {}
        fn drain(&mut self, _: &str, _: Launch) {}
        fn answer(&mut self, _: Waiter, _: Answer) {}
        fn measure(&mut self) {}
        fn wake(&mut self, _: Duration) {}
        fn finish(&mut self) {}
    }

    fn restart() -> ModelVerdict {
        ModelVerdict::Trouble(TroubleVerdict::Restart {
            seconds: 0.0,
            reason: None,
        })
    }

    fn trouble() -> ModelQuestion {
        ModelQuestion::Trouble {
            trouble: Trouble::of(TroubleKind::Silent),
            spell: 1,
        }
    }

    fn overtaken() -> OneModel {
        OneModel {
            moves_on: true,
            ..OneModel::default()
        }
    }

    #[test]
    fn an_idle_model_is_shown_asked_about_and_closed() {
        let (verdict, noted) = OneModel::default().asked(ModelQuestion::Idle);
        assert_eq!(verdict, ModelVerdict::Idle(IdleVerdict::Unload));
        assert_eq!(noted, ["publish", "on_idle", "closed"]);
    }

    #[test]
    fn a_request_that_comes_while_on_idle_thinks_keeps_the_model() {
        let (verdict, noted) = overtaken().asked(ModelQuestion::Idle);
        assert_eq!(verdict, ModelVerdict::Idle(IdleVerdict::Keep(0.0)));
        assert_eq!(noted, ["publish", "on_idle", "overtaken"]);
    }

    #[test]
    fn a_busy_model_is_not_asked_about() {
        let hub = OneModel {
            active: 1,
            ..OneModel::default()
        };
        let (verdict, noted) = hub.asked(ModelQuestion::Idle);
        assert_eq!(verdict, ModelVerdict::Idle(IdleVerdict::Keep(0.0)));
        assert_eq!(noted, ["publish"]);
    }

    #[test]
    fn an_answer_that_comes_while_on_trouble_thinks_keeps_the_worker() {
        let (verdict, noted) = OneModel::default().asked(trouble());
        assert_eq!((verdict, noted), (restart(), vec!["publish", "on_trouble"]));
        let (verdict, noted) = overtaken().asked(trouble());
        assert_eq!(verdict, ModelVerdict::Trouble(TroubleVerdict::Keep(0.0)));
        assert_eq!(noted, ["publish", "on_trouble", "recovered"]);
    }
}
