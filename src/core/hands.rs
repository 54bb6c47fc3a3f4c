//! The actions of a hub for its machine. The real hub and the simulated one are two implementations of
//! [`Hands`]; [`handle`] is the one way in which an event becomes deeds.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::gate::Runtime;
use super::machine::{
    Answer, Decide, Effect, Event, Goal, Launch, Machine, Now, QuestionId, Waiter,
};
use crate::core::interface::questions::{
    IdleVerdict, ModelQuestion, ModelVerdict, TroubleKind, TroubleVerdict,
};
use crate::core::interface::world::World;
use crate::core::model::Model;

/// Interval of the checks of idle models and delayed loads.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// Longest time until memory is measured again for a load that waits for it to come back.
pub(crate) const MEASURE_AGAIN: Duration = Duration::from_millis(100);

/// The hands of a hub: what the machine's [effects](Effect) mean there, and what has to be done around a
/// verdict.
pub(crate) trait Hands {
    type World: World + ?Sized;
    type Judge: Judge;
    type Runtime: Runtime;
    type Model: Deref<Target = Model<Self::Runtime>>;

    /// The world of the policies.
    fn world(&self) -> &Self::World;
    /// The policies.
    fn judge(&self) -> &Self::Judge;
    /// The moment.
    fn now(&self) -> Now;
    /// A model by name, also one that hub.yaml no longer names and that is still ending.
    fn model(&self, name: &str) -> Option<Arc<Self::Model>>;
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
    /// Sends the requests that are about to be let in to the worker of that launch; false when there is none.
    fn connect(&self, model: &Self::Model, launch: Launch) -> bool;
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
        Effect::OpenGate { model, launch } => {
            let model = hands.model(&model);
            if let Some(model) = model.filter(|model| hands.connect(model, launch)) {
                model.gate.open();
            }
        }
        Effect::CloseGate { model } => {
            if let Some(model) = hands.model(&model) {
                model.gate.close();
            }
        }
        Effect::Drain { model, launch } => hands.drain(&model, launch),
        Effect::Answer { waiter, answer } => hands.answer(waiter, answer),
        Effect::Measure => hands.measure(),
        Effect::Wake { after } => hands.wake(after),
        Effect::Finished => hands.finish(),
    }
}

/// The machine's questions, put to the policies about the state that is true now.
struct Asking<'a, H>(&'a mut H);

impl<H: Hands> Asking<'_, H> {
    /// Lets no more requests in, unless one is inside.
    fn closes_if_idle(&self, model: &str) -> bool {
        let model = self.0.model(model);
        model.is_some_and(|model| model.gate.close_if_idle())
    }
}

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
                if !self.closes_if_idle(model) =>
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
    use parking_lot::Mutex;

    use super::*;
    use crate::api::{Activity, ModelFacts, SystemMemory};
    use crate::config::{Config, Settings};
    use crate::core::gate::{Bell, Lease};
    use crate::core::interface::questions::Trouble;
    use crate::core::interface::world::ModelView;

    /// Time stands still, and nobody waits.
    #[derive(Debug, Clone)]
    struct Still;

    impl Runtime for Still {
        type Bell = Self;

        fn now(&self) -> Duration {
            Duration::ZERO
        }

        fn unix_ms(&self) -> u64 {
            0
        }

        fn drained(&self) {}
    }

    impl Bell for Still {
        fn ring(&self) {}
    }

    #[derive(Debug)]
    struct Only(Model<Still>);

    impl Deref for Only {
        type Target = Model<Still>;

        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }

    /// A hub of one loaded model, whose policies want to unload and to restart it.
    struct OneModel {
        model: Arc<Only>,
        /// True if a request comes, or an answer, while the policies think.
        moves_on: bool,
        /// Requests in flight.
        leases: Mutex<Vec<Lease<Still>>>,
        noted: Mutex<Vec<&'static str>>,
    }

    impl OneModel {
        fn new(moves_on: bool) -> Self {
            let model = Model::new("a", Still);
            model.gate.open();
            Self {
                model: Arc::new(Only(model)),
                moves_on,
                leases: Mutex::default(),
                noted: Mutex::default(),
            }
        }

        fn a_request_comes(&self) {
            self.leases.lock().extend(self.model.gate.try_enter());
        }

        fn note(&self, what: &'static str) {
            self.noted.lock().push(what);
        }

        /// The verdict in the end, and the calls before; last, whether the gate is closed then.
        fn asked(mut self, question: ModelQuestion) -> (ModelVerdict, Vec<&'static str>) {
            let mut asking = Asking(&mut self);
            let verdict = asking.ask(&Machine::default(), 1, "a", &question).unwrap();
            let verdict = asking.confirm("a", &question, verdict);
            if !self.model.gate.is_open() {
                self.note("closed");
            }
            (verdict, self.noted.into_inner())
        }
    }

    impl World for OneModel {
        fn model(&self, _: &str) -> Option<ModelView> {
            let activity = Activity {
                active_requests: self.model.gate.active(),
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
                    if self.moves_on {
                        self.a_request_comes();
                    }
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
        type Runtime = Still;
        type Model = Only;

        fn world(&self) -> &Self {
            self
        }

        fn judge(&self) -> &Self {
            self
        }

        fn now(&self) -> Now {
            unreachable!("nothing happens")
        }

        fn model(&self, _: &str) -> Option<Arc<Self::Model>> {
            Some(Arc::clone(&self.model))
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

        fn launch(&mut self, _: &str, _: Launch, _: Goal) {}
        fn load(&mut self, _: Launch) {}
        fn end(&mut self, _: Launch) {}
        fn recycle(&mut self, _: Launch, _: String) {}
        fn connect(&self, _: &Self::Model, _: Launch) -> bool {
            true
        }
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

    #[test]
    fn an_idle_model_is_shown_asked_about_and_closed() {
        let (verdict, noted) = OneModel::new(false).asked(ModelQuestion::Idle);
        assert_eq!(verdict, ModelVerdict::Idle(IdleVerdict::Unload));
        assert_eq!(noted, ["publish", "on_idle", "closed"]);
    }

    #[test]
    fn a_request_that_comes_while_on_idle_thinks_keeps_the_model() {
        let (verdict, noted) = OneModel::new(true).asked(ModelQuestion::Idle);
        assert_eq!(verdict, ModelVerdict::Idle(IdleVerdict::Keep(0.0)));
        assert_eq!(noted, ["publish", "on_idle", "overtaken"]);
    }

    #[test]
    fn a_busy_model_is_not_asked_about() {
        let hub = OneModel::new(false);
        hub.a_request_comes();
        let (verdict, noted) = hub.asked(ModelQuestion::Idle);
        assert_eq!(verdict, ModelVerdict::Idle(IdleVerdict::Keep(0.0)));
        assert_eq!(noted, ["publish"]);
    }

    #[test]
    fn an_answer_that_comes_while_on_trouble_thinks_keeps_the_worker() {
        let (verdict, noted) = OneModel::new(false).asked(trouble());
        assert_eq!((verdict, noted), (restart(), vec!["publish", "on_trouble"]));
        let (verdict, noted) = OneModel::new(true).asked(trouble());
        assert_eq!(verdict, ModelVerdict::Trouble(TroubleVerdict::Keep(0.0)));
        assert_eq!(noted, ["publish", "on_trouble", "recovered"]);
    }
}
