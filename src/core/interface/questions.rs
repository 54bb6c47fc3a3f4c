//! The questions to the hooks and their decisions.
//!
//! The Lua host turns what a policy returned into these; admission and the machine act on them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::plain::Plain;
use crate::api::ApiError;
use crate::config::{ApiKey, Settings};

/// The reason why a model takes memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadReason {
    /// A request waits for it.
    Request,
    /// It is being started (command, or with the hub).
    Start,
    /// `load` was asked for.
    Manual,
}

impl LoadReason {
    /// The reason of that word; any other word is a request.
    pub(crate) fn of(word: &str) -> Self {
        let reasons = [Self::Request, Self::Start, Self::Manual];
        let found = reasons.into_iter().find(|reason| reason.as_str() == word);
        found.unwrap_or(Self::Request)
    }

    /// The word Lua sees.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Start => "start",
            Self::Manual => "manual",
        }
    }
}

/// A load that the policy is asked about.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PendingLoad {
    /// The reason.
    pub reason: LoadReason,
    /// Requests that wait for it.
    pub waiting: usize,
    /// Since the policy was first asked about it, in seconds.
    pub waited_seconds: f64,
}

/// The verdict of `on_load`; `Allow` when every policy abstains.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadVerdict {
    /// Load it.
    Allow,
    /// Unload these first, then load.
    Evict(Vec<String>),
    /// Ask again when something changes, or after so many seconds.
    Wait(f64),
    /// Refuse, with this answer to the waiters.
    Reject(ApiError),
}

/// The verdict of `on_idle`; `Keep(0)` when every policy abstains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IdleVerdict {
    /// Free the memory, keep the model started.
    Unload,
    /// Stop the model.
    Stop,
    /// Keep it, and do not ask again for so many seconds.
    Keep(f64),
}

/// The unasked end of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit code; −N for signal N, none when it cannot be known.
    pub exit_code: Option<i32>,
    /// True if it had been ready to serve.
    pub was_ready: bool,
    /// Time for which it had been ready, in seconds.
    pub uptime_seconds: f64,
    /// Number of times that the model's worker has ended so in a row: since it last ran for five minutes, or
    /// was started by hand.
    pub crashes: usize,
}

/// The verdict of `on_exit`; `Leave` when every policy abstains.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum ExitVerdict {
    /// Start the model again after so many seconds.
    Restart(f64),
    /// Leave it failed, until a request or a user asks for it.
    #[default]
    Leave,
}

/// The trouble of a running worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TroubleKind {
    /// Requests wait, and no byte comes.
    Silent,
    /// Its answers are errors, one after the other.
    Errors,
}

impl TroubleKind {
    /// The word Lua sees.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Errors => "errors",
        }
    }
}

/// A worker that runs and does not serve. All is measured; whether it is too much, policies say.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// The kind of trouble.
    pub kind: TroubleKind,
    /// Time that requests have waited since its last byte; 0 when none waits.
    pub silent_seconds: f64,
    /// The part of that, up to now, in which its processes used hardly any CPU time, held as much memory as
    /// before and logged nothing.
    pub still_seconds: f64,
    /// CPU time they used in `silent_seconds`; none when that cannot be read.
    pub cpu_seconds: Option<f64>,
    /// Characters of the longest prompt that may be waiting; none when that is not known.
    pub prompt_chars: Option<usize>,
    /// The longest that a prompt of that length made it silent for, scaled from others if need be; none
    /// before the first.
    pub expected_seconds: Option<f64>,
    /// Answers of 500 and above in a row.
    pub errors: usize,
    /// Those of the last minute.
    pub recent_errors: usize,
    /// The last one's status.
    pub last_status: Option<u16>,
    /// Requests in flight.
    pub requests: usize,
    /// Number of times that its worker has ended unasked or was restarted by policies, in a row; see [`Exit`].
    pub crashes: usize,
    /// hub.yaml's `stall_timeout` in seconds; none for never.
    pub stall_timeout: Option<f64>,
}

impl Trouble {
    /// One with which nothing is wrong yet.
    pub fn of(kind: TroubleKind) -> Self {
        Self {
            kind,
            silent_seconds: 0.0,
            still_seconds: 0.0,
            cpu_seconds: None,
            prompt_chars: None,
            expected_seconds: None,
            errors: 0,
            recent_errors: 0,
            last_status: None,
            requests: 0,
            crashes: 0,
            stall_timeout: None,
        }
    }
}

/// The verdict of `on_trouble`; `Keep(0)` when every policy abstains.
#[derive(Debug, Clone, PartialEq)]
pub enum TroubleVerdict {
    /// End the worker and start it again.
    Restart {
        /// After so many seconds, unless a request or a command asks for it before.
        seconds: f64,
        /// The reason, in the policy's words.
        reason: Option<String>,
    },
    /// Leave it, and do not ask again until it has sent a byte, or a success.
    Leave,
    /// Leave it, and do not ask again for so many seconds.
    Keep(f64),
}

/// A question about a model: to one of the hooks that the lifecycle asks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum ModelQuestion {
    /// To `on_load`.
    Load(PendingLoad),
    /// To `on_idle`.
    Idle,
    /// To `on_exit`.
    Exit(Exit),
    /// To `on_trouble`; `spell` tells this trouble from others of its kind.
    Trouble { trouble: Trouble, spell: u64 },
}

/// The verdict on a [`ModelQuestion`], of the same kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelVerdict {
    Load(LoadVerdict),
    Idle(IdleVerdict),
    Exit(ExitVerdict),
    Trouble(TroubleVerdict),
}

impl ModelVerdict {
    /// The verdict on `question` when its policies fail with `error`: no load, and nothing else.
    pub(crate) fn without_policies(question: &ModelQuestion, error: ApiError) -> Self {
        match question {
            ModelQuestion::Load(_) => Self::Load(LoadVerdict::Reject(error)),
            ModelQuestion::Idle => Self::Idle(IdleVerdict::Keep(0.0)),
            ModelQuestion::Exit(_) => Self::Exit(ExitVerdict::Leave),
            ModelQuestion::Trouble { .. } => Self::Trouble(TroubleVerdict::Keep(0.0)),
        }
    }
}

/// One request to `/v1` as `on_request` sees it.
#[derive(Debug)]
pub struct RequestView {
    /// Method, path, query and headers.
    pub parts: http::request::Parts,
    /// The request's `X-Request-ID`.
    pub id: http::HeaderValue,
    /// `model` as the client wrote it; `None` for a request that names none.
    pub model: Option<String>,
    /// The client's address.
    pub client: std::net::SocketAddr,
    /// The trusted proxy through which it came.
    pub via: Option<std::net::SocketAddr>,
    /// The key that it was let in with, if the hub has keys.
    pub credential: Option<Credential>,
    /// The client's protocol. What came in the form of another API than OpenAI's is a chat completion by now.
    pub protocol: &'static str,
    /// Seconds that the client wishes the model to stay in memory after its last request; negative for
    /// ever. `None` if its protocol has no such wish, or the client none.
    pub keep_alive: Option<f64>,
    /// The whole body, or `None` while it has not all arrived.
    pub body: Option<bytes::Bytes>,
    /// The values kept from one question to the next.
    pub parked: Parked,
}

impl RequestView {
    /// The protocol of those that came as they are.
    pub const OPENAI: &'static str = "openai";

    /// All of them.
    pub(crate) const PROTOCOLS: [&'static str; 5] = [
        Self::OPENAI,
        "responses",
        "anthropic",
        "ollama",
        "lm_studio",
    ];

    /// The protocol of that name; of another name it is OpenAI's.
    pub(crate) fn protocol_of(name: &str) -> &'static str {
        let mut all = Self::PROTOCOLS.into_iter();
        all.find(|other| *other == name).unwrap_or(Self::OPENAI)
    }

    /// The key of its client, if the hub has keys.
    pub fn key(&self) -> Option<&ApiKey> {
        self.credential.as_ref().map(|credential| &*credential.key)
    }

    /// A request of which nothing but the head is known.
    pub(crate) fn of_head(
        parts: http::request::Parts,
        id: http::HeaderValue,
        client: std::net::SocketAddr,
    ) -> Self {
        Self {
            parts,
            id,
            model: None,
            client,
            via: None,
            credential: None,
            protocol: RequestView::OPENAI,
            keep_alive: None,
            body: None,
            parked: Parked::default(),
        }
    }

    /// A `POST` of some JSON by a client on this machine that is only imagined.
    pub(crate) fn imagined(path: http::Uri, body: bytes::Bytes) -> Self {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        (parts.method, parts.uri) = (http::Method::POST, path);
        let json = http::HeaderValue::from_static("application/json");
        parts.headers.insert(http::header::CONTENT_TYPE, json);
        let id = http::HeaderValue::from_static("sample");
        Self {
            body: Some(body),
            ..Self::of_head(parts, id, ([127, 0, 0, 1], 50_000).into())
        }
    }
}

/// The key of a request's client. Neither policies nor workers see more of it than its name.
#[derive(Debug, Clone)]
pub struct Credential {
    /// Its entry in hub.yaml.
    pub key: Arc<ApiKey>,
    /// The headers that had it, for a hub that takes over.
    sent: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl Credential {
    /// The headers in which clients send keys, and the cookie of the status page.
    const HEADERS: [http::HeaderName; 3] = [
        http::header::AUTHORIZATION,
        http::HeaderName::from_static("x-api-key"),
        http::header::COOKIE,
    ];

    /// The credential of a request that has that key; its headers are taken out of the head.
    pub(crate) fn take(key: Arc<ApiKey>, headers: &mut http::HeaderMap) -> Self {
        let mut sent = Vec::new();
        for name in Self::HEADERS {
            if let http::header::Entry::Occupied(entry) = headers.entry(&name) {
                let (_, values) = entry.remove_entry_mult();
                sent.extend(values.map(|value| (name.clone(), value)));
            }
        }
        Self { key, sent }
    }

    /// That of a key of that name, for requests that are only imagined.
    pub fn named(name: &str) -> Self {
        Self::of(Arc::new(ApiKey::named(name)))
    }

    /// That of a request without headers.
    pub(crate) fn of(key: Arc<ApiKey>) -> Self {
        let sent = Vec::new();
        Self { key, sent }
    }

    /// Puts the headers back.
    pub(crate) fn restore(self, headers: &mut http::HeaderMap) {
        for name in Self::HEADERS {
            headers.remove(name);
        }
        for (name, value) in self.sent {
            headers.append(name, value);
        }
    }
}

/// State of a request that a policy told to wait, for the next time it is asked about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parked {
    /// Seconds in the queue so far; 0 at the first asking, more at every other.
    pub waited_seconds: f64,
    /// Its `req.vars`, if a policy used them. Kept as plain values: the policies may be new ones.
    pub vars: Option<Plain>,
}

/// The verdict of `on_request`; `Pass` when every policy abstains.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestVerdict {
    /// Go to the model the client named.
    Pass,
    /// Go elsewhere, or changed. A policy may give the same one at every request.
    Route(Arc<Route>),
    /// Answer with this.
    Reject(ApiError),
    /// Park it at the model the client named, and ask again.
    Wait(Wait),
    /// A policy wants the body: collect it and ask again.
    NeedBody,
}

/// `hub.route{…}`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Name or path of the model to go to.
    pub model: Option<String>,
    /// Top-level body fields to set.
    pub set: Settings,
    /// Top-level body fields to remove.
    pub unset: Vec<String>,
    /// Headers to add to the request.
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

impl Route {
    /// Makes its changes to a body.
    pub(crate) fn change(&self, body: &mut Settings) {
        for (key, value) in &self.set {
            body.insert(key.clone(), value.clone());
        }
        for key in &self.unset {
            body.shift_remove(key);
        }
    }
}

/// `hub.wait{…}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Wait {
    /// Ask again after so many seconds, if nothing changes before.
    pub seconds: f64,
    /// Under which key the request takes turns; by default its client's address.
    pub client: Option<String>,
}
