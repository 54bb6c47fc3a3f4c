//! Requests that a policy told to wait, in the order of a real hub: who is first of its client is asked
//! about when something changes at its model, clients in turn.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::{Happening, Number, Simulation, State};
use crate::api_error::ApiError;
use crate::core::fair::Fair;
use crate::core::queue::{QueueLimits, SHORTEST_WAIT};
use crate::core::refusals;
use crate::hub::gateway::unknown_model;
use crate::policy::{Wait, World as _};

/// The queues of all models.
#[derive(Debug, Default)]
pub(super) struct Parking {
    queues: BTreeMap<String, Fair<Number>>,
    places: HashMap<Number, Place>,
}

/// A parked request.
#[derive(Debug, Clone)]
struct Place {
    model: String,
    /// The key under which it takes turns.
    client: Arc<str>,
    since: Duration,
    ask_at: Duration,
}

impl Simulation {
    /// `hub.wait` was said about a request, for the first time or again.
    pub(super) fn park(&mut self, number: Number, written: &str, wait: &Wait) {
        let now = self.world().now();
        let pause = Duration::try_from_secs_f64(wait.seconds).unwrap_or(Duration::MAX);
        let ask_at = now.saturating_add(pause.max(SHORTEST_WAIT));
        if let Some(place) = self.parking.places.get_mut(&number) {
            place.ask_at = ask_at;
            return self.look_at(number, ask_at - now);
        }
        let Some(model) = self.world().model(written) else {
            let error = unknown_model(written, &self.world().config);
            return self.conclude(number, State::Rejected(error));
        };
        let model = model.facts.name.clone();
        let limits = self.limits(&model);
        let queue = self.parking.queues.entry(model.clone()).or_default();
        if queue.len() >= limits.size {
            let oldest = queue
                .iter()
                .filter_map(|number| self.parking.places.get(number));
            let oldest = oldest.map(|place| now - place.since).max();
            let error = refusals::queue_full(&model, limits, oldest.unwrap_or_default());
            return self.conclude(number, State::Rejected(error));
        }
        let address = self.client(number);
        let client = wait.client.as_deref().map_or(address, Arc::from);
        let queue = self.parking.queues.entry(model.clone()).or_default();
        queue.push(&client, number);
        self.asked[number].model = Some(model.clone());
        self.world().at(&model, |model| model.parked += 1);
        let place = Place {
            model,
            client,
            since: now,
            ask_at,
        };
        self.parking.places.insert(number, place);
        self.look_at(number, ask_at - now);
        self.look_at(number, limits.timeout);
    }

    /// The key under which a request takes turns.
    pub(super) fn client(&self, number: Number) -> Arc<str> {
        if let Some(place) = self.parking.places.get(&number) {
            return Arc::clone(&place.client);
        }
        let request = self.asked[number].request.as_ref();
        let client = request.map(|request| request.client.to_string());
        client.unwrap_or_default().into()
    }

    fn limits(&self, model: &str) -> QueueLimits {
        let config = self.world().config.model(model);
        config.map_or(
            QueueLimits {
                size: 0,
                timeout: Duration::ZERO,
            },
            QueueLimits::of,
        )
    }

    fn look_at(&mut self, number: Number, after: Duration) {
        // What is never, need not be planned.
        if self.world().now().checked_add(after).is_some() {
            self.plan(after, Happening::Inspect(number));
        }
    }

    /// How long a request has been parked; never nothing, and zero when it is not.
    pub(super) fn parked_for(&self, number: Number) -> Duration {
        let place = self.parking.places.get(&number);
        let since = place.map(|place| self.world().now() - place.since);
        since.map_or(Duration::ZERO, |since| since.max(Duration::from_millis(1)))
    }

    /// Takes a request out of its queue; `served` when it goes on, and its client has had its turn.
    pub(super) fn unpark(&mut self, number: Number, served: bool) {
        let Some(place) = self.parking.places.remove(&number) else {
            return;
        };
        if let Some(queue) = self.parking.queues.get_mut(&place.model) {
            match served {
                true => queue.serve(number),
                false => queue.cancel(number),
            };
        }
        self.world().at(&place.model, |model| model.parked -= 1);
        // Another one is the first of its client now.
        self.deciding.changed.insert(place.model);
    }

    /// The time of a parked request may have come, or be over.
    pub(super) fn look_at_parked(&mut self, number: Number) {
        let Some(place) = self.parking.places.get(&number).cloned() else {
            return;
        };
        let (now, limits) = (self.world().now(), self.limits(&place.model));
        if now >= place.since + limits.timeout {
            self.unpark(number, false);
            let error = refusals::queue_timed_out(&place.model, limits, None);
            self.conclude(number, State::Rejected(error));
        } else if now >= place.ask_at {
            self.ask_policies(number);
        }
    }

    /// Asks about those who are first where something has changed, until nobody goes any more.
    pub(super) fn ask_parked(&mut self) {
        while let Some(model) = self.deciding.stopped.pop_first() {
            let queue = self.parking.queues.get(&model);
            let parked: Vec<_> = queue.into_iter().flat_map(Fair::iter).copied().collect();
            for number in parked {
                self.unpark(number, false);
                let error = ApiError::being_stopped(&model);
                self.conclude(number, State::Rejected(error));
            }
        }
        while let Some(model) = self.deciding.changed.pop_first() {
            let queue = self.parking.queues.get(&model);
            let first: Vec<_> = queue.into_iter().flat_map(Fair::heads).collect();
            for number in first {
                if self.parking.places.contains_key(&number) {
                    self.ask_policies(number);
                }
            }
        }
    }
}
