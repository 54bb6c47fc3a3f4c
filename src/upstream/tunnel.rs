//! A request to switch the protocol, as WebSocket's: on a connection of its own, which never joins the pool.

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1::Builder;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::connection::connect;
use super::{RequestBody, Upstream, UpstreamError};

/// Longest refusal that is passed on, in bytes.
const REFUSAL_LIMIT: usize = 1024 * 1024;

/// A worker's answer to such a request.
#[derive(Debug)]
pub enum Switch {
    /// 101: from now on the hub only copies bytes.
    Agreed(Response<()>, TokioIo<Upgraded>),
    /// Anything else, whole.
    Refused(Response<Bytes>),
}

impl Upstream {
    /// Sends `request`, whose headers ask for another protocol. Dropping this future, or the connection
    /// it gives, closes it.
    ///
    /// # Errors
    /// When the worker cannot be reached or does not answer.
    pub async fn switch(&self, mut request: Request<RequestBody>) -> Result<Switch, UpstreamError> {
        request.headers_mut().insert(HOST, self.host.clone());
        let stream = connect(&self.authority).await?;
        let (mut sender, connection) = Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.broken(source))?;
        let exchange = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|source| self.broken(source))?;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                let (mut head, _) = response.into_parts();
                let switched = head.extensions.remove::<hyper::upgrade::OnUpgrade>();
                let head = Response::from_parts(head, ());
                let Some(switched) = switched else {
                    return Ok(Switch::Refused(head.map(|()| Bytes::new())));
                };
                let io = switched.await.map_err(|source| self.broken(source))?;
                return Ok(Switch::Agreed(head, TokioIo::new(io)));
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, REFUSAL_LIMIT).collect().await;
            let body = body.map_err(UpstreamError::Answer)?.to_bytes();
            Ok(Switch::Refused(Response::from_parts(head, body)))
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut connection = std::pin::pin!(connection.with_upgrades());
        tokio::select! {
            biased;
            done = &mut exchange => return done,
            // The connection ends with a switch or an error, and the exchange waits for either.
            _ = &mut connection => {}
        }
        exchange.await
    }

    fn broken(&self, source: hyper::Error) -> UpstreamError {
        UpstreamError::Exchange {
            authority: self.authority.clone(),
            source: source.into(),
        }
    }
}
