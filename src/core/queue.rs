//! The requests that a policy told to wait before a model. The queue decides which request the policies are asked
//! about next, and when, and which request is refused.
//!
//! Whenever something changes (a lease comes back, the model is in another state), the policies are asked about
//! the first request of every client, one after the other in a [`Fair`] order. A request keeps its turn until the
//! model's counters show the outcome of the verdict. Rounds follow each other as long as a request leaves the queue.
//!
//! Pure: the gateway's requests and those of a simulated hub stand in the same queue. Its owner tells
//! a request that a method returned to [look](Queue::look) at the decision.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::fair::Fair;
use super::refusals;
use crate::api::ApiError;
use crate::config::ModelConfig;

/// A request is not asked about more often than this unless something changes.
pub(crate) const MIN_WAIT: Duration = Duration::from_millis(100);

/// Upper limit of a policy's `seconds`: later than any `queue_timeout`.
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Limits of a model's queue: its length, and the time of each request in it.
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
            size: model.queue_size,
            timeout: model.queue_timeout.min(MAX_WAIT),
        }
    }
}

/// The number of a place in a queue; never used twice.
pub(crate) type Key = u64;

/// The facts about the model in a refusal.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    pub(crate) model: &'a str,
    /// The expected time of its load, if one is ahead.
    pub(crate) load: Option<Duration>,
}

/// The decision about a queued request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// The policies are to be asked about it.
    Ask,
    /// It may not stay.
    Refuse(ApiError),
    /// Nothing before that moment, unless it is told.
    Until(Duration),
}

/// The parked requests of one model. `T` is how one is told to look; times are on its owner's clock.
#[derive(Debug)]
pub struct Queue<T> {
    order: Fair<Key>,
    places: BTreeMap<Key, QueuedRequest<T>>,
    keys: Key,
    /// The request that is being asked about.
    turn: Option<Key>,
    /// The requests still to be asked about in this round.
    round: VecDeque<Key>,
    /// Something has changed since the round began.
    changed: bool,
    /// The reason why no request may queue here any more.
    closed: Option<ApiError>,
}

#[derive(Debug)]
struct QueuedRequest<T> {
    limits: QueueLimits,
    since: Duration,
    ask_at: Duration,
    /// Does not listen for its turn at the moment.
    away: bool,
    /// It knows that it has the turn, and passes it on with the verdict.
    has_turn: bool,
    /// The reason why it may not stay.
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
    /// Number of queued requests.
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
        let place = QueuedRequest {
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

    /// The decision about a request now. One that is to be asked about says afterwards what the verdict was:
    /// [`Queue::stay`], [`Queue::step_aside`] or [`Queue::leave`].
    pub(crate) fn look(&mut self, key: Key, about: About<'_>, now: Duration) -> Decision {
        let Some(place) = self.places.get_mut(&key) else {
            return Decision::Until(now + MAX_WAIT);
        };
        if let Some(why) = &place.refused {
            return Decision::Refuse(why.clone());
        }
        place.has_turn = self.turn == Some(key);
        let over = place.since + place.limits.timeout;
        match place {
            _ if place.has_turn => Decision::Ask,
            _ if now >= over => {
                let limits = place.limits;
                Decision::Refuse(refusals::queue_timed_out(about.model, limits, about.load))
            }
            _ if now >= place.ask_at => Decision::Ask,
            _ => Decision::Until(place.ask_at.min(over)),
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

    /// Refuses all with this answer; all have to be woken.
    #[must_use]
    pub(crate) fn dismiss(&mut self, why: &ApiError) -> Vec<T> {
        let tell = self.places.values_mut().map(|place| {
            // The first reason counts: a shutdown stops the models, too.
            place.refused.get_or_insert_with(|| why.clone());
            place.tell.clone()
        });
        tell.collect()
    }

    /// Refuses all, and later ones.
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

    /// Gives the turn to the next, if it is free.
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

/// Time until the next asking, after a verdict to wait for so long.
pub(crate) fn pause(seconds: f64) -> Duration {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or(MAX_WAIT);
    seconds.clamp(MIN_WAIT, MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: QueueLimits = QueueLimits {
        size: 12,
        timeout: Duration::from_secs(300),
    };
    const LATER: f64 = 600.0;

    fn about(load: Option<u64>) -> About<'static> {
        About {
            model: "alpha",
            load: load.map(Duration::from_secs),
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A queue in which each client has parked requests; they are told by their keys.
    fn parked(clients: &[u8]) -> (Queue<Key>, Vec<Key>) {
        let mut queue = Queue::default();
        let keys = clients.iter().zip(1..).map(|(client, key)| {
            let client = client.to_string().into();
            let parked = queue.park(&client, key, LIMITS, LATER, about(None), at(0));
            assert_eq!(parked, Ok(key));
            key
        });
        let keys = keys.collect();
        (queue, keys)
    }

    /// Those that are asked about, one after the other, when all are told to wait on but `goes`.
    fn round(queue: &mut Queue<Key>, goes: Option<Key>) -> Vec<Key> {
        let (mut asked, mut told) = (Vec::new(), queue.change());
        while let Some(key) = told {
            assert_eq!(queue.look(key, about(None), at(1)), Decision::Ask);
            asked.push(key);
            told = match goes == Some(key) {
                true => queue.leave(key, true),
                false => queue.stay(key, LATER, at(1)),
            };
            assert!(asked.len() < 100, "asked about in a circle: {asked:?}");
        }
        asked
    }

    proptest! {
        #[test]
        fn a_change_asks_about_the_first_of_every_client_once_and_again_when_one_has_gone(
            clients in proptest::collection::vec(0u8..4, 1..12),
            goes in proptest::option::of(any::<prop::sample::Index>()),
        ) {
            let (mut queue, keys) = parked(&clients);
            let names: BTreeSet<u8> = clients.iter().copied().collect();
            let first = |name: &u8| keys[clients.iter().position(|it| it == name).unwrap()];
            let heads: BTreeSet<Key> = names.iter().map(first).collect();
            let asked = round(&mut queue, None);
            prop_assert_eq!(asked.len(), heads.len(), "nobody twice: {:?}", asked);
            prop_assert_eq!(asked.iter().copied().collect::<BTreeSet<_>>(), heads.clone());

            let goes = goes.map(|goes| asked[goes.index(asked.len())]);
            let asked = round(&mut queue, goes);
            let mut left: Vec<(u8, Key)> = clients.iter().copied().zip(keys).collect();
            left.retain(|(_, key)| Some(*key) != goes);
            let after = goes.and_then(|goes| asked.iter().position(|key| *key == goes));
            let after = &asked[after.map_or(0, |place| place + 1)..];
            for name in left.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>() {
                let head = left.iter().find(|(of, _)| *of == name).unwrap().1;
                prop_assert!(after.contains(&head), "{head} is not asked about: {after:?}");
            }
            prop_assert_eq!(queue.len(), left.len());
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let (mut queue, keys) = parked(&[1; LIMITS.size]);
        let client = "other".into();
        let mut full = |load, now| {
            let parked = queue.park(&client, 0, LIMITS, LATER, about(load), at(now));
            parked.unwrap_err().retry_after
        };
        assert_eq!(full(Some(40), 7), Some(40), "the load that is ahead");
        assert_eq!(
            full(None, 7),
            Some(7),
            "else as long as the first one waits"
        );
        assert_eq!(full(Some(900), 7), Some(60), "a minute at most");
        let mut late = |load| match queue.look(keys[0], about(load), at(300)) {
            Decision::Refuse(error) => error.retry_after,
            other => panic!("{other:?}"),
        };
        assert_eq!((late(Some(40)), late(None)), (Some(40), Some(60)));
    }

    #[test]
    fn the_first_reason_to_send_everybody_away_counts() {
        let (mut queue, keys) = parked(&[1, 2]);
        let (stopped, closed) = (ApiError::being_stopped("alpha"), ApiError::shutting_down());
        assert_eq!(queue.dismiss(&stopped), keys);
        assert_eq!(queue.close(&closed), keys);
        assert_eq!(
            queue.look(keys[1], about(None), at(1)),
            Decision::Refuse(stopped)
        );
        let parked = queue.park(&"3".into(), 3, LIMITS, LATER, about(None), at(1));
        assert_eq!(parked, Err(closed));
    }
}
