//! A worker's stream of chunks, told to the writer of another protocol as it comes.
//!
//! Bytes go in cut anywhere, the other protocol's bytes come out; nothing that is complete waits for
//! more. A stream ends with `[DONE]`, or with a reason why it is over: one that has neither was cut off,
//! and its client is told so.

use std::fmt;

use http::StatusCode;
use serde_json::Value;

use super::answer::{self, Reason};
use super::chunk::{Chunk, Usage, text};
use super::parts::{DeltaKind, PartEvent, PartKind, Parts};
use super::sse::{Events, TooLong};
use crate::api::ApiError;

/// The facts at the beginning of an answer.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Head<'a> {
    /// The worker's name for the completion; may be empty.
    pub(in super::super) id: &'a str,
    pub(in super::super) usage: Usage,
}

/// Writes an answer in the form of one protocol, to the end of `out`.
///
/// It is told in this order: `begin`, then of each part `open`, any number of `piece`s and `close`, then
/// `finish`. `fail` may come at any point and is the last.
pub(in super::super) trait Writer: fmt::Debug + Send {
    fn begin(&mut self, head: Head<'_>, out: &mut Vec<u8>);
    fn open(&mut self, kind: PartKind<'_>, out: &mut Vec<u8>);
    fn piece(&mut self, text: &str, out: &mut Vec<u8>);
    fn close(&mut self, out: &mut Vec<u8>);
    fn finish(&mut self, reason: Reason, usage: Usage, out: &mut Vec<u8>);
    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>);

    /// The parts that have not been closed by now are not what the model would have made of them.
    fn is_cut(&mut self) {}
}

/// A stream on its way from one protocol to another.
#[derive(Debug)]
pub(in super::super) struct Stream<W> {
    events: Events,
    telling: Telling<W>,
}

#[derive(Debug)]
struct Telling<W> {
    writer: W,
    parts: Parts,
    usage: Usage,
    reason: Option<Reason>,
    has_begun: bool,
    is_over: bool,
    /// The status of the error that ended it.
    failure: Option<u16>,
}

/// The reason why a stream cannot go on.
#[derive(Debug)]
struct Broken(ApiError);

impl From<TooLong> for Broken {
    fn from(TooLong: TooLong) -> Self {
        Self(unreadable("an event that is too long"))
    }
}

/// The worker's data is not a chat completion.
fn unreadable(what: &str) -> ApiError {
    ApiError::new(
        StatusCode::BAD_GATEWAY,
        format!("The model's worker sent {what} instead of a chat completion."),
    )
}

impl<W: Writer> Stream<W> {
    pub(in super::super) fn new(writer: W) -> Self {
        Self {
            events: Events::default(),
            telling: Telling {
                writer,
                parts: Parts::default(),
                usage: Usage::default(),
                reason: None,
                has_begun: false,
                is_over: false,
                failure: None,
            },
        }
    }

    /// The writer, to be asked what it has written.
    #[cfg(test)]
    pub(in super::super) fn writer(&self) -> &W {
        &self.telling.writer
    }
}

/// Turns a stream of one protocol into that of another; what is written goes to the end of `out`.
pub(in super::super) trait Translate: fmt::Debug + Send {
    /// Takes what has come from the worker.
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>);

    /// The worker has no more to say. `broke_off` is what to tell when it had not come to an end.
    fn end(&mut self, broke_off: &ApiError, out: &mut Vec<u8>);

    /// Something went wrong: the stream is over.
    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>);

    /// The status of the error with which it failed, if it has. What the worker says from then on is nobody's.
    fn failure(&self) -> Option<u16>;
}

impl<W: Writer> Translate for Stream<W> {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let telling = &mut self.telling;
        if telling.is_over {
            return;
        }
        let fed = self.events.feed(bytes, |data| telling.take(data, out));
        if let Err(Broken(error)) = fed {
            telling.fail(&error, out);
        }
    }

    fn end(&mut self, broke_off: &ApiError, out: &mut Vec<u8>) {
        let telling = &mut self.telling;
        if telling.reason.is_some() {
            telling.finish(out);
        } else {
            telling.fail(broke_off, out);
        }
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.telling.fail(error, out);
    }

    fn failure(&self) -> Option<u16> {
        self.telling.failure
    }
}

impl<W: Writer> Telling<W> {
    /// Takes the data of an event.
    fn take(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Broken> {
        if self.is_over {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.finish(out);
            return Ok(());
        }
        // Its texts are checked as a whole, and not each by itself.
        let chunk = match str::from_utf8(data) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(data),
        };
        let chunk: Chunk<'_> = chunk.map_err(|error| {
            tracing::warn!(%error, "an event of a worker's stream cannot be read");
            Broken(unreadable("an event that cannot be read"))
        })?;
        if let Some(error) = &chunk.error {
            return Err(Broken(told(error)));
        }
        if let Some(usage) = chunk.usage {
            self.usage = usage;
        }
        self.begin(text(&chunk.id), out);
        let choices = chunk.choices.iter().flatten();
        // Only the first of several answers counts: no other protocol has more than one.
        for choice in choices.filter(|choice| choice.index == 0) {
            self.push(DeltaKind::Text, text(&choice.text), out);
            if let Some(delta) = &choice.delta {
                self.push(DeltaKind::Thinking, text(&delta.reasoning_content), out);
                self.push(DeltaKind::Thinking, text(&delta.reasoning), out);
                self.push(DeltaKind::Text, text(&delta.content), out);
                self.push(DeltaKind::Refusal, text(&delta.refusal), out);
                for call in delta.tool_calls.iter().flatten() {
                    let function = call.function.as_ref();
                    let of = DeltaKind::Tool {
                        index: call.index,
                        id: text(&call.id),
                        name: function.map_or("", |function| text(&function.name)),
                    };
                    let arguments = function.map_or("", |function| text(&function.arguments));
                    self.push(of, arguments, out);
                }
            }
            if let Some(reason) = &choice.finish_reason {
                let reason = Reason::of(reason.as_str());
                self.reason = Some(reason);
                if reason.cuts() {
                    self.writer.is_cut();
                }
                self.close_parts(out);
            }
        }
        Ok(())
    }

    fn begin(&mut self, id: &str, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            let usage = self.usage;
            self.writer.begin(Head { id, usage }, out);
        }
    }

    fn push(&mut self, of: DeltaKind<'_>, text: &str, out: &mut Vec<u8>) {
        let writer = &mut self.writer;
        self.parts.push(of, text, |step| write(writer, step, out));
    }

    fn close_parts(&mut self, out: &mut Vec<u8>) {
        let writer = &mut self.writer;
        self.parts.end(|step| write(writer, step, out));
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.begin("", out);
        self.close_parts(out);
        let reason = self.reason.unwrap_or(Reason::Stop);
        let reason = reason.with_calls(self.parts.has_calls());
        self.writer.finish(reason, self.usage, out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.failure = Some(error.status);
            self.writer.fail(error, out);
        }
    }
}

fn write(writer: &mut impl Writer, step: PartEvent<'_>, out: &mut Vec<u8>) {
    match step {
        PartEvent::Open(kind) => writer.open(kind, out),
        PartEvent::Piece(text) => writer.piece(text, out),
        PartEvent::Close => writer.close(out),
    }
}

/// The error that a worker tells of in the middle of its answer.
fn told(error: &Value) -> ApiError {
    let status = answer::status_of(error).unwrap_or(StatusCode::BAD_GATEWAY);
    answer::workers_error(
        answer::of_translated(status),
        &serde_json::json!({ "error": error }),
        "",
    )
}
