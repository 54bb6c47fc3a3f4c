//! The actions of a hub for its machine. The real hub and the simulated one are two implementations of
//! [`Hands`]; [`handle`] is the one way in which an event becomes deeds.

use std::time::Duration;

use super::machine::{Answer, Decide, Effect, Event, Goal, Launch, Machine, Now, Waiter};
use crate::core::interface::questions::{
    Exit, ExitVerdict, IdleVerdict, LoadVerdict, PendingLoad, Trouble, TroubleKind, TroubleVerdict,
};
use crate::core::interface::world::World;

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
    fn on_load(&self, model: &str, pending: PendingLoad) -> LoadVerdict;
    fn on_idle(&self, model: &str) -> IdleVerdict;
    fn on_exit(&self, model: &str, exit: Exit) -> ExitVerdict;
    fn on_trouble(&self, model: &str, trouble: Trouble) -> TroubleVerdict;
    /// The last verdict of `on_idle` was not carried out: a request came.
    fn note_overtaken(&self, model: &str);
    /// The last verdict of `on_trouble` was not carried out: the worker answered.
    fn note_recovered(&self, model: &str);
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

impl<H: Hands> Asking<'_, H> {
    /// Policies see what is published: it has to be what is true now.
    fn judge_of(&mut self, machine: &Machine) -> &H::Judge {
        self.0.publish(machine);
        self.0.judge()
    }
}

impl<H: Hands> Decide for Asking<'_, H> {
    fn on_load(&mut self, machine: &Machine, model: &str, pending: PendingLoad) -> LoadVerdict {
        self.judge_of(machine).on_load(model, pending)
    }

    fn on_exit(&mut self, machine: &Machine, model: &str, exit: Exit) -> ExitVerdict {
        self.judge_of(machine).on_exit(model, exit)
    }

    fn on_trouble(
        &mut self,
        machine: &Machine,
        model: &str,
        trouble: Trouble,
        spell: u64,
    ) -> TroubleVerdict {
        match self.judge_of(machine).on_trouble(model, trouble) {
            // An answer that came meanwhile wins.
            TroubleVerdict::Restart { .. } if !self.0.lasts(model, trouble.kind, spell) => {
                self.0.judge().note_recovered(model);
                TroubleVerdict::Keep(0.0)
            }
            verdict => verdict,
        }
    }

    fn on_idle(&mut self, machine: &Machine, model: &str) -> IdleVerdict {
        self.0.publish(machine);
        let seen = self.0.world().model(model);
        if seen.is_none_or(|model| model.activity.active_requests > 0) {
            return IdleVerdict::Keep(0.0);
        }
        match self.0.judge().on_idle(model) {
            IdleVerdict::Keep(seconds) => IdleVerdict::Keep(seconds),
            // A request that came meanwhile wins.
            _ if !self.0.close_gate_if_idle(model) => {
                self.0.judge().note_overtaken(model);
                IdleVerdict::Keep(0.0)
            }
            verdict => verdict,
        }
    }
}
