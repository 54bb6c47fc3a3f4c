//! A worker's answer on its way to the client.
//!
//! It owns the lease and, through the upstream's body, the connection to the worker: the answer's end, an
//! error, a client that has left or a cancellation frees both at once. A worker that dies in
//! the middle never looks like a clean end: the client's connection is aborted too, after an event
//! that says why where the answer is an event stream. The account of the request ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tracing::warn;

use super::account::Account;
use super::model_name::NameRewriter;
use crate::api::ApiError;
use crate::hub::gateway::protocol::{Protocol, Translation};
use crate::hub::gateway::refusals;
use crate::hub::lifecycle::{Lease, Model};
use crate::upstream::{BoxError, Fault, Idle, ResponseBody};

type Item = Option<Result<Frame<Bytes>, BoxError>>;

/// The body of a worker's answer.
#[derive(Debug)]
pub struct LeasedBody {
    /// `None` once the worker's part is over.
    live: Option<Live>,
    model: Arc<Model>,
    events: bool,
    broken: Option<Broken>,
    /// The account once the body has ended, for a caller that takes it then.
    ended: Option<Account>,
}

/// The resources of an answer in progress.
#[derive(Debug)]
struct Live {
    body: ResponseBody,
    lease: Lease,
    idle: Idle,
    shape: Option<Shape>,
    /// Dropped last: it reports the request when its resources are free.
    account: Account,
}

/// The change that an answer undergoes.
#[derive(Debug)]
pub(crate) enum Shape {
    /// The client's name for the model replaces the worker's.
    Renamed(Box<NameRewriter>),
    /// It is translated into the client's protocol.
    Translated(Box<Translation>),
}

impl Shape {
    fn feed(&mut self, model: &Model, data: Bytes, is_last: bool) -> Bytes {
        match self {
            Self::Renamed(rewriter) => rewriter.feed(model, data, is_last),
            Self::Translated(translation) => {
                let told = translation.feed(&data);
                if !is_last {
                    return told;
                }
                let end = translation.end(&refusals::answer_broke_off(&model.name));
                [told, end].concat().into()
            }
        }
    }

    /// The held bytes, when nothing follows.
    fn rest(&mut self, model: &Model) -> Option<Bytes> {
        match self {
            Self::Renamed(rewriter) => rewriter.rest(),
            Self::Translated(translation) => {
                let end = translation.end(&refusals::answer_broke_off(&model.name));
                (!end.is_empty()).then_some(end)
            }
        }
    }

    /// The status of the error that the client was told in the stream.
    fn failure(&self) -> Option<u16> {
        match self {
            Self::Renamed(_) => None,
            Self::Translated(translation) => translation.failure(),
        }
    }

    fn may_change_length(&self) -> bool {
        match self {
            Self::Renamed(rewriter) => rewriter.may_change_length(),
            Self::Translated(_) => true,
        }
    }
}

/// The progress of ending a broken answer.
#[derive(Debug)]
enum Broken {
    /// All of its bytes have been handed over.
    Told(BoxError),
    /// hyper had a chance to send them.
    Flushed(BoxError),
}

impl LeasedBody {
    /// `events`: whether the body is an event stream; one that pauses for `idle_limit` is cut.
    pub(crate) fn new(
        body: ResponseBody,
        lease: Lease,
        model: Arc<Model>,
        events: bool,
        idle_limit: Duration,
        shape: Option<Shape>,
        account: Account,
    ) -> Self {
        Self {
            live: Some(Live {
                body,
                lease,
                idle: Idle::new(idle_limit),
                shape,
                account,
            }),
            model,
            events,
            broken: None,
            ended: None,
        }
    }

    /// Keeps the account for [`Self::take_account`] at the end of the answer, which is not yet that of the request.
    pub(crate) fn hold_account(&mut self) {
        self.ended = Some(Account::default());
    }

    /// The account of an answer that has ended, or is not wanted any further.
    pub(crate) fn take_account(&mut self) -> Account {
        match &mut self.live {
            Some(live) => live.account.take(),
            None => self.ended.take().unwrap_or_default(),
        }
    }

    /// The end of a broken answer, after the last that there is of it. It may be in hyper's buffer still,
    /// even the head, which came in one piece with what broke.
    fn poll_broken(&mut self, broken: Broken, cx: &mut Context<'_>) -> Poll<Item> {
        match broken {
            // hyper writes out what it has when a body is pending, and drops it when a body fails.
            Broken::Told(error) => {
                self.broken = Some(Broken::Flushed(error));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Broken::Flushed(error) => Poll::Ready(Some(Err(error))),
        }
    }

    /// Ends the answer for that `reason`.
    fn fail(&mut self, error: BoxError, reason: &ApiError, cx: &mut Context<'_>) -> Poll<Item> {
        let mut live = self.live.take();
        let mut protocol = Protocol::DEFAULT;
        if let Some(live) = &mut live {
            protocol = live.account.protocol();
            live.account.ended_with(reason.status);
        }
        if !self.events {
            return self.poll_broken(Broken::Told(error), cx);
        }
        self.broken = Some(Broken::Told(error));
        let event = match live.as_mut().and_then(|live| live.shape.as_mut()) {
            Some(Shape::Translated(translation)) => translation.fail(reason),
            // The empty line ends an event that was cut short.
            _ => [b"\n\n", &(protocol.error_event)(reason)[..]]
                .concat()
                .into(),
        };
        Poll::Ready(Some(Ok(Frame::data(event))))
    }

    /// Handles the worker's failure.
    fn break_off(&mut self, error: Fault, cx: &mut Context<'_>) -> Poll<Item> {
        warn!(hub_model = %self.model.name, %error, "worker failed in the middle of an answer");
        let reason = refusals::answer_broke_off(&self.model.name);
        self.fail(error.into(), &reason, cx)
    }

    /// Handles a request that somebody has cancelled.
    fn be_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        let reason = refusals::cancelled();
        self.fail(reason.clone().into(), &reason, cx)
    }

    /// Handles a worker that was silent for too long.
    fn give_up(&mut self, cx: &mut Context<'_>) -> Poll<Item> {
        let reason = refusals::answer_paused(&self.model.name);
        warn!(hub_model = %self.model.name, "an answer paused for too long; it is cut");
        self.fail(reason.clone().into(), &reason, cx)
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(broken) = self.broken.take() {
            return self.poll_broken(broken, cx);
        }
        loop {
            let Self {
                live, model, ended, ..
            } = &mut *self;
            let Some(live) = live else {
                return Poll::Ready(None);
            };
            if live.account.is_cancelled() {
                return self.be_cancelled(cx);
            }
            let Poll::Ready(frame) = Pin::new(&mut live.body).poll_frame(cx) else {
                live.lease.waits();
                ready!(live.idle.poll(cx));
                return self.give_up(cx);
            };
            let frame = match frame {
                Some(Err(error)) => return self.break_off(error, cx),
                Some(Ok(frame)) => Some(frame),
                None => None,
            };
            live.lease.sign_of_life();
            live.idle.moved();
            let is_last = live.body.is_end_stream();
            if let Some(data) = frame.as_ref().and_then(Frame::data_ref) {
                live.account.passes(data, is_last);
            }
            let has_ended = frame.is_none() || is_last;
            let frame = match (frame, &mut live.shape) {
                (Some(frame), Some(shape)) => {
                    Some(frame.map_data(|data| shape.feed(model, data, is_last)))
                }
                (None, Some(shape)) => shape.rest(model).map(Frame::data),
                (frame, None) => frame,
            };
            let failure = live.shape.as_ref().and_then(Shape::failure);
            if has_ended || failure.is_some() {
                match failure {
                    Some(status) => live.account.ended_with(status),
                    None => live.account.completed(),
                }
                if let Some(ended) = ended {
                    *ended = live.account.take();
                }
                self.live = None;
            } else if let Some(data) = frame.as_ref().and_then(Frame::data_ref)
                && data.is_empty()
            {
                // A translated event may be empty.
                continue;
            }
            return Poll::Ready(frame.map(Ok));
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.live {
            Some(live) => live.body.is_end_stream(),
            None => self.broken.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.live {
            Some(live) if live.shape.as_ref().is_some_and(Shape::may_change_length) => {
                SizeHint::default()
            }
            Some(live) => live.body.size_hint(),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // A body of known length is not polled beyond its last byte, and an empty one never.
        if self.body.is_end_stream() {
            self.account.completed();
        }
    }
}
