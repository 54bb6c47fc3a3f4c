//! The way of a request through a simulated hub: `on_request`, its model, the worker, its end. The real
//! one is in `hub/gateway`; both do what [`decide`] says.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::doors::{Arrival, DoorsOf};
use super::request::State;
use super::{Event, FinishedRequest, Hands, Happening, Number, Simulation};
use crate::core::admission::{Entrance, Step, Target, decide};
use crate::core::gate::Runtime as _;
use crate::core::queue::Decision;
use crate::policy::RequestView;

impl Simulation {
    /// Sends a request; if it is said how long its worker answers, it ends by itself. What becomes of it at once
    /// has happened when this returns.
    pub(crate) fn request(
        &mut self,
        mut view: Box<RequestView>,
        ends_after: Option<Duration>,
    ) -> Number {
        let number = self.ask(None);
        if let Ok(id) = HeaderValue::try_from(format!("request-{}", number + 1)) {
            view.id = id;
        }
        let asked = &mut self.hands.asked[number];
        (asked.view, asked.ends_after) = (Some(view), ends_after);
        self.ask_policies(number);
        self.catch_up();
        number
    }

    /// Asks `on_request` and does what it says.
    fn ask_policies(&mut self, number: Number) {
        let asked = &mut self.hands.asked[number];
        let Some(mut view) = asked.view.take() else {
            return;
        };
        let mut place = match take(&mut asked.state) {
            State::Parked(ticket) => Some(ticket),
            _ => None,
        };
        let waited = place.as_ref().map(|place| place.waited().as_secs_f64());
        view.parked.waited_seconds = waited.unwrap_or(0.0);
        let doors = DoorsOf {
            world: Arc::clone(self.world()),
            policies: self.policies().clone(),
            request: number,
        };
        let named = Target::named(&doors, &view);
        let (view, step) = self.policies().on_request_then(view, |view, verdict| {
            decide(&doors, named, view, verdict, &mut place)
        });
        let asked = &mut self.hands.asked[number];
        asked.view = Some(view);
        match step {
            Ok(Step::Go(admitted)) => {
                asked.model = Some(admitted.model.name.to_string());
                asked.route = admitted.route;
                match admitted.entrance {
                    Entrance::Open(lease) => self.hands.enter(number, admitted.model, lease),
                    Entrance::Closed(arrival) => self.acquire(number, arrival),
                }
            }
            // The whole body is always there: no policy asks for it.
            Ok(Step::Wait | Step::NeedBody) => {
                if let Some(place) = place {
                    asked.model = Some(place.model().name.to_string());
                    asked.state = State::Parked(place);
                }
                self.look_at_parked(number);
            }
            Err(error) => {
                drop(place);
                self.hands.conclude(number, State::Rejected(error));
            }
        }
    }

    /// Waits for the model to be loaded.
    pub(super) fn acquire(&mut self, number: Number, arrival: Arrival) {
        let event = arrival.event(Hands::waiter(number, true));
        self.hands.asked[number].state = State::Arriving(arrival);
        self.handle(event);
    }

    /// A parked request looks at the decision about it.
    pub(super) fn look_at_parked(&mut self, number: Number) {
        let State::Parked(place) = &self.hands.asked[number].state else {
            return;
        };
        match place.look() {
            Decision::Ask => self.ask_policies(number),
            Decision::Refuse(error) => self.hands.conclude(number, State::Rejected(error)),
            Decision::Until(at) => {
                let clock = &self.world().clock;
                clock.cancel(|other| matches!(other, Happening::Look(of) if *of == number));
                clock.plan(at.saturating_sub(clock.now()), Happening::Look(number));
            }
        }
    }

    /// The worker has answered; false when it does not answer this request.
    pub(crate) fn finish(&mut self, number: Number, finish: FinishedRequest) -> bool {
        let left = self.hands.leave(number, State::Done, finish);
        self.catch_up();
        left
    }

    /// The client goes away; false when it has its answer already.
    pub(crate) fn cancel(&mut self, number: Number) -> bool {
        let hands = &mut self.hands;
        match hands.asked[number].state {
            State::Running(..) => {
                hands.leave(number, State::Cancelled, FinishedRequest::default());
            }
            State::Parked(_) => hands.conclude(number, State::Cancelled),
            State::Ordered | State::Arriving(_) => {
                let is_request = matches!(hands.asked[number].state, State::Arriving(_));
                let waiter = Hands::waiter(number, is_request);
                hands.conclude(number, State::Cancelled);
                self.handle(Event::Abandon { waiter });
            }
            State::Done | State::Rejected(_) | State::Cut | State::Cancelled => return false,
        }
        self.catch_up();
        true
    }
}
