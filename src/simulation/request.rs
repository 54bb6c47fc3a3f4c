//! What was asked of a simulated hub, and what became of it.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use crate::api_error::ApiError;
use crate::config::Settings;

/// The number of something asked; they count from 0.
pub(crate) type Number = usize;

/// A request to `/v1` that a test sends.
#[derive(Debug, Clone)]
pub(crate) struct NewRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The model as the client writes it.
    pub(crate) model: String,
    pub(crate) client: std::net::IpAddr,
    pub(crate) headers: HeaderMap,
    /// JSON; `model` is put in.
    pub(crate) body: Settings,
    /// It ends by itself when its worker has answered for so long.
    pub(crate) ends_after: Option<Duration>,
}

/// How a request ends, as its worker tells it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Finish {
    /// 200 if it is not said.
    pub(crate) status: Option<u16>,
    /// Since the request came.
    pub(crate) first_token_seconds: Option<f64>,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
}

/// Where something asked stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// For a model, or for its turn.
    Waiting,
    /// Its worker answers.
    Running,
    /// As it should.
    Done,
    /// With this answer.
    Rejected(ApiError),
    /// Its worker ended, or was ended, before it was done.
    Cut,
    /// Its client went away.
    Cancelled,
}

impl State {
    /// The word that tests use.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Rejected(_) => "rejected",
            Self::Cut => "cut",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Something asked: a request to `/v1`, or a verb about a model.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) state: State,
    /// The model that answers, or that it waits for.
    pub(crate) model: Option<String>,
    /// When it came.
    pub(crate) begun: Duration,
    /// When its worker began to answer.
    pub(crate) entered: Option<Duration>,
    /// When it ended, however.
    pub(crate) ended: Option<Duration>,
    /// As the client sent it; none for a verb.
    pub(crate) request: Option<NewRequest>,
    /// The body as the worker gets it, and the headers that policies added.
    pub(crate) body: Settings,
    pub(crate) added: Vec<(String, String)>,
    /// Of the worker's answer.
    pub(crate) answered: Option<u16>,
}

impl Asked {
    pub(super) fn new(begun: Duration, request: Option<NewRequest>, model: Option<String>) -> Self {
        Self {
            state: State::Waiting,
            model,
            begun,
            entered: None,
            ended: None,
            body: request.as_ref().map(|r| r.body.clone()).unwrap_or_default(),
            added: Vec::new(),
            answered: None,
            request,
        }
    }

    pub(super) fn end(&mut self, state: State, now: Duration) {
        self.state = state;
        self.ended = Some(now);
    }

    /// The HTTP status, once it is known.
    pub(crate) fn status(&self) -> Option<u16> {
        match &self.state {
            State::Rejected(error) => Some(error.status),
            _ => self.answered,
        }
    }

    /// The headers as the worker gets them, by name.
    pub(crate) fn headers(&self) -> BTreeMap<String, String> {
        let sent = self.request.iter().flat_map(|request| &request.headers);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let sent = sent.map(|(name, value)| (name.to_string(), text(value)));
        sent.chain(self.added.iter().cloned()).collect()
    }

    /// How long it waited, up to `now`.
    pub(crate) fn waited(&self, now: Duration) -> Duration {
        self.entered.or(self.ended).unwrap_or(now) - self.begun
    }
}
