//! Kept-alive connections to one worker: a last-in-first-out list, so that under light load a few are reused
//! and the others expire.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::{self, Handle};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::sending::Sending;

/// Idle connections kept per worker and thread. Workers answer few requests at once; more would only tie up
/// file descriptors.
const MAX_IDLE: usize = 64;

/// uvicorn closes a connection that was idle for 5 s. Staying below that keeps requests off
/// connections that are about to be closed under them.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

/// Number of shelves; further threads share them.
const SHELVES: usize = 8;

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    shelves: [Shelf; SHELVES],
    /// The tasks that close expired connections, and those that finish uploads.
    tasks: TaskTracker,
}

/// The idle connections that a thread has put there. Threads hardly ever contend for one, and no two shelves
/// share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shelf(Mutex<Resting>);

#[derive(Debug, Default)]
struct Resting {
    lanes: Vec<Lane>,
    /// True if there is a task that closes them in time.
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

impl Pool {
    /// The connection that became idle last and can take a request now.
    pub(super) fn take(&self) -> Option<Connection> {
        let home = Handle::current().id();
        loop {
            let connection = {
                let mut idle = self.shelves[shelf_number()].0.lock();
                let lane = idle.lane(home);
                let last = lane.pop()?;
                if last.idle_since.elapsed() >= MAX_IDLE_TIME {
                    // All before it have been idle for longer.
                    lane.clear();
                    return None;
                }
                last
            };
            if connection.is_fresh() {
                return Some(connection);
            }
        }
    }

    /// Takes a connection back after a complete exchange. One that can take no further request is dropped, with
    /// the rest of an upload on it.
    pub(super) fn put(self: &Arc<Self>, mut connection: Connection) {
        if !connection.is_whole() {
            return;
        }
        connection.rest();
        let shelf = shelf_number();
        let mut idle = self.shelves[shelf].0.lock();
        let lane = idle.lane(connection.home);
        if lane.len() < MAX_IDLE {
            lane.push(connection);
        }
        if !idle.is_watched {
            idle.is_watched = true;
            let task = close_in_time(Arc::downgrade(self), shelf);
            self.tasks.spawn(task);
        }
    }

    /// Finishes an upload that the worker answered before its end.
    pub(super) fn let_go_on(&self, connection: &mut Connection, sending: Sending) {
        connection.send_on(sending, &self.tasks);
    }

    /// Closes the expired connections of a shelf; returns when the next one expires, if any is idle.
    fn close_expired(&self, shelf: usize) -> Option<Instant> {
        let mut idle = self.shelves[shelf].0.lock();
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

/// The shelf of this thread.
fn shelf_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed) % SHELVES;
    }
    NUMBER.with(|number| *number)
}

/// Closes the connections on a shelf when they have been idle for too long, until none is left.
async fn close_in_time(pool: Weak<Pool>, shelf: usize) {
    let mut next = Instant::now() + MAX_IDLE_TIME;
    loop {
        tokio::time::sleep_until(next).await;
        let Some(then) = pool.upgrade().and_then(|pool| pool.close_expired(shelf)) else {
            return;
        };
        next = then;
    }
}
