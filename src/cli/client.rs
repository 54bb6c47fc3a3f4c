//! The only client of the control API: one request, one connection, over plain HTTP/1.1.
//!
//! Verbs call its methods; it knows routes and bodies and prints nothing. Verbs have no time limit, since they
//! answer at the final state and a load may take minutes; if the daemon dies, the connection closes and the
//! wait ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::pieces::Pieces;
use crate::api::{
    AllReport, DecisionsReport, EndedRequest, PoliciesReport, RecordingReport, ReloadReport,
    RequestsReport, Status, Verb, is_all_addresses,
};

/// Longest time for a connection, and then for a health check: a hub answers in milliseconds, also while models
/// load.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Time for which a hub that was just killed may still accept connections, and close them unanswered.
const CLOSING: Duration = Duration::from_millis(500);
/// Interval of the checks of such a hub.
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Longest time for reading the status, even on a machine that swaps.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// Characters to escape in a name within a route: dots too, since `..` leads up.
const NOT_IN_A_NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Tells the hub that a command asks, for the history of decisions.
const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// The address of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client {
    host: String,
    port: u16,
}

/// The program that answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    /// A hub.
    Hub,
    /// Another program, with its answer.
    Other(String),
    /// Nothing answers.
    Nothing,
}

/// The reason why a request failed. No cause is a `source`: `{:#}` would print it twice.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The hub refused; the text is its own.
    #[error("{message}")]
    Refused { message: String },
    /// No connection.
    #[error("cannot reach the hub daemon at {address}: {cause}")]
    Connect {
        address: String,
        cause: std::io::Error,
    },
    /// The connection ended early, most likely because the daemon did.
    #[error("the hub daemon at {address} closed the connection: {cause}")]
    Lost {
        address: String,
        cause: hyper::Error,
    },
    /// It accepts the connection and does not answer.
    #[error("the hub daemon at {address} does not answer")]
    Silent { address: String },
    /// The answer is not a hub's.
    #[error("the hub daemon at {address} sent an answer that is not understood: {reason}")]
    Strange { address: String, reason: String },
}

impl ClientError {
    /// True if the connection was closed before any answer.
    fn is_early_end(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Lost { cause, .. } => !cause.is_parse(),
            _ => false,
        }
    }
}

/// The hub's identity from `GET /hub/status`. Older hubs send none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct HubIdentity {
    pub(super) pid: Option<u32>,
    pub(super) config_path: Option<PathBuf>,
    pub(super) log_path: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Health {
    model_status: String,
}

#[derive(Deserialize)]
struct Done {
    message: String,
}

#[derive(Deserialize)]
struct Restarted {
    details: NewDaemon,
}

#[derive(Deserialize)]
struct NewDaemon {
    pid: u32,
}

#[derive(Deserialize)]
struct Listed {
    data: Vec<ListedModel>,
}

#[derive(Deserialize)]
struct ListedModel {
    id: String,
}

#[derive(Deserialize)]
struct Envelope {
    error: EnvelopeError,
}

#[derive(Deserialize)]
struct EnvelopeError {
    message: String,
}

struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Client {
    /// A client of the hub that is bound to `host` and `port`; for one bound to all addresses, over
    /// the loopback one.
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = match host.trim_matches(['[', ']']) {
            all if is_all_addresses(all) && all.contains(':') => "::1",
            all if is_all_addresses(all) => "127.0.0.1",
            host => host,
        };
        Self {
            host: host.to_owned(),
            port,
        }
    }

    /// The program that answers there.
    pub(super) async fn probe(&self) -> Probe {
        let begun = Instant::now();
        loop {
            match self.probe_once().await {
                Err(error) if error.is_early_end() && begun.elapsed() < CLOSING => {
                    sleep(POLL_EVERY).await;
                }
                Err(_) => return Probe::Other("it does not speak HTTP".to_owned()),
                Ok(probe) => return probe,
            }
        }
    }

    /// # Errors
    /// When the connection is accepted and no HTTP answer comes.
    async fn probe_once(&self) -> Result<Probe, ClientError> {
        let Ok(Ok(stream)) = timeout(PROBE_LIMIT, self.connect()).await else {
            return Ok(Probe::Nothing);
        };
        let health = self.exchange(stream, Method::GET, "/health", Bytes::new());
        let Ok(answer) = timeout(PROBE_LIMIT, health).await else {
            return Ok(Probe::Other("it does not answer GET /health".to_owned()));
        };
        let answer = answer?;
        Ok(match serde_json::from_slice::<Health>(&answer.body) {
            Ok(health) if health.model_status == "controller" => Probe::Hub,
            _ => Probe::Other(format!("it answers GET /health with {}", answer.status)),
        })
    }

    /// The hub's identity.
    pub(super) async fn identity(&self) -> Result<HubIdentity, ClientError> {
        self.read("/hub/status").await
    }

    /// The hub's snapshot.
    pub(super) async fn status(&self) -> Result<Status, ClientError> {
        self.read("/hub/status").await
    }

    /// The names under which requests may ask for a model: those of models that are started, and others that
    /// policies answer for.
    pub(super) async fn names(&self) -> Result<Vec<String>, ClientError> {
        let list: Listed = self.read("/v1/models").await?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }

    /// The report of each policy.
    pub(super) async fn policies(&self) -> Result<PoliciesReport, ClientError> {
        self.read("/hub/policies").await
    }

    /// The recent decisions; `query` is that of the route.
    pub(super) async fn decisions(&self, query: &str) -> Result<DecisionsReport, ClientError> {
        self.read(&format!("/hub/policies/decisions?{query}")).await
    }

    /// The current recording of hook calls, or the last one.
    pub(super) async fn recording(&self) -> Result<RecordingReport, ClientError> {
        self.read("/hub/policies/recording").await
    }

    /// Begins a recording; without a file the hub chooses one.
    pub(super) async fn start_recording(
        &self,
        file: Option<&Path>,
    ) -> Result<RecordingReport, ClientError> {
        let body = serde_json::json!({ "file": file }).to_string();
        let path = "/hub/policies/recording/start";
        self.call_with(Method::POST, path, body.into()).await
    }

    /// Ends the recording.
    pub(super) async fn stop_recording(&self) -> Result<RecordingReport, ClientError> {
        self.call(Method::POST, "/hub/policies/recording/stop")
            .await
    }

    /// A request that a hub answers at once.
    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        timeout(READ_LIMIT, self.call(Method::GET, path))
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::Silent {
                    address: self.address(),
                })
            })
    }

    /// Re-reads hub.yaml. With `start` false, nothing is started.
    pub(super) async fn reload(&self, start: bool) -> Result<ReloadReport, ClientError> {
        let path = if start {
            "/hub/reload"
        } else {
            "/hub/reload?start=false"
        };
        self.call(Method::POST, path).await
    }

    /// Asks the daemon to stop; it answers at once.
    pub(super) async fn shutdown(&self) -> Result<(), ClientError> {
        let _: Done = self.call(Method::POST, "/hub/shutdown").await?;
        Ok(())
    }

    /// Replaces the daemon by a new one; returns its process id. `None` when the daemon does not support it, as
    /// 0.1.0.
    pub(super) async fn restart(&self) -> Result<Option<u32>, ClientError> {
        let answer = self
            .send(Method::POST, "/hub/restart", Bytes::new())
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let done: Restarted = self.understand(&answer)?;
        Ok(Some(done.details.pid))
    }

    /// Shuts the daemon down and leaves its models to the next one.
    pub(super) async fn shutdown_keeping_models(&self) -> Result<(), ClientError> {
        let _: Done = self
            .call(Method::POST, "/hub/shutdown?keep_models=true")
            .await?;
        Ok(())
    }

    /// Does `verb` and waits for its final state; returns the hub's sentence about it.
    pub(super) async fn act(&self, model: &str, verb: Verb) -> Result<String, ClientError> {
        let name = utf8_percent_encode(model, NOT_IN_A_NAME);
        let path = format!("/hub/models/{name}/{}", verb.as_str());
        let done: Done = self.call(Method::POST, &path).await?;
        Ok(done.message)
    }

    /// Unloads all models; without `is_now` those with requests in flight stay loaded.
    pub(super) async fn unload_all(&self, is_now: bool) -> Result<AllReport, ClientError> {
        let path = format!("/hub/models/unload-all?now={is_now}");
        self.call(Method::POST, &path).await
    }

    /// Stops all models, and keeps the hub.
    pub(super) async fn stop_all(&self) -> Result<AllReport, ClientError> {
        self.call(Method::POST, "/hub/models/stop-all").await
    }

    /// The requests that ended last, the oldest first.
    pub(super) async fn requests(&self) -> Result<Vec<EndedRequest>, ClientError> {
        let report: RequestsReport = self.read("/hub/requests").await?;
        Ok(report.requests)
    }

    /// The snapshot and its changes, as server-sent events.
    ///
    /// # Errors
    /// An older hub refuses.
    pub(super) async fn events(&self) -> Result<Pieces, ClientError> {
        self.begun(Method::GET, "/hub/events", Bytes::new()).await
    }

    /// Posts `body`, as any client of the OpenAI API does; returns when the answer begins.
    ///
    /// # Errors
    /// The hub's refusal, in its own words.
    pub(super) async fn post(&self, path: &str, body: Bytes) -> Result<Pieces, ClientError> {
        self.begun(Method::POST, path, body).await
    }

    async fn begun(&self, method: Method, path: &str, body: Bytes) -> Result<Pieces, ClientError> {
        let stream = self.connect().await?;
        let pieces = self.begin(stream, method, path, body).await?;
        if pieces.status.is_success() {
            return Ok(pieces);
        }
        let answer = self.whole(pieces).await?;
        Err(ClientError::Refused {
            message: refusal(&answer),
        })
    }

    /// The host that it connects to, without brackets.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// `HOST:PORT`, for messages and URLs.
    pub(super) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
    ) -> Result<T, ClientError> {
        self.call_with(method, path, Bytes::new()).await
    }

    async fn call_with<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let answer = self.send(method, path, body).await?;
        self.understand(&answer)
    }

    fn understand<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, ClientError> {
        if !answer.status.is_success() {
            return Err(ClientError::Refused {
                message: refusal(answer),
            });
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.strange(&error))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let stream = self.connect().await?;
        self.exchange(stream, method, path, body).await
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|cause| self.unreachable(cause))
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let pieces = self.begin(stream, method, path, body).await?;
        self.whole(pieces).await
    }

    async fn whole(&self, pieces: Pieces) -> Result<Answer, ClientError> {
        let status = pieces.status;
        let body = pieces.whole().await.map_err(|cause| self.lost(cause))?;
        Ok(Answer { status, body })
    }

    /// Sends a request; returns when the answer begins.
    async fn begin(
        &self,
        stream: TcpStream,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Pieces, ClientError> {
        // The address rather than the name: the hub takes any IP address for a Host, but not any name.
        let peer = stream
            .peer_addr()
            .map_err(|cause| self.unreachable(cause))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, peer.to_string())
            .header(header::USER_AGENT, AGENT);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| self.strange(&error))?;
        let pieces = Pieces::begin(stream, request).await;
        pieces.map_err(|cause| self.lost(cause))
    }

    fn unreachable(&self, cause: std::io::Error) -> ClientError {
        let address = self.address();
        ClientError::Connect { address, cause }
    }

    fn lost(&self, cause: hyper::Error) -> ClientError {
        let address = self.address();
        ClientError::Lost { address, cause }
    }

    fn strange(&self, reason: &dyn std::error::Error) -> ClientError {
        ClientError::Strange {
            address: self.address(),
            reason: reason.to_string(),
        }
    }
}

/// The text of an error answer, from any program.
fn refusal(answer: &Answer) -> String {
    serde_json::from_slice::<Envelope>(&answer.body).map_or_else(
        |_| {
            format!(
                "{}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )
        },
        |envelope| envelope.error.message,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_on_all_addresses_is_asked_over_loopback() {
        for (host, address) in [
            ("0.0.0.0", "127.0.0.1:80"),
            ("::", "[::1]:80"),
            ("[::1]", "[::1]:80"),
            ("10.0.0.7", "10.0.0.7:80"),
        ] {
            assert_eq!(Client::new(host, 80).address(), address);
        }
    }

    #[tokio::test]
    async fn a_hub_that_is_being_killed_is_not_taken_for_another_program() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new("127.0.0.1", listener.local_addr().unwrap().port());
        // It accepts one more connection and closes it; then its port is free.
        let (probe, ()) = tokio::join!(client.probe(), async move {
            drop(listener.accept().await.unwrap());
        });
        assert_eq!(probe, Probe::Nothing);

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new("127.0.0.1", listener.local_addr().unwrap().port());
        let probe = tokio::select! {
            probe = client.probe() => probe,
            () = async { loop { drop(listener.accept().await.unwrap()) } } => unreachable!(),
        };
        assert_eq!(probe, Probe::Other("it does not speak HTTP".to_owned()));
    }

    #[tokio::test]
    async fn a_hub_that_cannot_be_asked_is_told_with_its_address() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = Client::new("127.0.0.1", port);
        let mut told = String::new();
        for answer in [
            "",
            "no HTTP\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            let hub = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (error, ()) = tokio::join!(client.status(), hub);
            told += &format!("{}\n", error.unwrap_err());
        }
        // Bound, and nobody listens: no other test can take the port.
        let closed = tokio::net::TcpSocket::new_v4().unwrap();
        closed.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let unused = closed.local_addr().unwrap().port();
        let nobody = Client::new("127.0.0.1", unused);
        told += &format!("{}\n", nobody.status().await.unwrap_err());
        let address = client.address();
        told += &format!("{}\n", ClientError::Silent { address });
        // The system's number differs between Linux and macOS.
        let told = told
            .replace(&port.to_string(), "PORT")
            .replace(&unused.to_string(), "PORT")
            .replace(" (os error 111)", "")
            .replace(" (os error 61)", "");
        insta::assert_snapshot!(told, @r"
        the hub daemon at 127.0.0.1:PORT closed the connection: connection closed before message completed
        the hub daemon at 127.0.0.1:PORT closed the connection: invalid HTTP version parsed
        the hub daemon at 127.0.0.1:PORT sent an answer that is not understood: missing field `status` at line 1 column 2
        cannot reach the hub daemon at 127.0.0.1:PORT: Connection refused
        the hub daemon at 127.0.0.1:PORT does not answer
        ");
    }

    #[test]
    fn an_answer_without_the_envelope_is_shown_as_it_is() {
        let answer = Answer {
            status: StatusCode::BAD_GATEWAY,
            body: Bytes::from_static(b"proxy says no"),
        };
        assert_eq!(refusal(&answer), "502 Bad Gateway: proxy says no");
    }
}
