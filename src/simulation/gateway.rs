//! The way of a request through a simulated hub: `on_request`, its model, the worker, its end. The real
//! one is in `gateway`; this one says the same without sockets.

use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;

use super::{Event, Finish, Happening, Launch, NewRequest, Number, Simulation, State};
use crate::api_error::ApiError;
use crate::hub::gateway::{routed_to_unknown, unknown_model};
use crate::policy::{self, Parked, RequestVerdict, RequestView, Route, World as _};

impl Simulation {
    /// Sends a request. What becomes of it at once has happened when this returns.
    pub(crate) fn request(&mut self, mut request: NewRequest) -> Number {
        let model = request.model.clone();
        request.body.insert("model".to_owned(), model.into());
        let number = self.ask(Some(request), None);
        self.ask_policies(number);
        self.catch_up();
        number
    }

    /// Asks `on_request` and does what it says.
    pub(super) fn ask_policies(&mut self, number: Number) {
        let Some(view) = self.view(number) else {
            return;
        };
        let written = view.model.clone();
        let (view, verdict) = self.policies().on_request(view);
        self.asked[number].vars = view.parked.vars;
        let route = match verdict {
            RequestVerdict::Wait(wait) => return self.park(number, &written, &wait),
            RequestVerdict::Reject(error) => return self.reject(number, error),
            RequestVerdict::Route(route) => Some(route),
            RequestVerdict::Pass | RequestVerdict::NeedBody => None,
        };
        let elsewhere = route.as_ref().and_then(|route| route.model.clone());
        let Some(model) = self.world().model(elsewhere.as_deref().unwrap_or(&written)) else {
            return self.reject(
                number,
                match elsewhere {
                    Some(model) => routed_to_unknown(&model),
                    None => unknown_model(&written, &self.world().config),
                },
            );
        };
        if let Some(route) = route {
            self.change(number, &route);
        }
        self.acquire(number, model.facts.name.clone());
        // The next in the queue is asked about now that this one is counted elsewhere.
        self.unpark(number, true);
    }

    /// The request as policies see it.
    fn view(&self, number: Number) -> Option<Box<RequestView>> {
        let request = self.asked[number].request.as_ref()?;
        let mut built = http::Request::builder()
            .method(request.method.clone())
            .uri(&request.path);
        if let Some(headers) = built.headers_mut() {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            headers.extend(request.headers.clone());
        }
        let (parts, ()) = built.body(()).ok()?.into_parts();
        let body = serde_json::Value::Object(request.body.clone()).to_string();
        Some(Box::new(RequestView {
            parts,
            id: HeaderValue::try_from(id(number)).ok()?,
            model: request.model.clone(),
            client: SocketAddr::new(request.client, 50_000),
            protocol: RequestView::OPENAI,
            body: Some(body.into()),
            parked: Parked {
                waited_seconds: self.parked_for(number).as_secs_f64(),
                vars: self.asked[number].vars.clone(),
            },
        }))
    }

    /// The body and the headers that the worker gets.
    fn change(&mut self, number: Number, route: &Route) {
        let asked = &mut self.asked[number];
        crate::hub::gateway::change(&mut asked.body, route);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let added = route.headers.iter();
        asked.added = added
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect();
    }

    fn acquire(&mut self, number: Number, model: String) {
        self.asked[number].model = Some(model.clone());
        let found = self
            .world()
            .at(&model, |model| (model.is_open, model.stops));
        match found {
            Some((true, _)) => self.enter(number),
            Some((false, seen)) => {
                let waiter = self.waiter(number, true);
                self.world().at(&model, |model| model.waiting += 1);
                let event = Event::Acquire {
                    model,
                    waiter,
                    seen,
                    client: self.client(number),
                    parked: self.parked_for(number),
                };
                self.handle(event);
            }
            None => {}
        }
    }

    /// A request no longer waits for its model to be loaded.
    pub(super) fn stop_waiting(&mut self, number: Number) {
        if let Some(model) = self.asked[number].model.clone() {
            self.world().at(&model, |model| model.waiting -= 1);
            self.deciding.changed.insert(model);
        }
    }

    fn reject(&mut self, number: Number, error: ApiError) {
        self.unpark(number, false);
        self.conclude(number, State::Rejected(error));
    }

    /// Something asked comes to its end.
    pub(super) fn conclude(&mut self, number: Number, state: State) {
        let now = self.world().now();
        let named = self.asked[number]
            .request
            .as_ref()
            .map(|request| request.model.clone());
        let named = named.and_then(|name| self.world().model(&name));
        let asked = &mut self.asked[number];
        asked.state = state;
        asked.ended = Some(now);
        let model = asked
            .model
            .clone()
            .or(named.map(|model| model.facts.name.clone()));
        // What names no model of this hub is nobody's request.
        if let Some(request) = model.and_then(|model| asked.finished(number, model)) {
            self.deciding.observe(policy::Event::of_request(request));
        }
    }

    /// The model is in memory: its worker answers.
    pub(super) fn enter(&mut self, number: Number) {
        let (now, unix) = (self.world().now(), self.world().clock());
        let asked = &mut self.asked[number];
        asked.state = State::Running;
        asked.entered = Some(now);
        let ends_after = asked
            .request
            .as_ref()
            .and_then(|request| request.ends_after);
        let model = asked.model.clone().unwrap_or_default();
        self.running
            .entry(model.clone())
            .or_default()
            .insert(number);
        self.world().at(&model, |model| {
            model.active += 1;
            model.last_request_at = Some(unix);
            model.last_active = now;
        });
        if let Some(after) = ends_after {
            self.plan(after, Happening::Finish(number));
        }
    }

    /// The worker has answered; false when it does not answer this request.
    pub(crate) fn finish(&mut self, number: Number, finish: &Finish) -> bool {
        let left = self.leave(number, State::Done, finish);
        self.catch_up();
        left
    }

    /// The client goes away; false when it has its answer already.
    pub(crate) fn cancel(&mut self, number: Number) -> bool {
        if self.asked[number].state != State::Waiting {
            let left = self.leave(number, State::Cancelled, &Finish::default());
            self.catch_up();
            return left;
        }
        self.unpark(number, false);
        self.conclude(number, State::Cancelled);
        let waiting = self.waiting.iter().find(|(_, of)| **of == number);
        if let Some(id) = waiting.map(|(id, _)| *id) {
            self.waiting.remove(&id);
            self.stop_waiting(number);
            let waiter = super::Waiter {
                id,
                is_request: true,
            };
            self.handle(Event::Abandon { waiter });
        }
        self.catch_up();
        true
    }

    /// A request that its worker answers ends.
    pub(super) fn leave(&mut self, number: Number, state: State, finish: &Finish) -> bool {
        let (now, unix) = (self.world().now(), self.world().clock());
        let asked = &mut self.asked[number];
        if asked.state != State::Running {
            return false;
        }
        asked.finish = finish.clone();
        if state == State::Done {
            self.note_answer(number, finish);
        }
        let asked = &mut self.asked[number];
        let model = asked.model.clone().unwrap_or_default();
        self.world().at(&model, |model| {
            model.active -= 1;
            model.last_request_at = Some(unix);
            model.last_active = now;
        });
        if let Some(running) = self.running.get_mut(&model) {
            running.remove(&number);
        }
        self.deciding.changed.insert(model.clone());
        self.conclude(number, state);
        self.look_at_drain(&model);
        let active = self.world().at(&model, |model| model.active);
        if active == Some(0) && self.machine.next_asking().is_some() {
            self.plan(Duration::ZERO, Happening::Idle);
        }
        true
    }

    /// A model that is drained goes on when its last request has left.
    pub(super) fn look_at_drain(&mut self, model: &str) {
        let active = self.world().at(model, |model| model.active);
        if active == Some(0)
            && let Some(launch) = self.draining.remove(model)
        {
            self.plan.retain(
                |_, happening| !matches!(happening, Happening::DrainLimit(of) if *of == launch),
            );
            self.plan(Duration::ZERO, Happening::Drained(launch));
        }
    }

    /// `drain_timeout` is over.
    pub(super) fn cut_drained(&mut self, launch: Launch) {
        let found = self.draining.iter().find(|(_, of)| **of == launch);
        if let Some(model) = found.map(|(model, _)| model.clone()) {
            self.cut(&model);
        }
    }

    /// The worker of these requests is gone.
    pub(super) fn cut(&mut self, model: &str) {
        let running = self.running.get(model).cloned().unwrap_or_default();
        for number in running {
            self.leave(number, State::Cut, &Finish::default());
        }
    }
}

/// The `X-Request-ID` of a request.
pub(super) fn id(number: Number) -> String {
    format!("request-{}", number + 1)
}
