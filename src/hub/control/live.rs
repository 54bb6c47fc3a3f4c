//! `GET /hub/events`: the snapshot and then each change of it, as server-sent events.
//!
//! One builder makes the events of all pages, at most ten times a second, and only while a page listens. A
//! page gets one `status` event, which is the body of `GET /hub/status`, and `change` events after it: the
//! same without the models that are as they were. `requests` events have the requests that have ended: at first
//! all that are known, then the new ones. `in_flight` events have the others: those that are new or got further, and
//! the numbers of those that are gone. Requests that are over in less than a tenth of a second are not among them.
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hub::Hub;
use super::logs::Logs;
use crate::api::{RequestInFlight, Status, unix_now};

/// Shortest time between two events of a page.
const PACE: Duration = Duration::from_millis(100);

/// Longest silence: a comment follows, so that nothing between hub and page takes the stream for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// Changes that a slow page may be behind; one that is further behind gets a new `status`.
const BEHIND: usize = 16;

/// Most requests of an event; of more in so short a time the newest.
const MOST_REQUESTS: usize = 50;

const COMMENT: &[u8] = b":\n\n";

/// The builder of the events. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Live(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tracker: TaskTracker,
    ending: CancellationToken,
    /// None while no page listens.
    building: Mutex<Option<Building>>,
}

#[derive(Debug)]
struct Building {
    /// The status that all events so far amount to.
    last: Status,
    /// The number of the newest request that they tell.
    newest: u64,
    /// The requests in flight that they amount to.
    in_flight: Vec<RequestInFlight>,
    changes: broadcast::Sender<Bytes>,
}

/// A snapshot without the models that are as they were.
#[derive(Debug, Serialize)]
struct Change {
    #[serde(flatten)]
    status: Status,
    /// The names of all models in their order, if that is another one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<Vec<String>>,
}

/// The requests in flight that are others than before.
#[derive(Debug, Serialize)]
struct Flown<'a> {
    requests: Vec<&'a RequestInFlight>,
    gone: Vec<u64>,
}

/// Those that are worth telling.
fn lasting(hub: &impl Hub) -> Vec<RequestInFlight> {
    let mut requests = hub.in_flight();
    let since = unix_now() - PACE.as_secs_f64();
    requests.retain(|request| request.time <= since);
    requests
}

impl Live {
    /// A builder whose task belongs to `tracker`. Its streams end when `ending` is cancelled: a page that is
    /// left open would otherwise keep a hub that another one has replaced.
    pub fn new(tracker: TaskTracker, ending: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            tracker,
            ending,
            building: Mutex::new(None),
        }))
    }

    /// The logs, whose answers end as these do.
    pub(super) fn logs(&self) -> Logs {
        Logs {
            ending: self.0.ending.clone(),
        }
    }

    /// The answer to a page.
    pub(super) fn answer<H: Hub>(&self, hub: &H) -> Response {
        let headers = [
            (CONTENT_TYPE, "text/event-stream"),
            (CACHE_CONTROL, "no-store"),
        ];
        (headers, Body::from_stream(self.events(hub))).into_response()
    }

    fn events<H: Hub>(&self, hub: &H) -> impl Stream<Item = Result<Bytes, axum::Error>> + use<H> {
        let (first, changes) = self.listen(hub);
        let (live, hub) = (self.clone(), hub.clone());
        let listener = (Some(first), changes, live, hub);
        stream::unfold(listener, |(first, mut changes, live, hub)| async move {
            let event = match first {
                Some(first) => first,
                None => match timeout(SILENCE, changes.recv()).await {
                    Ok(Ok(change)) => change,
                    Ok(Err(RecvError::Lagged(_))) => {
                        let first;
                        (first, changes) = live.listen(&hub);
                        first
                    }
                    Ok(Err(RecvError::Closed)) => return None,
                    Err(_) => Bytes::from_static(COMMENT),
                },
            };
            Some((Ok(event), (None, changes, live, hub)))
        })
    }

    /// The `status` event of the moment, and all changes after it.
    fn listen<H: Hub>(&self, hub: &H) -> (Bytes, broadcast::Receiver<Bytes>) {
        let mut building = self.0.building.lock();
        let building = building.get_or_insert_with(|| {
            let (changes, _) = broadcast::channel(BEHIND);
            self.0.tracker.spawn(self.clone().build(hub.clone()));
            Building {
                last: hub.status(),
                newest: 0,
                in_flight: Vec::new(),
                changes,
            }
        });
        let mut requests = hub.ended_after(0);
        if building.changes.receiver_count() == 0 {
            building.newest = requests.last().map_or(0, |last| last.number);
            building.in_flight = lasting(hub);
        }
        // What is newer goes to all pages together.
        requests.retain(|request| request.number <= building.newest);
        let first = [
            event("status", &building.last),
            event("requests", &requests),
            event("in_flight", &Flown::between(&[], &building.in_flight)),
        ];
        (first.concat().into(), building.changes.subscribe())
    }

    /// Builds events until no page listens.
    async fn build<H: Hub>(self, hub: H) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ending = pin!(self.0.ending.cancelled());
        loop {
            tokio::select! {
                () = &mut ending => {
                    self.0.building.lock().take();
                    return;
                }
                _ = pace.tick() => {}
            }
            let status = hub.status();
            let mut current = self.0.building.lock();
            let Some(building) = &mut *current else {
                return;
            };
            if building.changes.receiver_count() == 0 {
                current.take();
                return;
            }
            let mut told = String::new();
            if let Some(change) = Change::between(&building.last, &status) {
                building.last = status;
                told.push_str(&event("change", &change));
            }
            let in_flight = lasting(&hub);
            if in_flight != building.in_flight {
                let flown = Flown::between(&building.in_flight, &in_flight);
                told.push_str(&event("in_flight", &flown));
                building.in_flight = in_flight;
            }
            let requests = hub.ended_after(building.newest);
            if let Some(last) = requests.last() {
                building.newest = last.number;
                let first = requests.len().saturating_sub(MOST_REQUESTS);
                told.push_str(&event("requests", &&requests[first..]));
            }
            if !told.is_empty() {
                // A page may have left just now.
                let _ = building.changes.send(told.into());
            }
        }
    }
}

impl Change {
    /// None if nothing but the time is another one.
    fn between(earlier: &Status, later: &Status) -> Option<Self> {
        let mut status = later.clone();
        (status.models).retain(|model| !earlier.models.contains(model));
        let names = |status: &Status| -> Vec<String> {
            let models = status.models.iter();
            models.map(|model| model.id.clone()).collect()
        };
        let order = Some(names(later)).filter(|order| *order != names(earlier));
        let is_same = {
            let mut other = later.clone();
            other.timestamp = earlier.timestamp;
            other == *earlier
        };
        (!is_same).then_some(Self { status, order })
    }
}

impl<'a> Flown<'a> {
    fn between(earlier: &[RequestInFlight], later: &'a [RequestInFlight]) -> Self {
        let is_gone = |before: &&RequestInFlight| {
            let is_it = |request: &RequestInFlight| request.number == before.number;
            !later.iter().any(is_it)
        };
        Self {
            requests: (later.iter())
                .filter(|request| !earlier.contains(request))
                .collect(),
            gone: (earlier.iter().filter(is_gone))
                .map(|gone| gone.number)
                .collect(),
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> String {
    // Nothing of a snapshot is anything but text, numbers and lists of them.
    let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    format!("event: {name}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;

    use futures_util::StreamExt as _;
    use serde_json::Value;
    use tokio::time::Instant;

    use super::super::tests::TableHub;
    use super::*;
    use crate::api::{Activity, EndedRequest, ModelFacts, Stage};

    /// An open page.
    struct Page {
        events: Pin<Box<dyn Stream<Item = Result<Bytes, axum::Error>>>>,
        /// Events that came together with the one before.
        more: VecDeque<(String, Value)>,
    }

    impl Page {
        async fn open(live: &Live, hub: &TableHub) -> (Self, Value) {
            let mut page = Self {
                events: Box::pin(live.events(hub)),
                more: VecDeque::new(),
            };
            let first = page.next("status").await;
            page.next("requests").await;
            page.next("in_flight").await;
            (page, first)
        }

        /// The data of the next event, which has to be of that name.
        async fn next(&mut self, name: &str) -> Value {
            if self.more.is_empty() {
                let text = self.events.next().await.unwrap().unwrap();
                let text = String::from_utf8(text.to_vec()).unwrap();
                for event in text.split_terminator("\n\n") {
                    let (name, data) = event.split_once("\ndata: ").unwrap();
                    let name = name.strip_prefix("event: ").unwrap().to_owned();
                    let data = serde_json::from_str(data).unwrap();
                    self.more.push_back((name, data));
                }
            }
            let (found, data) = self.more.pop_front().unwrap();
            assert_eq!(found, name);
            data
        }
    }

    fn hub_of(names: &[&str]) -> TableHub {
        let hub = TableHub::default();
        for name in names {
            let facts = ModelFacts {
                name: (*name).to_owned(),
                ..ModelFacts::default()
            };
            hub.models.lock().push((facts, Activity::default()));
        }
        hub
    }

    fn ids(event: &Value) -> Vec<&str> {
        let models = event["models"].as_array().unwrap().iter();
        models.map(|model| model["id"].as_str().unwrap()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_gets_the_snapshot_and_then_only_models_that_have_changed() {
        let hub = hub_of(&["alpha", "beta"]);
        let (mut page, first) = Page::open(&Live::default(), &hub).await;
        assert_eq!(first, serde_json::to_value(hub.status()).unwrap());

        hub.models.lock()[1].0.pid = Some(7);
        let change = page.next("change").await;
        assert_eq!(ids(&change), ["beta"]);
        assert_eq!(change["models"][0]["metadata"]["pid"], 7);
        assert_eq!(change.get("order"), None);

        hub.models.lock().remove(0);
        let change = page.next("change").await;
        assert_eq!(change["order"], serde_json::json!(["beta"]));
        assert_eq!(change["counts"]["registered"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_ended_are_told_once() {
        let hub = hub_of(&["alpha"]);
        let ended = |number| EndedRequest {
            number,
            ..EndedRequest::default()
        };
        let numbers = |told: Value| -> Vec<u64> {
            let told = told.as_array().unwrap().iter();
            told.map(|request| request["number"].as_u64().unwrap())
                .collect()
        };
        let live = Live::default();
        let (mut early, _) = Page::open(&live, &hub).await;
        hub.ended.lock().extend([ended(1), ended(2)]);
        assert_eq!(numbers(early.next("requests").await), [1, 2]);

        let mut late = Page {
            events: Box::pin(live.events(&hub)),
            more: VecDeque::new(),
        };
        late.next("status").await;
        assert_eq!(numbers(late.next("requests").await), [1, 2]);
        late.next("in_flight").await;
        hub.ended.lock().push(ended(3));
        assert_eq!(numbers(early.next("requests").await), [3]);
        assert_eq!(numbers(late.next("requests").await), [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_told_as_they_change() {
        let hub = hub_of(&["alpha"]);
        let in_flight = |number, stage| RequestInFlight {
            number,
            stage,
            ..RequestInFlight::default()
        };
        let told = |event: Value| -> (Vec<u64>, Vec<u64>) {
            let numbers = |key: &str, of: fn(&Value) -> &Value| -> Vec<u64> {
                let all = event[key].as_array().unwrap().iter();
                all.map(|one| of(one).as_u64().unwrap()).collect()
            };
            (
                numbers("requests", |one| &one["number"]),
                numbers("gone", |one| one),
            )
        };
        let live = Live::default();
        let (mut early, _) = Page::open(&live, &hub).await;
        (hub.in_flight.lock()).extend([1, 2].map(|number| in_flight(number, Stage::Waiting)));
        assert_eq!(told(early.next("in_flight").await), (vec![1, 2], vec![]));
        hub.in_flight.lock()[1].stage = Stage::Sent;
        assert_eq!(told(early.next("in_flight").await), (vec![2], vec![]));
        *hub.in_flight.lock() = vec![in_flight(2, Stage::Sent)];
        assert_eq!(told(early.next("in_flight").await), (vec![], vec![1]));

        let mut late = Page {
            events: Box::pin(live.events(&hub)),
            more: VecDeque::new(),
        };
        late.next("status").await;
        late.next("requests").await;
        assert_eq!(told(late.next("in_flight").await), (vec![2], vec![]));

        // One that is over at once is nothing to look at.
        let just_now = RequestInFlight {
            time: unix_now() + 3600.0,
            ..in_flight(3, Stage::Waiting)
        };
        hub.in_flight.lock().push(just_now);
        hub.models.lock()[0].0.port = Some(1);
        early.next("change").await;
        assert!(early.more.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_within_a_tenth_of_a_second_and_silence_is_broken_by_a_comment() {
        let hub = hub_of(&["alpha"]);
        let (mut page, _) = Page::open(&Live::default(), &hub).await;
        let begun = Instant::now();
        assert_eq!(page.events.next().await.unwrap().unwrap(), COMMENT);
        assert_eq!(begun.elapsed(), SILENCE);

        hub.models.lock()[0].0.port = Some(1);
        let begun = Instant::now();
        page.next("change").await;
        assert!(begun.elapsed() <= Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn one_builder_serves_all_pages_and_none_works_for_nobody() {
        let hub = hub_of(&["alpha"]);
        let live = Live::default();
        let mut pages = Vec::new();
        for _ in 0..50 {
            pages.push(Page::open(&live, &hub).await.0);
        }
        assert_eq!(live.0.tracker.len(), 1);
        let asked = hub.times_asked();
        hub.models.lock()[0].0.port = Some(1);
        for page in &mut pages {
            page.next("change").await;
        }
        assert!(hub.times_asked() - asked <= 2);

        drop(pages);
        tokio::time::sleep(2 * PACE).await;
        assert_eq!(live.0.tracker.len(), 0);
        Page::open(&live, &hub).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_is_far_behind_gets_the_snapshot_anew() {
        let hub = hub_of(&["alpha"]);
        let (mut page, _) = Page::open(&Live::default(), &hub).await;
        for port in 0..100 {
            hub.models.lock()[0].0.port = Some(port);
            tokio::time::sleep(PACE).await;
        }
        let status = page.next("status").await;
        assert_eq!(status["models"][0]["metadata"]["port"], 99);
    }

    #[tokio::test(start_paused = true)]
    async fn the_streams_end_with_the_hub() {
        let live = Live::default();
        let (mut page, _) = Page::open(&live, &hub_of(&["alpha"])).await;
        live.0.ending.cancel();
        assert!(page.events.next().await.is_none());
        assert!(live.0.tracker.is_empty());
    }
}
