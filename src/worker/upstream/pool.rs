//! Kept-alive connections to one worker: a last-in-first-out list, so that under light load few stay
//! warm and the others run out.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::{RequestBody, UpstreamError};

/// Idle connections kept per worker. Workers answer few requests at once; more would only tie up
/// file descriptors.
const MAX_IDLE: usize = 64;

/// uvicorn closes a connection that was idle for 5 s. Staying below that keeps requests off
/// connections that are about to be closed under them.
const MAX_IDLE_TIME: Duration = Duration::from_secs(4);

/// hyper's read buffer grows up to this. Below 64 KiB it would refuse larger message heads; above,
/// every upload and download in flight holds more memory without being faster.
const BUFFER: usize = 64 * 1024;

/// The idle connections of one worker.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// In the order in which they became idle.
    idle: Mutex<Vec<Connection>>,
    /// The tasks that drive the connections; each ends with its connection.
    drivers: TaskTracker,
}

/// One connection. Dropping it closes the socket at once, whatever is in flight on it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    driver: AbortHandle,
    idle_since: Instant,
}

impl Pool {
    /// The connection that became idle last and can take a request now.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let now = Instant::now();
        for at in (0..idle.len()).rev() {
            let connection = &idle[at];
            if now.duration_since(connection.idle_since) >= MAX_IDLE_TIME {
                // So has been every one before it.
                idle.drain(..=at);
                return None;
            }
            if connection.sender.is_closed() {
                idle.remove(at);
            } else if connection.sender.is_ready() {
                return Some(idle.remove(at));
            }
            // Otherwise its driver has not yet come round since the last response: next time.
        }
        None
    }

    /// Takes a connection back after a complete exchange.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
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
        let (sender, connection) = Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| UpstreamError::Exchange {
                authority: Arc::clone(authority),
                source,
            })?;
        let driver = self.drivers.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to worker ended");
            }
        });
        Ok(Connection {
            sender,
            driver: driver.abort_handle(),
            idle_since: Instant::now(),
        })
    }
}

impl Connection {
    /// Sends a request; a failure gives it back when nothing of it was sent.
    pub(super) fn try_send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> {
        self.sender.try_send_request(request)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Dropping the sender alone would let the driver finish an upload that nobody waits for.
        self.driver.abort();
    }
}
