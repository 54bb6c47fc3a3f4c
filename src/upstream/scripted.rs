//! A worker whose bytes the test writes itself, and the reading helpers that tests share.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{Accepts, Upstream};

const DEADLINE: Duration = Duration::from_secs(10);

/// A port of this machine at which nobody listens; nobody else can while the socket is kept.
pub(crate) fn closed_port() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// A listener in place of a worker.
pub(crate) struct Scripted(TcpListener);

impl Scripted {
    pub(crate) async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn upstream(&self, accepts: Accepts) -> Upstream {
        let port = self.0.local_addr().unwrap().port();
        Upstream::new("127.0.0.1", port, accepts)
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> Wire {
        let accepted = timeout(DEADLINE, self.0.accept()).await;
        Wire::new(accepted.expect("a connection").unwrap().0)
    }
}

impl Scripted {
    /// True if a connection waits to be accepted. Ask only after everything that could connect has ended.
    pub(crate) async fn has_been_called(&self) -> bool {
        timeout(Duration::ZERO, self.0.accept()).await.is_ok()
    }

    /// The bytes of all connections so far, each read to its end.
    pub(crate) async fn everything(&self) -> String {
        let mut all = String::new();
        while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, self.0.accept()).await {
            all += &Wire::new(stream).read_to_close().await;
        }
        all
    }
}

/// One end of a connection.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, text: &str) {
        self.write_bytes(text.as_bytes()).await;
    }

    pub(crate) async fn write_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Writes as much as the other side takes before it closes.
    pub(crate) async fn write_what_goes(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Everything up to and with `end`.
    pub(crate) async fn read_to(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread, end.as_bytes()) {
                let rest = self.unread.split_off(at + end.len());
                let text = std::mem::replace(&mut self.unread, rest);
                return String::from_utf8(text).unwrap();
            }
            let read = self.read_some().await;
            assert!(read > 0, "closed before {end:?}, after {:?}", self.text());
        }
    }

    /// Everything until the other side closes or resets the connection.
    pub(crate) async fn read_to_close(&mut self) -> String {
        while self.read_some().await > 0 {}
        self.text()
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    async fn read_some(&mut self) -> usize {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.unread)).await;
        let read = read.unwrap_or_else(|_| panic!("silent after {:?}", self.text()));
        read.unwrap_or(0)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let poll = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(DEADLINE, poll)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}
