//! The requests and verbs of a simulated hub, and their outcomes.

use std::sync::Arc;
use std::time::Duration;

use super::doors::{Arrival, Lease, Ticket};
use super::world::SimulatedModel;
use crate::api::ApiError;
use crate::config::Settings;
use crate::core::interface::event::tokens_per_second;
use crate::policy::{FinishedRequest, RequestView, Route};

/// The number of something asked; they count from 0.
pub(crate) type Number = usize;

/// The progress of a request or verb, with what it holds meanwhile.
#[derive(Debug, Default)]
pub(super) enum State {
    /// A verb, until it is carried out.
    #[default]
    Ordered,
    /// A request that a policy told to wait.
    Parked(Ticket),
    /// A request that waits for its model to be loaded.
    Arriving(Arrival),
    /// Its worker answers.
    Running(Arc<SimulatedModel>, Lease),
    /// It has ended as it should.
    Done,
    /// The hub answered with this.
    Rejected(ApiError),
    /// Its worker ended, or was ended, before it was done.
    Cut,
    /// Its client went away.
    Cancelled,
}

/// Something asked: a request to `/v1`, or a verb about a model.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) state: State,
    /// The model that answers, or that it waits for.
    pub(super) model: Option<String>,
    /// Time at which it came.
    pub(super) begun: Duration,
    /// Time at which its worker began to answer.
    pub(super) entered: Option<Duration>,
    /// Time of its end, of whatever kind.
    pub(super) ended: Option<Duration>,
    /// The request; none for a verb, and while policies look at it.
    pub(super) view: Option<Box<RequestView>>,
    /// It ends by itself when its worker has answered for so long.
    pub(super) ends_after: Option<Duration>,
    /// The changes of policies.
    pub(super) route: Option<Arc<Route>>,
    /// Its worker's report of its end: the status, and what was counted.
    pub(super) finish: FinishedRequest,
}

impl Asked {
    /// The HTTP status, once it is known, as the hub's log has it.
    pub(super) fn status(&self) -> Option<u16> {
        match &self.state {
            State::Done => Some(self.finish.status.unwrap_or(200)),
            State::Rejected(error) => Some(error.status),
            State::Cut => Some(502),
            State::Cancelled => Some(499),
            _ => None,
        }
    }

    /// The body as the worker gets it.
    pub(super) fn body(&self) -> Settings {
        let view = self.view.as_deref();
        let sent = view.and_then(|view| serde_json::from_slice(view.body.as_ref()?).ok());
        let mut body: Settings = sent.unwrap_or_default();
        if let (Some(RequestView { model: None, .. }), Some(chosen)) = (view, &self.model) {
            body.insert("model".to_owned(), chosen.as_str().into());
        }
        if let Some(route) = &self.route {
            route.change(&mut body);
        }
        body
    }

    /// The report of its end for observers; none for a verb.
    pub(super) fn finished(&self, model: String) -> Option<FinishedRequest> {
        let view = self.view.as_deref()?;
        let (ended, given) = (self.ended?, self.finish.clone());
        let (took, waited) = (ended - self.begun, self.waited(ended));
        let first = given.first_token_seconds;
        let first = first.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let rate = given.completion_tokens.zip(first);
        let rate =
            rate.and_then(|(tokens, first)| tokens_per_second(tokens, took.saturating_sub(first)));
        Some(FinishedRequest {
            id: String::from_utf8_lossy(view.id.as_bytes()).into_owned(),
            model,
            client: view.client.ip().to_string(),
            key: view.key().map(|key| key.name.clone()),
            path: view.parts.uri.path().to_owned(),
            stream: self.body().get("stream") == Some(&true.into()),
            status: self.status(),
            seconds: took.as_secs_f64(),
            wait_seconds: (!waited.is_zero()).then_some(waited.as_secs_f64()),
            tokens_per_second: rate,
            ..given
        })
    }

    /// Time that it waited, up to `now`.
    pub(super) fn waited(&self, now: Duration) -> Duration {
        self.entered.or(self.ended).unwrap_or(now) - self.begun
    }
}
