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

use super::own_key;
use super::pieces::Pieces;
use crate::api::{
    AllReport, DecisionsReport, EndedRequest, FleetReport, PoliciesReport, RecordingReport,
    ReloadReport, RequestsReport, Status, Verb, is_all_addresses,
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
    /// Its hub.yaml, beside which this command's key is.
    config_path: PathBuf,
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
    #[error("cannot reach the hub at {address}: {cause}")]
    Connect {
        address: String,
        cause: std::io::Error,
    },
    /// The connection ended early, most likely because the daemon did.
    #[error("the hub at {address} closed the connection: {cause}")]
    Lost {
        address: String,
        cause: hyper::Error,
    },
    /// It accepts the connection and does not answer.
    #[error("the hub at {address} does not answer")]
    Silent { address: String },
    /// It wants a key that this command does not have.
    #[error(
        "the hub at {address} wants a key that this command does not have: {message}\n\
         hint: `mlx-openai-server-hub key add NAME` makes one for commands too"
    )]
    Unauthorized { address: String, message: String },
    /// This command's key cannot be used.
    #[error("{0}")]
    Key(String),
    /// The answer is not a hub's.
    #[error("the hub at {address} sent an answer that is not understood: {reason}")]
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

struct ReadAnswer {
    status: StatusCode,
    body: Bytes,
}

impl Client {
    /// A client of the hub of a hub.yaml that is bound to `host` and `port`; for one bound to all addresses, over
    /// the loopback one.
    pub(super) fn new(host: &str, port: u16, config_path: &Path) -> Self {
        let host = match host.trim_matches(['[', ']']) {
            all if is_all_addresses(all) && all.contains(':') => "::1",
            all if is_all_addresses(all) => "127.0.0.1",
            host => host,
        };
        Self {
            host: host.to_owned(),
            port,
            config_path: config_path.to_owned(),
        }
    }

    /// The key of the hub for programs that it starts: one that only uses the models, if there is one that the hub
    /// takes, else this command's own.
    ///
    /// # Errors
    /// When others can read this command's own.
    pub(super) async fn key_for_programs(&self) -> Result<Option<String>, ClientError> {
        for key in own_key::of_models(&self.config_path) {
            let stream = self.connect().await?;
            let key = Some(key);
            let asked = self.begin(stream, Method::GET, "/v1/models", Bytes::new(), key.clone());
            if asked.await?.status.is_success() {
                return Ok(key);
            }
        }
        let kept = own_key::kept(&self.config_path).map_err(ClientError::Key)?;
        Ok(kept.or_else(|| own_key::configured(&self.config_path)))
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
        let health = async {
            // Whoever answers there need not be a hub, and gets no key.
            let pieces = self.begin(stream, Method::GET, "/health", Bytes::new(), None);
            self.whole(pieces.await?).await
        };
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
    /// policies answer for, but for patterns.
    pub(super) async fn names(&self) -> Result<Vec<String>, ClientError> {
        let list: Listed = self.read("/v1/models").await?;
        let names = list.data.into_iter().map(|model| model.id);
        Ok(names.filter(|name| !name.contains('*')).collect())
    }

    /// True if requests may ask for a model by that name.
    pub(super) async fn answers_for(&self, name: &str) -> bool {
        let name = utf8_percent_encode(name, NOT_IN_A_NAME);
        let path = format!("/v1/models/{name}");
        self.read::<serde::de::IgnoredAny>(&path).await.is_ok()
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

    /// What the gateway of the fleet knows of the hub.
    pub(super) async fn fleet(&self) -> Result<FleetReport, ClientError> {
        self.read("/hub/fleet").await
    }

    /// Takes the hub out of its fleet.
    pub(super) async fn drain(&self) -> Result<FleetReport, ClientError> {
        self.call(Method::POST, "/hub/fleet/drain").await
    }

    /// Undoes that.
    pub(super) async fn undrain(&self) -> Result<FleetReport, ClientError> {
        self.call(Method::POST, "/hub/fleet/undrain").await
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
        let pieces = self.ask(method, path, body).await?;
        if pieces.status.is_success() {
            return Ok(pieces);
        }
        let answer = self.whole(pieces).await?;
        Err(self.refused(&answer))
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

    fn understand<T: DeserializeOwned>(&self, answer: &ReadAnswer) -> Result<T, ClientError> {
        if !answer.status.is_success() {
            return Err(self.refused(answer));
        }
        serde_json::from_slice(&answer.body).map_err(|error| self.strange(&error))
    }

    /// The hub's refusal.
    fn refused(&self, answer: &ReadAnswer) -> ClientError {
        let message = refusal(answer);
        match answer.status {
            StatusCode::UNAUTHORIZED => ClientError::Unauthorized {
                address: self.address(),
                message,
            },
            _ => ClientError::Refused { message },
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<ReadAnswer, ClientError> {
        let pieces = self.ask(method, path, body).await?;
        self.whole(pieces).await
    }

    /// Sends a request with this command's key, if there is one; returns when the answer begins.
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Pieces, ClientError> {
        let kept = own_key::kept(&self.config_path).map_err(ClientError::Key)?;
        let stream = self.connect().await?;
        let (again, copy) = (method.clone(), body.clone());
        let pieces = self.begin(stream, method, path, body, kept).await?;
        if pieces.status != StatusCode::UNAUTHORIZED {
            return Ok(pieces);
        }
        match own_key::configured(&self.config_path) {
            Some(key) => {
                let stream = self.connect().await?;
                self.begin(stream, again, path, copy, Some(key)).await
            }
            None => Ok(pieces),
        }
    }

    async fn connect(&self) -> Result<TcpStream, ClientError> {
        TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|cause| self.unreachable(cause))
    }

    async fn whole(&self, pieces: Pieces) -> Result<ReadAnswer, ClientError> {
        let status = pieces.status;
        let body = pieces.whole().await.map_err(|cause| self.lost(cause))?;
        Ok(ReadAnswer { status, body })
    }

    /// Sends a request; returns when the answer begins.
    async fn begin(
        &self,
        stream: TcpStream,
        method: Method,
        path: &str,
        body: Bytes,
        key: Option<String>,
    ) -> Result<Pieces, ClientError> {
        // The address rather than the name: the hub takes any IP address for a Host, but not any name.
        let peer = stream
            .peer_addr()
            .map_err(|cause| self.unreachable(cause))?;
        let mut request = Request::builder();
        if let Some(key) = key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let mut request = request
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
fn refusal(answer: &ReadAnswer) -> String {
    serde_json::from_slice::<Envelope>(&answer.body).map_or_else(
        |_| {
            format!(
                "{}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )
        },
        |envelope| without_route(&envelope.error.message),
    )
}

/// The hub's text for programs names a command and a route; of these a command shows its like alone.
fn without_route(message: &str) -> String {
    const ROUTE: (&str, &str) = (" or POST /hub/models/", "/start");
    let cut = message.split_once(ROUTE.0).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(ROUTE.1)?;
        Some(format!("{before}{after}"))
    });
    cut.unwrap_or_else(|| message.to_owned())
}

#[cfg(test)]
mod tests;
