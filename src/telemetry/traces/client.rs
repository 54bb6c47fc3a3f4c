//! Sends the exporter's requests over HTTP, and notes whether the collector takes them: one line in the log when
//! it no longer does, and one when it does again.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use opentelemetry_http::{HttpClient, HttpError};
use parking_lot::Mutex;
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig};

use super::TROUBLE;
use crate::telemetry::Troubles;

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024;

/// A client that blocks: the exporter calls it on a thread of its own.
#[derive(Debug)]
pub(super) struct CollectorClient {
    agent: Agent,
    troubles: Troubles,
    is_refused: Mutex<bool>,
}

impl CollectorClient {
    /// One whose requests take `timeout` at most.
    pub(super) fn new(timeout: Duration, troubles: Troubles) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .tls_config(tls.build());
        Self {
            agent: config.build().new_agent(),
            troubles,
            is_refused: Mutex::default(),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let place = place(request.uri());
        let (parts, body) = request.into_parts();
        let sent = self.agent.run(Request::from_parts(parts, &body[..]));
        let answer = sent.and_then(|answer| {
            let (parts, mut body) = answer.into_parts();
            let body = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
            Ok(Response::from_parts(parts, Bytes::from(body)))
        });
        self.note(match &answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("{place} answers {}", answer.status())),
            Err(error) => Err(format!("{place}: {error}")),
        });
        Ok(answer?)
    }

    fn note(&self, went: Result<(), String>) {
        let mut is_refused = self.is_refused.lock();
        let was_refused = std::mem::replace(&mut *is_refused, went.is_err());
        match &went {
            Err(reason) if !was_refused => {
                tracing::warn!("{TROUBLE}: {reason}; spans are dropped until it takes them");
            }
            Ok(()) if was_refused => tracing::info!("traces are sent again"),
            _ => {}
        }
        self.troubles.note(TROUBLE, went);
    }
}

/// The address without what a URL may hide: names, passwords, tokens in a query.
fn place(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or_default();
    let host = uri.host().unwrap_or_default();
    let port = uri
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}://{host}{port}{}", uri.path())
}

impl HttpClient for CollectorClient {
    fn send_bytes<'me, 'future>(
        &'me self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'future>>
    where
        'me: 'future,
        Self: 'future,
    {
        Box::pin(async move { self.send(request) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_in_the_log_has_no_secrets() {
        let uri = Uri::from_static("https://me:secret@collector:4318/v1/traces?token=secret");
        assert_eq!(place(&uri), "https://collector:4318/v1/traces");
    }
}
