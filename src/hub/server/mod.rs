//! The one port: accepts connections, speaks HTTP/1.1 on them, and hands `/v1` to the gateway and
//! everything else to the router of the control API and the dashboard.
//!
//! The daemon runs it. Only the server adds the headers that all answers share: `X-Request-ID`,
//! `X-Process-Time`, CORS. Its [`door`] admits or refuses requests.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::hub::gateway::{Gateway, ReadPause};
use crate::telemetry::Troubles;
use self_wake::OwnWakes;

mod area;
mod astray;
mod door;
mod front;
mod guarded;
mod head_timer;
mod login;
mod member;
mod receive_buffer;
mod self_wake;
mod socket;
mod threads;
mod unread;
mod unreadable;

pub use door::{HandedSessions, Sessions};
use front::Front;
use head_timer::HeadTimer;
use socket::{Leftover, Socket};
pub use threads::{Spread, Threads};

/// hyper's read buffer grows up to this. A head is refused with 431 when it has filled the buffer and
/// is not complete, so at twice this at the latest.
const BUFFER: usize = 64 * 1024;

/// Time for a complete head; after it a connection is closed, an idle one too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Time for a client to stop sending and to read the last answer, after the hub has ended its side.
const LINGER: Duration = Duration::from_secs(10);

/// Pause when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Size of the backlog of each listener.
const BACKLOG: usize = 128;

/// The trouble to report when a connection cannot be accepted.
const TROUBLE: &str = "no more connections can be accepted";

/// The two steps of the end of serving.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// Cancelled, only the connections in the backlog are still accepted.
    pub full: CancellationToken,
    /// Cancelled, connections close after their current answer.
    pub shutdown: CancellationToken,
}

/// Accepts the connections of `listeners` until the first step of `ending`, and returns. They run on the threads
/// of `spread`; the caller waits for their end. Logins of the status page open `sessions`.
pub async fn serve(
    listeners: Vec<TcpListener>,
    gateway: Gateway,
    hub: axum::Router,
    sessions: Arc<Sessions>,
    troubles: Troubles,
    ending: Ending,
    spread: Spread,
) {
    let front = Front::new(gateway, hub, sessions);
    let accepting = listeners
        .iter()
        .map(|listener| accept(listener, &front, &troubles, &ending, &spread));
    join_all(accepting).await;
}

/// Serves one of the listeners.
async fn accept(
    listener: &TcpListener,
    front: &Front,
    troubles: &Troubles,
    ending: &Ending,
    spread: &Spread,
) {
    if let Err(error) = receive_buffer::widen(listener) {
        debug!(%error, "receive buffers stay as they are");
    }
    let welcome = |stream: io::Result<StdStream>, client: SocketAddr| {
        let (front, shutdown) = (front.of_connection(), ending.shutdown.clone());
        let connection = async move {
            match stream.and_then(TcpStream::from_std) {
                // In memory of the thread that runs it, and not of the one that accepts it, so
                // that freed memory is reused there.
                Ok(stream) => {
                    Box::pin(serve_connection(stream, client, front, shutdown)).await;
                }
                Err(error) => warn!(%client, %error, "a connection was lost"),
            }
        };
        spread.spawn(connection);
    };
    loop {
        let accepted = tokio::select! {
            () = ending.full.cancelled() => {
                for (stream, client) in waiting(listener) {
                    welcome(stream, client);
                }
                return;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                troubles.note(TROUBLE, Ok::<_, io::Error>(()));
                // A socket is registered with the runtime that uses it.
                welcome(stream.into_std(), client);
            }
            // The client gave up while it was in the backlog.
            Err(error) if is_about_the_client(&error) => {}
            Err(error) => {
                if troubles.note(TROUBLE, Err(&error)) {
                    warn!(%error, "cannot accept connections; trying again");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Accepts the connections in the backlog, which would be lost with the listener.
fn waiting(listener: &TcpListener) -> impl Iterator<Item = (io::Result<StdStream>, SocketAddr)> {
    // Not tokio's readiness, which may miss a connection that has just arrived.
    let socket = SockRef::from(listener);
    let accept = move || {
        loop {
            match socket.accept() {
                Ok((stream, client)) => {
                    let is_set = stream.set_nonblocking(true);
                    let client = client.as_socket()?;
                    return Some((is_set.map(|()| stream.into()), client));
                }
                Err(error) if is_about_the_client(&error) => {}
                Err(_) => return None,
            }
        }
    };
    // More can only have arrived meanwhile, and may arrive for ever if another hub listens too.
    std::iter::from_fn(accept).take(BACKLOG)
}

fn is_about_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// An event of a connection.
enum Event {
    Ended(hyper::Result<()>),
    /// A head is overdue.
    TooLate,
    /// The hub is shutting down.
    Stopping,
}

/// Serves one client's connection to its end.
async fn serve_connection(
    stream: TcpStream,
    client: SocketAddr,
    front: Arc<Front>,
    shutdown: CancellationToken,
) {
    // Otherwise a token waits for the acknowledgement of the one before.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%client, %error, "cannot set TCP_NODELAY");
    }
    let heads = HeadTimer::default();
    let read_pause = ReadPause::default();
    let (socket, mut leftover) = Socket::new(stream, heads.clone(), read_pause.clone());
    let ended = {
        let service = service_fn(move |request| {
            let answer = Arc::clone(&front).answer(request, client, read_pause.clone());
            answer.map(Ok::<_, std::convert::Infallible>)
        });
        let connection = http1::Builder::new()
            .max_buf_size(BUFFER)
            .timer(heads.clone())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut too_late = pin!(heads.expired(HEAD_TIMEOUT));
        let mut stopping = pin!(shutdown.cancelled());
        let mut is_stopping = false;
        let (mut wakes, mut others) = (OwnWakes::default(), OwnWakes::default());
        loop {
            let event = poll_fn(|cx| {
                let ended = wakes.poll(cx, |own| match own {
                    Some(cx) => connection.as_mut().poll(cx).map(Event::Ended),
                    None => Poll::Pending,
                });
                if ended.is_ready() {
                    return ended;
                }
                if !others.is_woken() {
                    return Poll::Pending;
                }
                others.poll(cx, |own| {
                    let Some(cx) = own else {
                        return Poll::Pending;
                    };
                    if too_late.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Event::TooLate);
                    }
                    if !is_stopping && stopping.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(Event::Stopping);
                    }
                    Poll::Pending
                })
            });
            match event.await {
                Event::Ended(ended) => break ended,
                // hyper notices it when it is polled.
                Event::TooLate => too_late.set(heads.expired(HEAD_TIMEOUT)),
                Event::Stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            wakes.note();
        }
    };
    // A socket that has become a tunnel is still in use.
    let Ok(left) = leftover.try_recv() else {
        return;
    };
    tokio::select! {
        biased;
        _ = timeout(LINGER, part(left, ended, client)) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Finishes a connection that `ended` like this.
async fn part(mut left: Leftover, ended: hyper::Result<()>, client: SocketAddr) {
    if let Err(error) = ended {
        // Mostly clients that have left.
        debug!(%client, %error, "connection ended early");
        if let Some(reason) = unreadable::reason(&error, &left) {
            let answer = unreadable::to_bytes(&Front::unasked(&reason));
            if let Err(error) = left.end_with(answer.as_bytes()).await {
                debug!(%client, %error, "client left before it was told why");
            }
        }
    }
    left.linger().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_to_be_accepted_is_not_lost_with_the_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..50).map(|_| StdStream::connect(at).unwrap()).collect();
        let accepted: Vec<_> = waiting(&listener).collect();
        for (stream, client) in &accepted {
            assert!(TcpStream::from_std(stream.as_ref().unwrap().try_clone().unwrap()).is_ok());
            let is_theirs = |stream: &StdStream| stream.local_addr().unwrap() == *client;
            assert!(clients.iter().any(is_theirs));
        }
        assert_eq!(accepted.len(), clients.len());
        assert_eq!(waiting(&listener).count(), 0);
    }
}
