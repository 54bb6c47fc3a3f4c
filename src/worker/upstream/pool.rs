//! Kept-alive connections to one worker: a last-in-first-out list, so that under light load few stay
//! warm and the others run out.
//!
//! A connection has no task of its own: whoever waits for its answer moves its bytes meanwhile, so that
//! a request, its answer and the client's connection are one task and nothing has to be woken.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::debug;

use super::{Idle, RequestBody, UpstreamError};
use crate::own_wakes::OwnWakes;

/// Idle connections kept per worker and thread. Workers answer few requests at once; more would only tie up
/// file descriptors.
const MAX_IDLE: usize = 64;

/// uvicorn closes a connection that was idle for 5 s. Staying below that keeps requests off
/// connections that are about to be closed under them.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

/// hyper's read buffer grows up to this. Below 64 KiB it would refuse larger message heads; above,
/// every upload and download in flight holds more memory without being faster.
const BUFFER: usize = 64 * 1024;

/// What moves the bytes of a connection while it is polled.
type Wire = http1::Connection<TokioIo<TcpStream>, RequestBody>;

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Resting>,
    /// The task that closes what has been idle for too long, and connections that have to go on while
    /// nobody waits for them.
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Resting {
    lanes: Vec<Lane>,
    /// Whether there is a task that closes them in time.
    is_watched: bool,
}

/// The connections of one runtime: a socket is used where it was opened.
#[derive(Debug)]
struct Lane {
    home: runtime::Id,
    /// In the order in which they became idle.
    connections: Vec<Connection>,
}

impl Resting {
    fn lane(&mut self, home: runtime::Id) -> &mut Vec<Connection> {
        let found = self.lanes.iter().position(|lane| lane.home == home);
        let index = found.unwrap_or_else(|| {
            self.lanes.push(Lane {
                home,
                connections: Vec::new(),
            });
            self.lanes.len() - 1
        });
        &mut self.lanes[index].connections
    }
}

/// One connection. Dropping it closes the socket at once, whatever is in flight on it.
#[derive(Debug)]
pub(super) struct Connection {
    home: runtime::Id,
    sender: SendRequest<RequestBody>,
    driver: Driver,
    /// Of the driver: what it wakes while somebody looks at what it moved is no news.
    wakes: OwnWakes,
    /// The watch over an answer that is waited for.
    idle: Idle,
    idle_since: Instant,
}

/// Who moves a connection's bytes.
#[derive(Debug)]
enum Driver {
    /// Whoever has the connection.
    Holder(Box<Wire>),
    /// A task: see [`Pool::let_go_on`].
    Task { _abort: AbortOnDropHandle<()> },
    /// Nobody: the connection is at its end.
    Over,
}

impl Pool {
    /// The connection that became idle last and can take a request now.
    pub(super) fn take(&self) -> Option<Connection> {
        let home = Handle::current().id();
        loop {
            let mut connection = {
                let mut idle = self.idle.lock();
                let lane = idle.lane(home);
                let last = lane.pop()?;
                if last.idle_since.elapsed() >= MAX_IDLE_TIME {
                    // So has been every one before it.
                    lane.clear();
                    return None;
                }
                last
            };
            // Only now it learns what has happened to it meanwhile, the end of the last answer included.
            connection.drive();
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Takes a connection back after a complete exchange. One that a worker answered on before it had
    /// read the whole request is still tied to that; it is dropped, and so is the rest of the upload.
    pub(super) fn put(self: &Arc<Self>, mut connection: Connection) {
        if !matches!(connection.driver, Driver::Holder(_)) {
            return;
        }
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        let lane = idle.lane(connection.home);
        if lane.len() < MAX_IDLE {
            lane.push(connection);
        }
        if !idle.is_watched {
            idle.is_watched = true;
            self.tasks.spawn(close_in_time(Arc::downgrade(self)));
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self, authority: &Arc<str>) -> Result<Connection, UpstreamError> {
        let stream = TcpStream::connect(&**authority)
            .await
            .and_then(|stream| {
                // Without it a token waits for the acknowledgement of the one before.
                stream.set_nodelay(true)?;
                Ok(stream)
            })
            .map_err(|source| UpstreamError::Connect {
                authority: Arc::clone(authority),
                source,
            })?;
        let (sender, wire) = Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| UpstreamError::Exchange {
                authority: Arc::clone(authority),
                source,
            })?;
        Ok(Connection {
            home: Handle::current().id(),
            sender,
            driver: Driver::Holder(Box::new(wire)),
            wakes: OwnWakes::default(),
            idle: Idle::default(),
            idle_since: Instant::now(),
        })
    }

    /// Lets an upload go on that the worker answered before its end, also while the client does not read
    /// the answer. The connection takes no further request.
    pub(super) fn let_go_on(&self, connection: &mut Connection) {
        connection.driver = match std::mem::replace(&mut connection.driver, Driver::Over) {
            Driver::Holder(wire) => {
                let task = self.tasks.spawn(async move { note_end(wire.await) });
                Driver::Task {
                    _abort: AbortOnDropHandle::new(task),
                }
            }
            other => other,
        };
    }

    /// Closes what has been idle for too long; says when to look again, unless nothing is idle.
    fn close_expired(&self) -> Option<Instant> {
        let mut idle = self.idle.lock();
        for Lane { connections, .. } in &mut idle.lanes {
            let expired = connections
                .partition_point(|connection| connection.idle_since.elapsed() >= MAX_IDLE_TIME);
            connections.drain(..expired);
        }
        let first = idle
            .lanes
            .iter()
            .filter_map(|lane| lane.connections.first());
        let next = first
            .map(|connection| connection.idle_since + MAX_IDLE_TIME)
            .min();
        idle.is_watched = next.is_some();
        next
    }
}

/// Closes the connections of a pool when they have been idle for too long, until none is left.
async fn close_in_time(pool: Weak<Pool>) {
    let mut next = Instant::now() + MAX_IDLE_TIME;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(then) = pool.upgrade().and_then(|pool| pool.close_expired()) else {
            return;
        };
        next = then;
    }
}

fn note_end(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        debug!(%error, "connection to worker ended");
    }
}

impl Connection {
    /// Begins to send a request; [`Connection::poll_answer`] goes on with it. A failure gives it back when
    /// nothing of it was sent.
    pub(super) fn try_send(
        &mut self,
        request: Request<RequestBody>,
        patience: Duration,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<>
    {
        self.idle.begin(patience);
        self.sender.try_send_request(request)
    }

    /// Moves what can be moved now. `None` when there is no answer within the patience.
    pub(super) fn poll_answer<A: Future>(
        &mut self,
        cx: &mut Context<'_>,
        mut answer: Pin<&mut A>,
    ) -> Poll<Option<A::Output>> {
        let polled = self.poll(cx, |cx| answer.as_mut().poll(cx));
        if polled.is_pending() {
            return self.idle.poll(cx).map(|()| None);
        }
        polled.map(Some)
    }

    /// Moves what can be moved now and polls `part`, which only the bytes of this connection can make
    /// ready.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        part: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.driver.poll(&self.wakes, cx, part)
    }

    /// Moves what can be moved now.
    fn drive(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let _ = self.poll(&mut cx, |_| Poll::<()>::Pending);
    }
}

impl Driver {
    fn poll<T>(
        &mut self,
        wakes: &OwnWakes,
        cx: &mut Context<'_>,
        mut part: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !matches!(self, Self::Holder(_)) {
            return part(cx);
        }
        wakes.poll(cx, |own| {
            // Looked at after each move: nobody else need wake it.
            let mut look = Context::from_waker(Waker::noop());
            let polled = part(&mut look);
            match own {
                Some(cx) if polled.is_pending() => self.drive(cx),
                _ => return polled,
            }
            part(&mut look)
        })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Self::Holder(wire) = self
            && let Poll::Ready(ended) = Pin::new(&mut **wire).poll(cx)
        {
            note_end(ended);
            *self = Self::Over;
        }
    }
}
