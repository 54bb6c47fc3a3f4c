//! The requests that a policy told to wait before a model: who is asked about next, when, and who is
//! refused.
//!
//! Something changes (a lease comes back, the model is in another state): then the first request of every
//! client is asked about, one after the other in a [`Fair`] order; whoever has the turn keeps it until what
//! came of the verdict can be seen in the model's counters. That is repeated as long as one of them went.
//!
//! Pure: the gateway's requests and those of a simulated hub stand in the same queue. Whoever owns it tells
//! a request that a method returned, and that one [looks](Queue::look) what is to become of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::fair::Fair;
use super::refusals;
use crate::api::ApiError;
use crate::config::ModelConfig;

/// A request is not asked about more often than this unless something changes.
pub(crate) const SHORTEST_WAIT: Duration = Duration::from_millis(100);

/// What a policy's `seconds` count for at most: later than any `queue_timeout`.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How many may be parked at a model, and how long each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    /// `queue_size` of hub.yaml.
    pub(crate) size: usize,
    /// `queue_timeout` of hub.yaml.
    pub(crate) timeout: Duration,
}

impl QueueLimits {
    pub(crate) fn of(model: &ModelConfig) -> Self {
        Self {
            size: model.queue_size(),
            timeout: model.queue_timeout().min(LONGEST_WAIT),
        }
    }
}

/// The number of a place in a queue; never used twice.
pub(crate) type Key = u64;

/// What a refusal tells of the model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About<'a> {
    pub(crate) model: &'a str,
    /// How long its load takes, if one is ahead.
    pub(crate) load: Option<Duration>,
}

/// What is to become of a parked request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    /// The policies are to be asked about it.
    Ask,
    /// It may not stay.
    Refuse(ApiError),
    /// Nothing before that moment, unless it is told.
    Until(Duration),
}

/// The parked requests of one model. `T` is how one is told to look; times are on its owner's clock.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    order: Fair<Key>,
    places: BTreeMap<Key, Place<T>>,
    keys: Key,
    /// Who is being asked about.
    turn: Option<Key>,
    /// Who is still to be asked about in this round.
    round: VecDeque<Key>,
    /// Something has changed since the round began.
    changed: bool,
    /// Why nobody may park here any more.
    closed: Option<ApiError>,
}

#[derive(Debug)]
struct Place<T> {
    limits: QueueLimits,
    since: Duration,
    ask_at: Duration,
    /// Does not listen for its turn at the moment.
    away: bool,
    /// It knows that it has the turn, and passes it on with the verdict.
    has_turn: bool,
    /// Why it may not stay.
    refused: Option<ApiError>,
    tell: T,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            order: Fair::default(),
            places: BTreeMap::new(),
            keys: 0,
            turn: None,
            round: VecDeque::new(),
            changed: false,
            closed: None,
        }
    }
}

impl<T: Clone> Queue<T> {
    /// How many are parked.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Parks a request until something changes or for `seconds`. It takes turns under the name `client`.
    ///
    /// # Errors
    /// 429 when as many are parked as may; what [`Queue::close`] was told.
    pub(crate) fn park(
        &mut self,
        client: &Arc<str>,
        tell: T,
        limits: QueueLimits,
        seconds: f64,
        about: About<'_>,
        now: Duration,
    ) -> Result<Key, ApiError> {
        if let Some(why) = &self.closed {
            return Err(why.clone());
        }
        if self.places.len() >= limits.size {
            let first = self.places.values().map(|place| place.since).min();
            let longest = first.map(|since| now.saturating_sub(since));
            let after = about.load.or(longest).unwrap_or_default();
            return Err(refusals::queue_full(about.model, limits, after));
        }
        self.keys += 1;
        let key = self.keys;
        self.order.push(client, key);
        let place = Place {
            limits,
            since: now,
            ask_at: now + pause(seconds),
            away: false,
            has_turn: false,
            refused: None,
            tell,
        };
        self.places.insert(key, place);
        Ok(key)
    }

    /// What is to become of a request now. One that is to be asked about says afterwards what the verdict
    /// was: [`Queue::stay`], [`Queue::step_aside`] or [`Queue::leave`].
    pub(crate) fn look(&mut self, key: Key, about: About<'_>, now: Duration) -> Call {
        let Some(place) = self.places.get_mut(&key) else {
            return Call::Until(now + LONGEST_WAIT);
        };
        if let Some(why) = &place.refused {
            return Call::Refuse(why.clone());
        }
        place.has_turn = self.turn == Some(key);
        let over = place.since + place.limits.timeout;
        match place {
            _ if place.has_turn => Call::Ask,
            _ if now >= over => {
                let limits = place.limits;
                Call::Refuse(refusals::queue_timed_out(about.model, limits, about.load))
            }
            _ if now >= place.ask_at => Call::Ask,
            _ => Call::Until(place.ask_at.min(over)),
        }
    }

    /// Something has changed that may change a verdict. Returns who is to be told.
    #[must_use]
    pub(crate) fn change(&mut self) -> Option<T> {
        self.changed = true;
        self.advance()
    }

    /// The verdict was to wait on for so long: the next is asked about, and is to be told.
    #[must_use]
    pub(crate) fn stay(&mut self, key: Key, seconds: f64, now: Duration) -> Option<T> {
        let place = self.places.get_mut(&key)?;
        place.ask_at = now + pause(seconds);
        self.pass_on(key, false)
    }

    /// It will not listen for a while. The next is asked about, who is to be told, and no other request of
    /// its client.
    #[must_use]
    pub(crate) fn step_aside(&mut self, key: Key) -> Option<T> {
        self.pass_on(key, true)
    }

    /// It listens again, and wants to be asked about.
    pub(crate) fn step_back(&mut self, key: Key, now: Duration) {
        if let Some(place) = self.places.get_mut(&key) {
            place.away = false;
            place.ask_at = now;
        }
    }

    /// Takes a request out; with `served` its client has had its turn. Returns who is to be told.
    #[must_use]
    pub(crate) fn leave(&mut self, key: Key, served: bool) -> Option<T> {
        self.places.remove(&key)?;
        if served {
            self.order.serve(key);
        } else {
            self.order.cancel(key);
        }
        if self.turn == Some(key) {
            self.turn = None;
        }
        // Another one is the first of its client now.
        self.change()
    }

    /// Sends everybody away, with this answer: all are to be told.
    #[must_use]
    pub(crate) fn dismiss(&mut self, why: &ApiError) -> Vec<T> {
        let tell = self.places.values_mut().map(|place| {
            // The first reason counts: a shutdown stops the models, too.
            place.refused.get_or_insert_with(|| why.clone());
            place.tell.clone()
        });
        tell.collect()
    }

    /// The same, and whoever comes later.
    #[must_use]
    pub(crate) fn close(&mut self, why: &ApiError) -> Vec<T> {
        self.closed = Some(why.clone());
        self.dismiss(why)
    }

    fn pass_on(&mut self, key: Key, away: bool) -> Option<T> {
        let place = self.places.get_mut(&key)?;
        place.away = away;
        let had_turn = std::mem::take(&mut place.has_turn);
        // A turn that came while it was asked about for another reason is still to be used.
        if self.turn != Some(key) || !(had_turn || away) {
            return None;
        }
        self.turn = None;
        self.advance()
    }

    /// Gives the turn to the next, if nobody has it.
    fn advance(&mut self) -> Option<T> {
        while self.turn.is_none() {
            if self.round.is_empty() {
                if !std::mem::take(&mut self.changed) {
                    return None;
                }
                self.round = self.order.heads().collect();
            }
            let key = self.round.pop_front()?;
            if let Some(place) = self.places.get(&key).filter(|place| !place.away) {
                self.turn = Some(key);
                return Some(place.tell.clone());
            }
        }
        None
    }
}

/// When to ask again after a verdict to wait for so long.
pub(crate) fn pause(seconds: f64) -> Duration {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_WAIT);
    seconds.clamp(SHORTEST_WAIT, LONGEST_WAIT)
}
