//! The requests in flight, for those who list and cancel them. An ended one leaves by itself.
//!
//! The gateway registers each when it arrives, by one push into its thread's ring and without a lock; who lists pays for
//! the rest. All of it costs a request 80 ns (one allocation, one push, one waker), a four-hundredth of what a
//! passed-through one takes. A slab with shared reads would need a free list, which is a second such queue.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;
use futures_util::task::AtomicWaker;
use http::{HeaderValue, Method};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::per_thread::{PerThread, taken};
use super::registry::Model;
use crate::api::{RequestInFlight, Stage, unix_now};

/// Requests that a thread registers between two lists, until the oldest of them are looked at. An ended one takes its
/// memory until then: so many fit into the cache of a core.
const FRESH: usize = 256;

/// Times that a push makes room by moving the oldest; only a list in progress keeps it from that.
const TRIES: usize = 8;

/// A request in flight, as others see it.
#[derive(Debug)]
pub struct Flight {
    /// Its `X-Request-ID`.
    pub id: HeaderValue,
    /// When it arrived.
    pub began: Instant,
    /// The client's address.
    pub client: IpAddr,
    /// The name of the API that the client speaks.
    pub protocol: &'static str,
    /// The method.
    pub method: Method,
    /// The path; a copy, for a slice of the head would keep the whole buffer in memory.
    pub path: Cow<'static, str>,
    /// The model that it names.
    named: OnceLock<Arc<Model>>,
    /// The model that it was admitted to.
    goes_to: OnceLock<Arc<Model>>,
    stage: AtomicU8,
    is_cancelled: AtomicBool,
    /// Tells its connection, for the case that its client does not read.
    connection: Arc<AtomicBool>,
    /// Wakes the task that answers it. All of a connection is one task, so it is told once.
    waker: AtomicWaker,
}

impl Flight {
    /// One that has arrived; `connection` is set when it is cancelled.
    pub fn new(
        id: HeaderValue,
        began: Instant,
        client: IpAddr,
        protocol: &'static str,
        method: Method,
        path: Cow<'static, str>,
        connection: Arc<AtomicBool>,
    ) -> Self {
        Self {
            id,
            began,
            client,
            protocol,
            method,
            path,
            named: OnceLock::new(),
            goes_to: OnceLock::new(),
            stage: AtomicU8::new(Stage::Waiting as u8),
            is_cancelled: AtomicBool::new(false),
            connection,
            waker: AtomicWaker::new(),
        }
    }

    /// The id as text.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Notes the model that it names, where it waits for it or is refused.
    pub fn names(&self, model: &Arc<Model>) {
        let _ = self.named.set(Arc::clone(model));
    }

    /// Notes the model that it was admitted to.
    pub fn goes_to(&self, model: &Arc<Model>) {
        let _ = self.goes_to.set(Arc::clone(model));
    }

    /// The model that it goes to, or names.
    pub fn model(&self) -> Option<&Arc<Model>> {
        self.goes_to.get().or_else(|| self.named.get())
    }

    /// Notes how far it is.
    pub fn is_at(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// True once it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }

    /// Ready once it was cancelled; the task of `cx` is woken for it from now on.
    pub fn poll_cancelled(&self, cx: &Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        match self.is_cancelled.load(Ordering::Acquire) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn cancel(&self) {
        self.connection.store(true, Ordering::Relaxed);
        self.is_cancelled.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn stage(&self) -> Stage {
        let stage = self.stage.load(Ordering::Relaxed);
        let is_it = |other: &Stage| *other as u8 == stage;
        Stage::ALL.into_iter().find(is_it).unwrap_or_default()
    }
}

/// All of them.
#[derive(Debug)]
pub(in crate::hub) struct Flights {
    /// Those not listed yet.
    fresh: PerThread<ArrayQueue<Weak<Flight>>>,
    listed: Mutex<Listed>,
}

#[derive(Debug, Default)]
struct Listed {
    /// The number of the newest.
    newest: u64,
    flights: Vec<Numbered>,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    /// When it arrived, Unix seconds.
    time: f64,
    flight: Weak<Flight>,
}

impl Default for Flights {
    fn default() -> Self {
        Self {
            fresh: PerThread::new(|| ArrayQueue::new(FRESH)),
            listed: Mutex::default(),
        }
    }
}

impl Flights {
    /// Registers one. Waits for nobody.
    pub(in crate::hub) fn register(&self, flight: &Arc<Flight>) {
        let fresh = self.fresh.own();
        let mut oldest = Arc::downgrade(flight);
        for _ in 0..TRIES {
            match fresh.force_push(oldest) {
                None => return,
                Some(pushed_out) if pushed_out.strong_count() == 0 => return,
                Some(pushed_out) => match self.listed.try_lock() {
                    Some(mut listed) => return listed.add(pushed_out),
                    // Those who list make room.
                    None => oldest = pushed_out,
                },
            }
        }
    }

    /// Those of the moment; each keeps its number.
    pub(in crate::hub) fn list(&self) -> Vec<RequestInFlight> {
        let listed = self.drained();
        let flights = listed.flights.iter();
        flights.filter_map(Numbered::shown).collect()
    }

    /// Cancels those with that id, which a client may have given to several; returns their number.
    pub(in crate::hub) fn cancel(&self, id: &str) -> usize {
        let listed = self.drained();
        let flights = listed.flights.iter();
        let flights = flights.filter_map(|numbered| numbered.flight.upgrade());
        let cancelled = flights.filter(|flight| flight.id() == id && !flight.is_cancelled());
        cancelled.map(|flight| flight.cancel()).count()
    }

    fn drained(&self) -> parking_lot::MutexGuard<'_, Listed> {
        let mut listed = self.listed.lock();
        let mut fresh: Vec<_> = self.fresh.all().flat_map(taken).collect();
        fresh.retain(|flight| flight.strong_count() > 0);
        fresh.sort_by_cached_key(|flight| flight.upgrade().map(|flight| flight.began));
        for flight in fresh {
            listed.add(flight);
        }
        listed.forget_ended();
        listed
    }
}

impl Listed {
    fn add(&mut self, flight: Weak<Flight>) {
        let Some(began) = flight.upgrade().map(|flight| flight.began) else {
            return;
        };
        if self.flights.len() == self.flights.capacity() {
            self.forget_ended();
        }
        self.newest += 1;
        self.flights.push(Numbered {
            number: self.newest,
            time: unix_now() - began.elapsed().as_secs_f64(),
            flight,
        });
    }

    fn forget_ended(&mut self) {
        let flights = &mut self.flights;
        flights.retain(|numbered| numbered.flight.strong_count() > 0);
    }
}

impl Numbered {
    fn shown(&self) -> Option<RequestInFlight> {
        let flight = self.flight.upgrade()?;
        Some(RequestInFlight {
            number: self.number,
            id: flight.id().to_owned(),
            time: self.time,
            client: flight.client.to_string(),
            protocol: flight.protocol.to_owned(),
            method: flight.method.to_string(),
            path: flight.path.to_string(),
            model: flight.model().map(|model| model.name.to_string()),
            stage: flight.stage(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight(id: &'static str) -> Arc<Flight> {
        Arc::new(Flight::new(
            HeaderValue::from_static(id),
            Instant::now(),
            [127, 0, 0, 1].into(),
            "openai",
            Method::POST,
            "/v1/chat/completions".into(),
            Arc::default(),
        ))
    }

    fn ids(flights: &Flights) -> Vec<(u64, String)> {
        let listed = flights.list().into_iter();
        listed.map(|flight| (flight.number, flight.id)).collect()
    }

    #[test]
    fn a_flight_is_listed_under_one_number_until_it_has_ended() {
        let flights = Flights::default();
        let (one, two) = (flight("one"), flight("two"));
        flights.register(&one);
        flights.register(&two);
        let both = [(1, "one".to_owned()), (2, "two".to_owned())];
        assert_eq!(ids(&flights), both);
        assert_eq!(flights.list()[0].stage, Stage::Waiting);
        one.is_at(Stage::Answering);
        assert_eq!(flights.list()[0].stage, Stage::Answering);
        drop(one);
        assert_eq!(ids(&flights), both[1..]);
        assert_eq!(flights.cancel("one"), 0);
    }

    #[test]
    fn one_that_lasts_stays_listed_however_many_come_and_go() {
        let flights = Flights::default();
        let lasting: Vec<_> = (0..2 * FRESH).map(|_| flight("lasts")).collect();
        for one in &lasting {
            flights.register(one);
            for _ in 0..3 {
                flights.register(&flight("short"));
            }
        }
        assert_eq!(flights.list().len(), lasting.len());
        assert!(flights.list().iter().all(|flight| flight.id == "lasts"));
        drop(lasting);
        assert!(flights.list().is_empty());
    }

    #[test]
    fn a_cancelled_flight_wakes_its_task_and_knows() {
        let flights = Flights::default();
        let (one, other, namesake) = (flight("one"), flight("other"), flight("one"));
        for flight in [&one, &other, &namesake] {
            flights.register(flight);
        }
        let (waker, wakes) = counting_waker();
        let cx = Context::from_waker(&waker);
        assert!(one.poll_cancelled(&cx).is_pending());
        assert_eq!(flights.cancel("one"), 2);
        assert_eq!(wakes.load(Ordering::Relaxed), 1);
        assert!(one.poll_cancelled(&cx).is_ready() && namesake.is_cancelled());
        assert!(!other.is_cancelled());
        assert_eq!(flights.cancel("one"), 0, "they are cancelled");
        assert_eq!(flights.cancel("none"), 0);
    }

    fn counting_waker() -> (std::task::Waker, Arc<std::sync::atomic::AtomicUsize>) {
        struct Counts(Arc<std::sync::atomic::AtomicUsize>);
        impl std::task::Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let wakes = Arc::default();
        (Arc::new(Counts(Arc::clone(&wakes))).into(), wakes)
    }
}
