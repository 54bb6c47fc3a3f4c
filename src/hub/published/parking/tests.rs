//! The queue of one model, on a clock that the test holds.

use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use std::time::Duration;

use tokio::sync::Notify;

use super::*;
use crate::core::admission::Seen;
use crate::core::place::Destination as _;
use crate::core::queue::QueueLimits;

/// True if a future is ready now.
fn is_ready(future: Pin<&mut impl Future>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    future.poll(&mut context).is_ready()
}

const LIMITS: QueueLimits = QueueLimits {
    size: 3,
    timeout: Duration::from_secs(300),
};

fn model() -> Arc<Model> {
    let model = Arc::new(Model::new("alpha"));
    model.gate.open();
    model
}

fn park_for(model: &Arc<Model>, client: &str, seconds: f64) -> Result<Ticket, ApiError> {
    park_after(model, model.seen(), client, seconds)
}

fn park_after(
    model: &Arc<Model>,
    seen: Seen,
    client: &str,
    seconds: f64,
) -> Result<Ticket, ApiError> {
    let client = Arc::from(client);
    Ticket::take(model, seen, Arc::default(), &client, LIMITS, seconds)
}

fn park(model: &Arc<Model>, client: &str) -> Ticket {
    park_for(model, client, 600.0).unwrap()
}

/// True if it is to be asked about now.
fn is_called(place: &mut Ticket) -> bool {
    is_ready(pin!(place.called()))
}

fn end_a_lease(model: &Arc<Model>) {
    drop(model.gate.try_enter().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_comes_back_calls_one_after_the_other_in_turn() {
    let model = model();
    let (mut first, mut second) = (park(&model, "many"), park(&model, "many"));
    let mut other = park(&model, "one");
    assert!(!is_called(&mut first) && !is_called(&mut second) && !is_called(&mut other));
    end_a_lease(&model);
    assert!(!is_called(&mut other) && !is_called(&mut second));
    assert!(is_called(&mut first));
    // It is told to wait on: the next client, and none twice.
    first.stay(600.0);
    assert!(
        !is_called(&mut second),
        "behind one of its client that waits"
    );
    assert!(is_called(&mut other));
    other.stay(600.0);
    assert!(!is_called(&mut first) && !is_called(&mut second) && !is_called(&mut other));
    // It goes: the others are asked about, its client last.
    end_a_lease(&model);
    assert!(is_called(&mut first));
    assert!(!is_called(&mut other), "not before that is counted");
    first.leave();
    assert!(is_called(&mut other));
    other.stay(600.0);
    // Something has changed by its going: another round, in which its client comes last.
    assert!(!is_called(&mut second) && is_called(&mut other));
    other.stay(600.0);
    assert!(is_called(&mut second));
    assert_eq!(model.gate.parking.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_with_the_turn_passes_it_on() {
    let model = model();
    let (mut first, mut second) = (park(&model, "a"), park(&model, "b"));
    end_a_lease(&model);
    assert!(is_called(&mut first));
    drop(first);
    assert!(is_called(&mut second));
}

#[tokio::test(start_paused = true)]
async fn a_change_while_one_is_asked_about_is_not_missed() {
    let model = model();
    let mut place = park(&model, "a");
    end_a_lease(&model);
    assert!(is_called(&mut place));
    end_a_lease(&model);
    place.stay(600.0);
    assert!(is_called(&mut place));
    place.stay(600.0);
    assert!(!is_called(&mut place));
}

#[tokio::test(start_paused = true)]
async fn a_change_while_one_is_asked_about_because_of_its_time_is_not_missed() {
    let model = model();
    let mut place = park_for(&model, "a", 1.0).unwrap();
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(is_called(&mut place));
    end_a_lease(&model);
    place.stay(600.0);
    assert!(is_called(&mut place));
}

#[tokio::test(start_paused = true)]
async fn a_change_between_verdict_and_place_is_not_missed() {
    let model = model();
    let seen = model.seen();
    end_a_lease(&model);
    let mut place = park_after(&model, seen, "a", 600.0).unwrap();
    assert!(is_called(&mut place));
}

#[tokio::test(start_paused = true)]
async fn a_place_asks_again_after_its_seconds_and_not_before_100_ms() {
    let model = model();
    let (mut later, mut soon) = (park(&model, "a"), park_for(&model, "a", 0.0).unwrap());
    assert!(!is_called(&mut soon));
    tokio::time::advance(Duration::from_millis(99)).await;
    assert!(!is_called(&mut soon));
    tokio::time::advance(Duration::from_millis(2)).await;
    assert!(is_called(&mut soon), "its time does not wait for a turn");
    soon.stay(0.0);
    assert!(!is_called(&mut soon) && !is_called(&mut later));
}

#[tokio::test(start_paused = true)]
async fn a_place_lasts_for_queue_timeout() {
    let model = model();
    let mut place = park(&model, "a");
    tokio::time::advance(LIMITS.timeout).await;
    let error = place.called().await.unwrap_err();
    assert_eq!((error.status, error.retry_after), (429, Some(60)));
    assert!(error.message.contains("`alpha`") && error.message.contains("`queue_timeout`"));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_nobody_and_says_when_to_come_back() {
    let model = model();
    let mut places: Vec<Ticket> = (0..3).map(|_| park(&model, "a")).collect();
    tokio::time::advance(Duration::from_millis(6500)).await;
    let error = park_for(&model, "b", 1.0).unwrap_err();
    assert_eq!((error.status, error.retry_after), (429, Some(7)));
    assert!(error.message.contains("`alpha`") && error.message.contains("`queue_size` is 3"));
    places.pop();
    drop(park(&model, "b"));
    assert_eq!(model.gate.parking.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn one_that_steps_aside_holds_nobody_up_but_its_own_client() {
    let model = model();
    let (mut first, mut behind) = (park(&model, "a"), park(&model, "a"));
    let mut other = park(&model, "b");
    end_a_lease(&model);
    assert!(is_called(&mut first));
    first.step_aside();
    assert!(is_called(&mut other));
    other.stay(600.0);
    end_a_lease(&model);
    assert!(is_called(&mut other) && !is_called(&mut behind));
    other.stay(600.0);
    first.step_back();
    assert!(is_called(&mut first));
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_sends_everybody_away() {
    let model = model();
    let mut place = park(&model, "a");
    let why = ApiError::shutting_down();
    model.gate.parking.dismiss(&why);
    assert_eq!(place.called().await, Err(why.clone()));
    assert!(park_for(&model, "a", 1.0).is_ok(), "the next may try");
    model.gate.parking.close(&why);
    assert_eq!(park_for(&model, "a", 1.0).unwrap_err(), why);
}

#[tokio::test(start_paused = true)]
async fn the_supervisor_hears_of_the_last_lease_while_it_listens() {
    let model = model();
    let idle = Arc::new(Notify::new());
    let parking = &model.gate.parking;
    parking.tell_when_idle(Some(&idle));
    let (one, two) = (model.gate.try_enter().unwrap(), model.gate.try_enter());
    drop(one);
    assert!(!is_ready(pin!(idle.notified())));
    drop(two);
    assert!(is_ready(pin!(idle.notified())));
    parking.tell_when_idle(None);
    end_a_lease(&model);
    assert!(!is_ready(pin!(idle.notified())));
    assert!(!parking.has_listeners(), "the hot path is short again");
}

/// Threads that end leases and one that parks, on real threads: a request that parks is always called.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_lease_ends_unseen() {
    for _ in 0..2000 {
        let model = model();
        let lease = model.gate.try_enter().unwrap();
        // The verdict is reached while the lease is out.
        let seen = model.seen();
        let ending = std::thread::spawn(move || drop(lease));
        let mut place = park_after(&model, seen, "a", 600.0).unwrap();
        let called = tokio::time::timeout(Duration::from_secs(60), place.called());
        assert_eq!(called.await, Ok(Ok(())));
        ending.join().unwrap();
    }
}
