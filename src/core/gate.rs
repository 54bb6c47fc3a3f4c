//! The gate of a model and the leases it grants.
//!
//! A request for a loaded model must not queue behind the supervisor. So every model has a
//! [`Gate`]: an open flag and the number of requests in flight in one atomic. While it is open a
//! request enters with one atomic operation; the supervisor closes it first and then waits for the
//! count to reach zero. A [`Lease`] is the right to use the worker; dropping it gives it back, and
//! tells those who are [`Parking`] before the gate, if there are any.
//!
//! The real hub and the simulated one have the same gates; each brings its clock as a [`Runtime`].

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::parking::Parking;
use super::vital_signs::VitalSigns;
use super::watchdog::Errors;

/// The text for clients when a worker gives no answer.
const BAD_GATEWAY: u16 = 502;

/// Leases that are out are counted in the bits below it.
const OPEN: u64 = 1 << 31;

/// Leases that came back are counted in the bits above [`OPEN`], for ever and round again.
const ONE_BACK: u64 = 1 << 32;

/// The clock of a gate begins with so many milliseconds: the gate may have been left before, under another hub.
const BEFORE_MADE: u64 = 1 << 40;

/// The clocks of a hub, and its way to wake who waits.
pub trait Runtime: Debug {
    /// Wakes one request, or the supervisor.
    type Bell: Bell;

    /// Time on a monotonic clock: a step of the other one must neither unload a model at once nor keep one
    /// for ever.
    fn now(&self) -> Duration;
    /// Unix milliseconds, for people.
    fn unix_ms(&self) -> u64;
    /// The last lease of a closed gate has come back.
    fn drained(&self);
}

/// Wakes whoever waits for it.
pub trait Bell: Clone + Debug {
    /// Wakes them now, or as soon as they wait.
    fn ring(&self);
}

fn leases(word: u64) -> u64 {
    word & (OPEN - 1)
}

/// The state of a gate under the hub before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct GatePast {
    last_used_ms: u64,
    idle: Duration,
}

/// Open flag and in-flight count of one model.
#[derive(Debug)]
pub struct Gate<R: Runtime> {
    /// [`OPEN`], the number of leases that are out, and of those that came back.
    word: AtomicU64,
    /// Unix milliseconds of the last lease taken or given back, for people; 0 for never.
    last_used_ms: AtomicU64,
    /// Time at which it was last opened or left, by [`Gate::now_ms`].
    last_active_ms: AtomicU64,
    /// True if it goes on being as idle as it was under the hub before when it is opened.
    stays_idle: AtomicBool,
    /// The worker's vital signs.
    pub(crate) signs: VitalSigns,
    /// Told when any lease is returned.
    pub(crate) parking: Parking<R::Bell>,
    pub(crate) runtime: R,
}

impl<R: Runtime + Default> Default for Gate<R> {
    fn default() -> Self {
        Self::new(R::default())
    }
}

impl<R: Runtime> Gate<R> {
    /// A closed gate.
    pub fn new(runtime: R) -> Self {
        let gate = Self {
            word: AtomicU64::default(),
            last_used_ms: AtomicU64::default(),
            last_active_ms: AtomicU64::default(),
            stays_idle: AtomicBool::default(),
            signs: VitalSigns::default(),
            parking: Parking::default(),
            runtime,
        };
        gate.be_active();
        gate
    }

    /// Enters when the gate is open. Wait-free but for contention on one word.
    pub fn try_enter(self: &Arc<Self>) -> Option<Lease<R>> {
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                (word & OPEN != 0).then_some(word + 1)
            })
            .ok()?;
        self.be_used();
        Some(Lease {
            gate: Arc::clone(self),
            owed: Owed::Nothing,
        })
    }

    /// A lease for a request that the hub before has let in: nothing is unloaded under it.
    pub(crate) fn lease_of_before(self: &Arc<Self>) -> Lease<R> {
        self.word.fetch_add(1, Ordering::AcqRel);
        Lease {
            gate: Arc::clone(self),
            owed: Owed::Nothing,
        }
    }

    /// Its last use and its idleness, for the hub that takes over.
    pub(crate) fn past(&self) -> GatePast {
        GatePast {
            last_used_ms: self.last_used_ms.load(Ordering::Relaxed),
            idle: self.idle(self.runtime.now()),
        }
    }

    /// Goes on from there. Opening it for the first time is no use.
    pub(crate) fn inherit(&self, past: GatePast) {
        let idle_ms = u64::try_from(past.idle.as_millis()).unwrap_or(u64::MAX);
        let last_active = self.now_ms().saturating_sub(idle_ms);
        self.last_used_ms
            .store(past.last_used_ms, Ordering::Relaxed);
        self.last_active_ms.store(last_active, Ordering::Relaxed);
        self.stays_idle.store(true, Ordering::Relaxed);
    }

    /// Lets requests in.
    pub(crate) fn open(&self) {
        if !self.stays_idle.swap(false, Ordering::Relaxed) {
            self.be_active();
        }
        self.signs.begin();
        self.word.fetch_or(OPEN, Ordering::AcqRel);
    }

    /// Lets requests in as if it had never been closed.
    pub(crate) fn reopen(&self) {
        self.word.fetch_or(OPEN, Ordering::AcqRel);
    }

    /// Lets no more requests in; those inside stay.
    pub(crate) fn close(&self) {
        self.word.fetch_and(!OPEN, Ordering::AcqRel);
    }

    /// Closes the gate unless a request is inside; says whether it is closed now.
    pub(crate) fn close_if_idle(&self) -> bool {
        self.word
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                (leases(word) == 0).then_some(word & !OPEN)
            })
            .is_ok()
    }

    /// True if it lets requests in.
    pub(crate) fn is_open(&self) -> bool {
        self.word.load(Ordering::Acquire) & OPEN != 0
    }

    /// Requests in flight.
    pub fn active(&self) -> usize {
        usize::try_from(leases(self.word.load(Ordering::Acquire))).unwrap_or(usize::MAX)
    }

    /// A number that changes with every lease that comes back.
    pub(crate) fn given_back(&self) -> u64 {
        self.word.load(Ordering::SeqCst) / ONE_BACK
    }

    /// Time at which a request last began or ended, Unix seconds.
    pub fn last_used_at(&self) -> Option<f64> {
        match self.last_used_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(ms as f64 / 1000.0),
        }
    }

    /// Since it was last opened or a request last ended, whichever is later; zero while a
    /// request is inside. It is `now` on the gate's clock.
    pub(crate) fn idle(&self, now: Duration) -> Duration {
        if self.active() > 0 {
            return Duration::ZERO;
        }
        let last_active = Duration::from_millis(self.last_active_ms.load(Ordering::Relaxed));
        (now + Duration::from_millis(BEFORE_MADE)).saturating_sub(last_active)
    }

    /// The worker's errors in a row, if there are any.
    pub(crate) fn errors(&self) -> Option<Errors> {
        self.signs.errors(self.runtime.now())
    }

    fn be_used(&self) {
        self.last_used_ms
            .store(self.runtime.unix_ms(), Ordering::Relaxed);
    }

    fn be_active(&self) {
        self.last_active_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        let now = self.runtime.now().as_millis();
        BEFORE_MADE + u64::try_from(now).unwrap_or(u64::MAX / 2)
    }
}

/// The right to send one request to a loaded model. Dropping it gives it back, whatever became of
/// the request: keep it with the response body.
#[derive(Debug)]
pub struct Lease<R: Runtime> {
    gate: Arc<Gate<R>>,
    owed: Owed,
}

/// The debt of the worker to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// None that would show its health, or none yet.
    Nothing,
    /// The next byte.
    Byte,
    /// None until the client has read the received bytes.
    NotYet,
}

impl<R: Runtime> Lease<R> {
    /// The worker has a request that the model computes for. Its body has so many bytes, if that is known,
    /// and these pieces.
    pub fn is_sent(&mut self, size: Option<usize>, body: impl FnOnce() -> Vec<Bytes>) {
        self.gate.signs.carries(size, body);
        self.owed = Owed::NotYet;
        // Without a size some of it is still on its way from the client: until then the worker waits.
        if size.is_some() {
            self.waits();
        }
    }

    /// The next byte is the worker's to send.
    pub fn waits(&mut self) {
        if self.owed == Owed::NotYet {
            self.owed = Owed::Byte;
            self.gate.signs.wait();
        }
    }

    /// A part of the answer has arrived. The next is not waited for until the client asks for it.
    pub fn sign_of_life(&mut self) {
        if self.owed != Owed::Nothing {
            self.gate.signs.sign(self.owed == Owed::Byte);
            self.owed = Owed::NotYet;
        }
    }

    /// The answer has begun, with this status.
    pub fn answered(&mut self, status: u16) {
        if self.owed != Owed::Nothing {
            self.sign_of_life();
            self.note_answer(status);
        }
    }

    /// The worker broke off, with nothing that could be called an answer.
    pub fn broke_off(&self) {
        if self.owed != Owed::Nothing {
            self.note_answer(BAD_GATEWAY);
        }
    }

    fn note_answer(&self, status: u16) {
        let Gate { signs, runtime, .. } = &*self.gate;
        signs.answered(status, || runtime.now());
    }
}

impl<R: Runtime> Drop for Lease<R> {
    fn drop(&mut self) {
        if self.owed == Owed::Byte {
            self.gate.signs.leave();
        }
        self.gate.be_used();
        self.gate.be_active();
        // One out less and one back more, in one step. A request that queues looks at this word after
        // it has said that it listens, so that one of the two sees the other.
        let before = self.gate.word.fetch_add(ONE_BACK - 1, Ordering::SeqCst);
        if leases(before) == 1 && before & OPEN == 0 {
            self.gate.runtime.drained();
        }
        self.gate.parking.lease_ended(leases(before) == 1);
    }
}
