//! The way of a request through a simulated hub: `on_request`, its model, the worker, its end. The real
//! one is in `hub/gateway`; both do what [`decide`] says.

use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use super::doors::{Arrival, DoorsOf};
use super::{Event, Finish, Happening, NewRequest, Number, Progress, Simulation, Waiter};
use crate::core::admission::{Entrance, Step, Target, decide};
use crate::core::place::Place;
use crate::core::queue::Decision;
use crate::policy::{Credential, Parked, RequestView, Route, World as _};

impl Simulation {
    /// Sends a request. What becomes of it at once has happened when this returns.
    pub(crate) fn request(&mut self, mut request: NewRequest) -> Number {
        if let Some(model) = request.model.clone() {
            request.body.insert("model".to_owned(), model.into());
        }
        let number = self.ask(Some(request), None);
        self.ask_policies(number);
        self.catch_up();
        number
    }

    /// Asks `on_request` and does what it says.
    fn ask_policies(&mut self, number: Number) {
        let Some(view) = self.view(number) else {
            return;
        };
        let doors = DoorsOf {
            world: self.world().clone(),
            request: number,
        };
        let mut place = self.hands.parked.remove(&number);
        let named = Target::named(&doors, &view);
        let (view, step) = self.policies().on_request_then(view, |view, verdict| {
            decide(&doors, named, view, verdict, &mut place)
        });
        let asked = &mut self.hands.asked[number];
        asked.vars = view.parked.vars;
        match step {
            Ok(Step::Go(admitted)) => {
                let name = &*admitted.model.name;
                if view.model.is_none() {
                    asked.body.insert("model".to_owned(), name.into());
                }
                asked.model = Some(name.to_owned());
                if let Some(route) = admitted.route {
                    self.change(number, &route);
                }
                match admitted.entrance {
                    Entrance::Open(lease) => self.hands.enter(number, admitted.model, lease),
                    Entrance::Closed(arrival) => self.acquire(number, arrival),
                }
            }
            // The whole body is always there: no policy asks for it.
            Ok(Step::Wait | Step::NeedBody) => {
                asked.model = place.as_ref().map(|place| place.model().name.to_string());
                self.hands.parked.extend(place.map(|place| (number, place)));
                self.look_at_parked(number);
            }
            Err(error) => self.hands.conclude(number, Progress::Rejected(error)),
        }
    }

    /// That of the key of that name in hub.yaml, or of one that may use all models.
    fn credential(&self, name: &str) -> Credential {
        let config = self.world().config();
        let mut keys = config.api_keys.iter();
        let key = keys.find(|key| key.name == name);
        key.map_or_else(
            || Credential::named(name),
            |key| Credential::of(Arc::clone(key)),
        )
    }

    /// The request as policies see it.
    pub(super) fn view(&self, number: Number) -> Option<Box<RequestView>> {
        let asked = self.asked(number);
        let request = asked.request.as_ref()?;
        let mut built = http::Request::builder()
            .method(request.method.clone())
            .uri(&request.path);
        if let Some(headers) = built.headers_mut() {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            headers.extend(request.headers.clone());
        }
        let (parts, ()) = built.body(()).ok()?.into_parts();
        let body = serde_json::Value::Object(request.body.clone()).to_string();
        let place = self.hands.parked.get(&number);
        Some(Box::new(RequestView {
            parts,
            id: HeaderValue::try_from(id(number)).ok()?,
            model: request.model.clone(),
            client: SocketAddr::new(request.client, 50_000),
            via: request.via.map(|proxy| SocketAddr::new(proxy, 50_000)),
            credential: request.key.as_deref().map(|name| self.credential(name)),
            protocol: RequestView::OPENAI,
            keep_alive: request.keep_alive,
            body: Some(body.into()),
            parked: Parked {
                waited_seconds: place.map_or(0.0, |place| place.waited().as_secs_f64()),
                vars: asked.vars.clone(),
            },
        }))
    }

    /// The body and the headers that the worker gets.
    fn change(&mut self, number: Number, route: &Route) {
        let asked = &mut self.hands.asked[number];
        route.change(&mut asked.body);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let added = route.headers.iter();
        asked.added = added
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
    }

    /// Waits for the model to be loaded.
    pub(super) fn acquire(&mut self, number: Number, arrival: Arrival) {
        self.waiters += 1;
        let (id, is_request) = (self.waiters, true);
        let event = arrival.event(Waiter { id, is_request });
        self.hands.waiting.insert(id, (number, Some(arrival)));
        self.handle(event);
    }

    /// A parked request looks at the decision about it.
    pub(super) fn look_at_parked(&mut self, number: Number) {
        let place = self.hands.parked.get(&number);
        match place.map(Place::look) {
            Some(Decision::Ask) => self.ask_policies(number),
            Some(Decision::Refuse(error)) => {
                self.hands.parked.remove(&number);
                self.hands.conclude(number, Progress::Rejected(error));
            }
            Some(Decision::Until(at)) => {
                let plan = &mut self.hands.plan;
                plan.cancel(|other| matches!(other, Happening::Look(of) if *of == number));
                plan.add(at, Happening::Look(number));
            }
            None => {}
        }
    }

    /// The worker has answered; false when it does not answer this request.
    pub(crate) fn finish(&mut self, number: Number, finish: &Finish) -> bool {
        let left = self.hands.leave(number, Progress::Done, finish);
        self.catch_up();
        left
    }

    /// The client goes away; false when it has its answer already.
    pub(crate) fn cancel(&mut self, number: Number) -> bool {
        let hands = &mut self.hands;
        if hands.asked[number].state == Progress::Waiting {
            hands.parked.remove(&number);
            hands.conclude(number, Progress::Cancelled);
            let waiting = hands.waiting.iter().find(|(_, (of, _))| *of == number);
            if let Some(id) = waiting.map(|(id, _)| *id) {
                hands.waiting.remove(&id);
                let is_request = true;
                let waiter = Waiter { id, is_request };
                self.handle(Event::Abandon { waiter });
            }
            self.catch_up();
            return true;
        }
        let left = hands.leave(number, Progress::Cancelled, &Finish::default());
        self.catch_up();
        left
    }
}

/// The `X-Request-ID` of a request.
pub(super) fn id(number: Number) -> String {
    format!("request-{}", number + 1)
}
