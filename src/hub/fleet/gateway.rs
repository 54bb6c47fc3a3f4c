//! Speaks HTTP to a gateway: what it says of this hub, and the calls that change that.
//!
//! The API is that of SMG (Shepherd Model Gateway): `/workers`. Its calls block, and run on a thread of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::local_network::{self, Failure};
use super::plan::{Call, Heard, HeardModel, Job, Member};
use crate::config::{FleetConfig, KeySource};

const AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
const CONNECT: Duration = Duration::from_secs(2);
/// Longest time for a call.
const CALL: Duration = Duration::from_secs(5);
/// Largest list of workers, in bytes.
const MAX_LIST: u64 = 16 * 1024 * 1024;
/// Longest text of a refusal that is shown, in characters.
const MAX_REASON: usize = 300;

/// The gateway's own checks of an entry: a hub that is gone is noticed within ten seconds, and one that is back
/// by the next check.
const HEALTH_INTERVAL: u64 = 5;
const HEALTH_FAILURES: u32 = 2;

/// Tries of the gateway to reach this hub before it gives a registration up; the hub makes it again.
const TRIES: u32 = 3;

/// The reason why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("{address} cannot be reached: {reason}")]
    Unreachable { address: String, reason: String },
    #[error("{address} wants a key: set `gateway_key_env` in `fleet`")]
    Unauthorized { address: String },
    #[error("{address} answers {status}: {reason}")]
    Refused {
        address: String,
        status: u16,
        reason: String,
    },
    #[error("{address} does not answer like a gateway: {reason}")]
    Strange { address: String, reason: String },
    #[error("{0}")]
    Key(String),
}

/// A gateway, and what it needs to know of this hub besides the models. It has keys, and is never shown.
#[derive(Clone)]
pub(super) struct Gateway {
    agent: Agent,
    address: String,
    key: Option<String>,
    /// The key that it sends to this hub.
    hub_key: Option<String>,
    /// The hub's port.
    port: u16,
}

#[derive(Deserialize)]
struct Workers {
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    id: String,
    url: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    is_healthy: bool,
    #[serde(default)]
    models: Vec<Card>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    job_status: Option<JobStatus>,
}

#[derive(Deserialize)]
struct Card {
    id: String,
    /// Names, or the bits of older gateways.
    #[serde(default)]
    model_type: Value,
    #[serde(default)]
    context_length: Option<u32>,
}

#[derive(Deserialize)]
struct JobStatus {
    status: String,
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Accepted {
    worker_id: String,
}

impl Gateway {
    /// The gateway of a configuration, for a hub on that port.
    ///
    /// # Errors
    /// When a key cannot be read.
    pub(super) fn of(fleet: &FleetConfig, port: u16) -> Result<Self, Fault> {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(CALL))
            .user_agent(AGENT)
            .tls_config(tls.build());
        let read = |source: &Option<KeySource>| {
            let key = source.as_ref().map(KeySource::read);
            key.transpose().map_err(Fault::Key)
        };
        Ok(Self {
            agent: config.build().new_agent(),
            address: fleet.gateway.clone(),
            key: read(&fleet.gateway_key)?,
            hub_key: read(&fleet.hub_key)?,
            port,
        })
    }

    /// All its entries, those of other hubs among them.
    pub(super) fn entries(&self) -> Result<Vec<Heard>, Fault> {
        let answer = self.call("GET", "/workers", None)?;
        let list: Workers = self.read(answer)?;
        Ok(list.workers.into_iter().map(heard).collect())
    }

    /// The state of a registration with that id.
    pub(super) fn job(&self, id: &str) -> Result<Option<Job>, Fault> {
        let mut answer = self.send("GET", &format!("/workers/{id}"), None)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(self.refusal(&mut answer));
        }
        let worker: Worker = self.read(answer)?;
        Ok(worker.job_status.map(|job| match &*job.status {
            "failed" => {
                let message = self.without_keys(&job.message.unwrap_or_default());
                Job::Failed(brief(&message))
            }
            _ => Job::UnderWay,
        }))
    }

    /// Makes a call; of a registration the id of its entry.
    pub(super) fn make(&self, call: &Call) -> Result<Option<(String, String)>, Fault> {
        match call {
            Call::Register(member) => {
                let mut answer = self.send("POST", "/workers", Some(self.spec(member)))?;
                // It has come meanwhile.
                if answer.status() == StatusCode::CONFLICT {
                    return Ok(None);
                }
                if !answer.status().is_success() {
                    return Err(self.refusal(&mut answer));
                }
                let accepted: Accepted = self.read(answer)?;
                Ok(Some((member.url.clone(), accepted.worker_id)))
            }
            Call::Replace { id, member } => self.change("PUT", id, Some(self.spec(member))),
            Call::Label { id, labels } => {
                let mut update = json!({"labels": labels});
                self.add_key(&mut update);
                self.change("PATCH", id, Some(update))
            }
            Call::Remove { id } => self.change("DELETE", id, None),
        }
    }

    /// A change of an entry; one that is gone is none of ours any more.
    fn change(
        &self,
        method: &str,
        id: &str,
        body: Option<Value>,
    ) -> Result<Option<(String, String)>, Fault> {
        let mut answer = self.send(method, &format!("/workers/{id}"), body)?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(None),
            _ => Err(self.refusal(&mut answer)),
        }
    }

    fn spec(&self, member: &Member) -> Value {
        let mut spec = json!({
            "url": member.url,
            "models": [{
                "id": member.model,
                "model_type": member.abilities,
                "context_length": member.context_length,
            }],
            "labels": member.labels,
            "health": {
                "timeout_secs": HEALTH_INTERVAL,
                "check_interval_secs": HEALTH_INTERVAL,
                "failure_threshold": HEALTH_FAILURES,
                "success_threshold": 1,
                // Streams that have begun go on without the entry.
                "drain_settle_secs": 0,
            },
            "max_connection_attempts": TRIES,
        });
        self.add_key(&mut spec);
        spec
    }

    /// Adds the key that the gateway is to send to this hub.
    fn add_key(&self, spec: &mut Value) {
        if let Some(key) = &self.hub_key {
            spec["api_key"] = json!(key);
        }
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<http::Response<Body>, Fault> {
        let mut answer = self.send(method, path, body)?;
        match answer.status().is_success() {
            true => Ok(answer),
            false => Err(self.refusal(&mut answer)),
        }
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<http::Response<Body>, Fault> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.address));
        if let Some(key) = &self.key {
            request = request.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let begun = Instant::now();
        let sent = match body {
            Some(body) => {
                let request = request
                    .header(http::header::CONTENT_TYPE, "application/json")
                    .body(body.to_string());
                request
                    .map_err(ureq::Error::from)
                    .and_then(|request| self.agent.run(request))
            }
            None => {
                let request = request.body(());
                request
                    .map_err(ureq::Error::from)
                    .and_then(|request| self.agent.run(request))
            }
        };
        sent.map_err(|error| self.unreachable(&error, begun.elapsed()))
    }

    fn unreachable(&self, error: &ureq::Error, took: Duration) -> Fault {
        let mut reason = error.to_string();
        if let ureq::Error::Io(cause) = error {
            reason = cause.to_string();
            let failure = || Failure {
                is_without_route: cause.kind() == io::ErrorKind::HostUnreachable,
                took,
                is_local: local_network::is_local(&self.address),
                loopback_works: local_network::loopback_works(self.port),
            };
            if cause.kind() == io::ErrorKind::HostUnreachable
                && local_network::is_refused_by_macos(failure())
            {
                reason = format!("{reason}\n{}", local_network::REMEDY);
            }
        }
        Fault::Unreachable {
            address: self.address.clone(),
            reason,
        }
    }

    fn refusal(&self, answer: &mut http::Response<Body>) -> Fault {
        let address = self.address.clone();
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED && self.key.is_none() {
            return Fault::Unauthorized { address };
        }
        let body = answer.body_mut().with_config().limit(MAX_LIST);
        let reason = self.without_keys(&body.read_to_string().unwrap_or_default());
        let reason = brief(&reason);
        let status = status.as_u16();
        Fault::Refused {
            address,
            status,
            reason,
        }
    }

    /// A text of the gateway's, which may quote what it was sent.
    fn without_keys(&self, text: &str) -> String {
        let keys = [&self.key, &self.hub_key].into_iter().flatten();
        let keys = keys.filter(|key| !key.is_empty());
        keys.fold(text.to_owned(), |text, key| text.replace(&**key, "…"))
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        mut answer: http::Response<Body>,
    ) -> Result<T, Fault> {
        let strange = |reason: String| Fault::Strange {
            address: self.address.clone(),
            reason: brief(&reason),
        };
        let body = answer
            .body_mut()
            .with_config()
            .limit(MAX_LIST)
            .read_to_vec();
        let body = body.map_err(|error| strange(error.to_string()))?;
        serde_json::from_slice(&body).map_err(|error| strange(error.to_string()))
    }
}

fn heard(worker: Worker) -> Heard {
    let status = worker.status.unwrap_or_else(|| {
        let word = if worker.is_healthy {
            "ready"
        } else {
            "not_ready"
        };
        word.to_owned()
    });
    let models = worker.models.into_iter().map(|card| HeardModel {
        id: card.id,
        abilities: abilities(&card.model_type),
        context_length: card.context_length,
    });
    Heard {
        id: worker.id,
        url: worker.url,
        status,
        models: models.collect(),
        labels: worker.labels,
    }
}

fn abilities(model_type: &Value) -> BTreeSet<String> {
    let names = model_type.as_array().into_iter().flatten();
    names
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// One line of it, without what a terminal would obey.
fn brief(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => &text[..end],
        None => &text,
    };
    crate::api::shown(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_quotes_keys_is_shown_without_them() {
        let gateway = Gateway {
            agent: Agent::new_with_defaults(),
            address: "http://door.local:30000".to_owned(),
            key: Some("the-gateways-key".to_owned()),
            hub_key: Some("the-hubs-key".to_owned()),
            port: 8000,
        };
        let text = r#"{"api_key":"the-hubs-key"}, Bearer the-gateways-key"#;
        let shown = gateway.without_keys(text);
        assert_eq!(shown, r#"{"api_key":"…"}, Bearer …"#);
    }
}
