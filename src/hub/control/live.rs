//! `GET /hub/events`: the snapshot and then each change of it, as server-sent events.
//!
//! One builder makes the events of all pages, at most ten times a second, and only while a page listens. A
//! page gets one `status` event, which is the body of `GET /hub/status`, and `change` events after it: the
//! same without the models that are as they were.
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
use crate::api::Status;

/// Shortest time between two events of a page.
const PACE: Duration = Duration::from_millis(100);

/// Longest silence: a comment follows, so that nothing between hub and page takes the stream for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// Changes that a slow page may be behind; one that is further behind gets a new `status`.
const BEHIND: usize = 16;

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
                changes,
            }
        });
        (
            event("status", &building.last),
            building.changes.subscribe(),
        )
    }

    /// Builds events until nobody listens.
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
            if let Some(change) = Change::between(&building.last, &status) {
                building.last = status;
                // A page may have left just now.
                let _ = building.changes.send(event("change", &change));
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

fn event(name: &str, data: &impl Serialize) -> Bytes {
    // Nothing of a snapshot is anything but text, numbers and lists of them.
    let data = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use serde_json::Value;

    use super::super::tests::TableHub;
    use super::*;
    use crate::api::{Activity, ModelFacts};

    async fn next(
        page: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin),
    ) -> (String, Value) {
        let event = page.next().await.unwrap().unwrap();
        let event = String::from_utf8(event.to_vec()).unwrap();
        let (name, data) = event.split_once("\ndata: ").unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        let data = data.strip_suffix("\n\n").unwrap();
        (name.to_owned(), serde_json::from_str(data).unwrap())
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
        let live = Live::default();
        let mut page = Box::pin(live.events(&hub));
        let (name, first) = next(&mut page).await;
        assert_eq!(name, "status");
        assert_eq!(first, serde_json::to_value(hub.status()).unwrap());

        hub.models.lock()[1].0.pid = Some(7);
        let (name, change) = next(&mut page).await;
        assert_eq!((name.as_str(), ids(&change)), ("change", vec!["beta"]));
        assert_eq!(change["models"][0]["metadata"]["pid"], 7);
        assert_eq!(change.get("order"), None);

        hub.models.lock().remove(0);
        let (_, change) = next(&mut page).await;
        assert_eq!(change["order"], serde_json::json!(["beta"]));
        assert_eq!(change["counts"]["registered"], 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_within_a_tenth_of_a_second_and_silence_is_broken_by_a_comment() {
        let hub = hub_of(&["alpha"]);
        let mut page = Box::pin(Live::default().events(&hub));
        next(&mut page).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(page.next().await.unwrap().unwrap(), COMMENT);
        assert_eq!(begun.elapsed(), SILENCE);

        hub.models.lock()[0].0.port = Some(1);
        let begun = tokio::time::Instant::now();
        next(&mut page).await;
        assert!(begun.elapsed() <= PACE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_builder_serves_all_pages_and_none_works_for_nobody() {
        let hub = hub_of(&["alpha"]);
        let live = Live::default();
        let mut pages: Vec<_> = (0..50).map(|_| Box::pin(live.events(&hub))).collect();
        assert_eq!(live.0.tracker.len(), 1);
        let asked = hub.times_asked();
        hub.models.lock()[0].0.port = Some(1);
        for page in &mut pages {
            assert_eq!(next(page).await.0, "status");
            assert_eq!(next(page).await.0, "change");
        }
        assert!(hub.times_asked() - asked <= 3);

        drop(pages);
        tokio::time::sleep(2 * PACE).await;
        assert_eq!(live.0.tracker.len(), 0);
        assert_eq!(next(&mut Box::pin(live.events(&hub))).await.0, "status");
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_is_far_behind_gets_the_snapshot_anew() {
        let hub = hub_of(&["alpha"]);
        let live = Live::default();
        let mut page = Box::pin(live.events(&hub));
        next(&mut page).await;
        for port in 0..100 {
            hub.models.lock()[0].0.port = Some(port);
            tokio::time::sleep(PACE).await;
        }
        let (name, status) = next(&mut page).await;
        assert_eq!(name, "status");
        assert_eq!(status["models"][0]["metadata"]["port"], 99);
    }

    #[tokio::test(start_paused = true)]
    async fn the_streams_end_with_the_hub() {
        let hub = hub_of(&["alpha"]);
        let live = Live::default();
        let mut page = Box::pin(live.events(&hub));
        next(&mut page).await;
        live.0.ending.cancel();
        assert!(page.next().await.is_none());
        assert!(live.0.tracker.is_empty());
    }
}
