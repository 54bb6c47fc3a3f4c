//! The requests and verbs of a simulated hub, and their outcomes.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};

use crate::api::ApiError;
use crate::config::Settings;
use crate::core::interface::event::tokens_per_second;
use crate::policy::FinishedRequest;

/// The number of something asked; they count from 0.
pub(crate) type Number = usize;

/// A request to `/v1` that a test sends.
#[derive(Debug, Clone)]
pub(crate) struct NewRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The model as the client writes it, if it names one.
    pub(crate) model: Option<String>,
    pub(crate) client: std::net::IpAddr,
    /// The trusted proxy that sends it.
    pub(crate) via: Option<std::net::IpAddr>,
    /// The name of its client's key, for a hub that has keys.
    pub(crate) key: Option<String>,
    pub(crate) headers: HeaderMap,
    /// JSON; `model` is put in, if there is one.
    pub(crate) body: Settings,
    /// Seconds that its client wishes the model to stay in memory; negative for ever.
    pub(crate) keep_alive: Option<f64>,
    /// It ends by itself when its worker has answered for so long.
    pub(crate) ends_after: Option<Duration>,
}

/// The end of a request, from its worker.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Finish {
    /// 200 if it is not said.
    pub(crate) status: Option<u16>,
    /// Since the request came.
    pub(crate) first_token_seconds: Option<f64>,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
}

/// The progress of a request or verb.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress {
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

impl Progress {
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
pub(crate) struct SimulatedRequest {
    pub(crate) state: Progress,
    /// The model that answers, or that it waits for.
    pub(crate) model: Option<String>,
    /// Time at which it came.
    pub(crate) begun: Duration,
    /// Time at which its worker began to answer.
    pub(crate) entered: Option<Duration>,
    /// Time of its end, of whatever kind.
    pub(crate) ended: Option<Duration>,
    /// As the client sent it; none for a verb.
    pub(crate) request: Option<NewRequest>,
    /// The body as the worker gets it, and the headers that policies added.
    pub(crate) body: Settings,
    pub(crate) added: Vec<(String, String)>,
    /// Its `req.vars`.
    pub(super) vars: Option<crate::policy::Plain>,
    /// Its worker's report of its end.
    pub(super) finish: Finish,
}

impl SimulatedRequest {
    pub(super) fn new(begun: Duration, request: Option<NewRequest>, model: Option<String>) -> Self {
        Self {
            state: Progress::Waiting,
            model,
            begun,
            entered: None,
            ended: None,
            body: request.as_ref().map(|r| r.body.clone()).unwrap_or_default(),
            added: Vec::new(),
            vars: None,
            finish: Finish::default(),
            request,
        }
    }

    /// The HTTP status, once it is known, as the hub's log has it.
    pub(crate) fn status(&self) -> Option<u16> {
        match &self.state {
            Progress::Waiting | Progress::Running => None,
            Progress::Done => Some(self.finish.status.unwrap_or(200)),
            Progress::Rejected(error) => Some(error.status),
            Progress::Cut => Some(502),
            Progress::Cancelled => Some(499),
        }
    }

    /// The report of its end for observers; none for a verb.
    pub(super) fn finished(&self, number: Number, model: String) -> Option<FinishedRequest> {
        let request = self.request.as_ref()?;
        let ended = self.ended?;
        let waited = self.waited(ended);
        let Finish {
            first_token_seconds,
            prompt_tokens,
            completion_tokens,
            ..
        } = self.finish;
        let took = ended - self.begun;
        let first = first_token_seconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
        let rate = completion_tokens.zip(first);
        let rate = rate.map(|(tokens, first)| (tokens, took.saturating_sub(first)));
        Some(FinishedRequest {
            id: super::gateway::id(number),
            model,
            client: request.client.to_string(),
            key: request.key.clone(),
            path: request.path.clone(),
            stream: request.body.get("stream") == Some(&true.into()),
            status: self.status(),
            seconds: took.as_secs_f64(),
            wait_seconds: (!waited.is_zero()).then_some(waited.as_secs_f64()),
            first_token_seconds,
            prompt_tokens,
            completion_tokens,
            tokens_per_second: rate.and_then(|(tokens, since)| tokens_per_second(tokens, since)),
        })
    }

    /// The headers as the worker gets them, by name.
    pub(crate) fn headers(&self) -> BTreeMap<String, String> {
        let sent = self.request.iter().flat_map(|request| &request.headers);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let sent = sent.map(|(name, value)| (name.to_string(), text(value)));
        sent.chain(self.added.iter().cloned()).collect()
    }

    /// Time that it waited, up to `now`.
    pub(crate) fn waited(&self, now: Duration) -> Duration {
        self.entered.or(self.ended).unwrap_or(now) - self.begun
    }
}
