//! An answer of a hub that comes in pieces, and the connection that brings it.

use std::pin::{Pin, pin};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::Fuse;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Connection = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// The answer. Dropping it closes the connection.
pub(super) struct Pieces {
    pub(super) status: StatusCode,
    body: Incoming,
    /// It must be polled for the answer to move, and may end before what has come of it is read. It reports
    /// no failure that the answer does not.
    connection: Pin<Box<Fuse<Connection>>>,
}

impl Pieces {
    /// Sends a request; returns when the answer begins.
    ///
    /// # Errors
    /// When the connection ends before that, or does not speak HTTP.
    pub(super) async fn begin(
        stream: TcpStream,
        request: Request<Full<Bytes>>,
    ) -> Result<Self, hyper::Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut connection = Box::pin(connection.fuse());
        let mut answer = pin!(sender.send_request(request));
        let response = tokio::select! {
            response = &mut answer => response,
            _ = &mut connection => answer.await,
        }?;
        Ok(Self {
            status: response.status(),
            body: response.into_body(),
            connection,
        })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection ends before the answer does.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, hyper::Error> {
        loop {
            let frame = tokio::select! {
                biased;
                frame = self.body.frame() => frame,
                _ = &mut self.connection => continue,
            };
            match frame.transpose()?.map(Frame::into_data) {
                None => return Ok(None),
                Some(Ok(data)) => return Ok(Some(data)),
                // Trailers.
                Some(Err(_)) => {}
            }
        }
    }

    /// All that is left.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub(super) async fn whole(mut self) -> Result<Bytes, hyper::Error> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.next().await? {
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }
}
