//! A request's body on its way in: the chunks read so far and the rest that is still to come.
//!
//! It reads no more than it must: up to the value of `model`, and to the end only if a policy or a translation
//! needs the whole body. The read chunks are kept as they came, small ones joined. All of the body, also the part
//! that passes later, is searched for a second `model`.

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::IgnoredAny;

use super::budget::{Budget, Reservation};
use super::coding::Decoder;
use super::read_pause::ReadPause;
use super::rest::{Rest, Watched};
use super::scan::json::MARK;
use super::scan::{ScanStep, Scanner};
use crate::api::ApiError;
use crate::config::Limits;
use crate::hub::gateway::refusals;
use crate::hub::lifecycle::Capture;
use crate::upstream as worker;
use crate::upstream::{BoxError, RequestBody};

/// Time for the rest of an unwanted body; see [`Intake::discard`].
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// Bytes read while a request waits for its model; see [`Intake::while_waiting`].
const READ_AHEAD: usize = 4 * 1024 * 1024;

/// Interval of the checks for the client then.
const GLANCE: Duration = Duration::from_millis(25);

/// A smaller chunk is joined to the one before it: kept by itself it would take many times its size.
const SMALL: usize = 4 * 1024;

/// Largest joined chunk.
const JOINED: usize = 16 * 1024;

/// The reason why a body is no JSON object, with the position of a syntax error.
pub(crate) fn explain(body: &[u8]) -> String {
    match serde_json::from_slice::<IgnoredAny>(body.strip_prefix(MARK).unwrap_or(body)) {
        Err(error) => format!("it is not valid JSON: {error}"),
        Ok(_) => "it is not a JSON object".to_owned(),
    }
}

/// A request's body.
#[derive(Debug)]
pub(crate) struct Intake {
    chunks: VecDeque<Bytes>,
    /// Length of `chunks`.
    held: usize,
    rest: Option<Rest>,
    /// The scanner of the held bytes, as long as the following ones matter.
    scanner: Option<Box<Scanner>>,
    /// True if the client waits for a word before it sends the body; hyper gives it at the first read.
    asks_first: bool,
    /// True if it announces that it is longer than it may be.
    is_too_long: bool,
    limits: Limits,
    /// The limit on all requests, and this one's reservation.
    held_of_all: Reservation,
    read_pause: ReadPause,
}

impl Intake {
    /// The body that comes with `headers`; nothing of it is read yet. What is read counts in `budget`,
    /// and what is not makes `read_pause` known to the connection. `capture` is told of all that is read.
    pub(crate) fn new(
        headers: &HeaderMap,
        body: Incoming,
        limits: Limits,
        budget: &Budget,
        read_pause: ReadPause,
        capture: Option<Arc<Capture>>,
    ) -> Self {
        let rest = |body| {
            let rest = Rest::Plain(Limited::new(body, limits.body));
            match capture {
                None => rest,
                Some(capture) => rest.captured(capture),
            }
        };
        Self {
            chunks: VecDeque::new(),
            held: 0,
            asks_first: headers.contains_key(EXPECT),
            is_too_long: body.size_hint().lower() > limits.body as u64,
            rest: (!body.is_end_stream()).then(|| rest(body)),
            scanner: None,
            limits,
            held_of_all: budget.reservation(limits.held),
            read_pause,
        }
    }

    /// Decodes the content codings that `headers` name from now on, and removes them and the length from
    /// `headers`.
    ///
    /// # Errors
    /// 415 for an unknown coding.
    pub(crate) fn decode(&mut self, headers: &mut HeaderMap) -> Result<(), ApiError> {
        if self.rest.is_some() {
            let Some(decoder) = Decoder::of(headers, self.limits.body)? else {
                return Ok(());
            };
            self.rest = self.rest.take().map(|rest| rest.decoded(decoder));
            headers.remove(CONTENT_LENGTH);
        }
        headers.remove(CONTENT_ENCODING);
        Ok(())
    }

    /// The limits for this request.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Reads up to the model that the body names, or until it is clear that it names none.
    ///
    /// # Errors
    /// When the body breaks off (400) or is over the limit (413).
    pub(crate) async fn read_to_model(
        &mut self,
        content_type: Option<&str>,
    ) -> Result<ScanStep, ApiError> {
        let mut scanner = match Scanner::for_content_type(content_type) {
            Ok(scanner) => scanner,
            Err(malformed) => return Ok(malformed),
        };
        // What a policy wanted to see, or has arrived while the request waited.
        let mut ahead = (self.held > 0).then(|| self.joined());
        loop {
            let chunk = match ahead.take() {
                Some(chunk) => Some((chunk, true)),
                None => self.next_chunk().await?.map(|chunk| (chunk, false)),
            };
            let Some((chunk, is_held)) = chunk else { break };
            let step = scan(&mut scanner, &chunk, self.rest.is_none())?;
            if !is_held {
                self.keep(chunk);
            }
            match step {
                ScanStep::More => {}
                ScanStep::Found(found) => {
                    if self.rest.is_some() {
                        self.scanner = Some(Box::new(scanner));
                    }
                    return Ok(ScanStep::Found(found));
                }
                end => return Ok(end),
            }
        }
        Ok(match self.held {
            0 => ScanStep::Absent,
            _ => scanner.end(),
        })
    }

    /// True if the request came without a body.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0 && self.rest.is_none()
    }

    /// True if it announces that it is longer than it may be.
    pub(crate) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// True if a part of the body is unread, or still to come.
    pub(crate) fn has_more(&self) -> bool {
        self.rest.is_some()
    }

    /// Length of what was read and is held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The part of the body that has been read and is kept.
    pub(crate) fn read_so_far(&mut self) -> Bytes {
        self.joined()
    }

    /// The whole body, once nothing more is to come. Copies when it came in several chunks.
    pub(crate) async fn collect(&mut self) -> Result<Bytes, ApiError> {
        while self.more().await? {}
        Ok(self.joined())
    }

    /// The whole body if it has all arrived in one chunk.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        match (&self.rest, self.chunks.len()) {
            (None, 0) => Some(Bytes::new()),
            (None, 1) => self.chunks.front().cloned(),
            _ => None,
        }
    }

    /// The chunks of the body that have been read and are kept. A clone of a chunk copies nothing.
    pub(crate) fn chunks(&self) -> VecDeque<Bytes> {
        self.chunks.clone()
    }

    /// Takes the whole intake; leaves an empty one.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            chunks: std::mem::take(&mut self.chunks),
            held: std::mem::take(&mut self.held),
            rest: self.rest.take(),
            scanner: self.scanner.take(),
            asks_first: std::mem::take(&mut self.asks_first),
            is_too_long: std::mem::take(&mut self.is_too_long),
            limits: self.limits,
            held_of_all: std::mem::take(&mut self.held_of_all),
            read_pause: self.read_pause.clone(),
        }
    }

    /// Runs `wait` and reads on meanwhile, as hyper notices that a client has hung up only while it reads. A
    /// body too large to read ahead is paused: then the socket checks for the client's end behind the unread
    /// bytes. It cannot see an end that the client has not sent yet.
    pub(crate) async fn while_waiting<T>(
        &mut self,
        wait: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let mut wait = pin!(wait);
        while self.rest.is_some() && self.held < READ_AHEAD {
            tokio::select! {
                biased;
                done = &mut wait => return done,
                more = self.more() => { more?; }
            }
        }
        if self.rest.is_none() {
            return wait.await;
        }
        let _hold = self.read_pause.hold();
        loop {
            tokio::select! {
                biased;
                done = &mut wait => return done,
                // The socket checks whenever its connection is polled.
                () = tokio::time::sleep(GLANCE) => {}
            }
        }
    }

    /// Replaces `range`, which lies in the read part, by `text`.
    pub(crate) fn splice(&mut self, range: &Range<usize>, text: Bytes) {
        let mut spliced = VecDeque::with_capacity(self.chunks.len() + 2);
        let mut text = Some(text);
        let mut start = 0;
        for chunk in self.chunks.drain(..) {
            let end = start + chunk.len();
            let before = range.start.clamp(start, end) - start;
            let after = range.end.clamp(start, end) - start;
            if before > 0 {
                spliced.push_back(chunk.slice(..before));
            }
            if end >= range.end {
                spliced.extend(text.take());
            }
            if after < chunk.len() {
                spliced.push_back(chunk.slice(after..));
            }
            start = end;
        }
        self.chunks = spliced;
        self.held = self.chunks.iter().map(Bytes::len).sum();
    }

    /// Replaces the whole body by `body`.
    pub(crate) fn replace(&mut self, body: Bytes) {
        self.held = body.len();
        self.chunks = VecDeque::from([body]);
        self.rest = None;
        self.scanner = None;
    }

    /// Takes the body, from its start to its unread rest.
    pub(crate) fn take_body(&mut self) -> RequestBody {
        self.held = 0;
        self.held_of_all.release();
        let rest = self.rest.take().map(|rest| match self.scanner.take() {
            Some(scanner) => Box::pin(Watched { rest, scanner }) as worker::Rest,
            None => Box::pin(rest) as worker::Rest,
        });
        RequestBody::new(std::mem::take(&mut self.chunks), rest)
    }

    /// Reads what is left and throws it away, for a while. A client that is still sending would
    /// lose an error's text together with the connection, which is closed under it. Whether all is read: if
    /// not, the connection cannot be used again.
    pub(crate) async fn discard(&mut self) -> bool {
        self.chunks.clear();
        self.held_of_all.release();
        if self.asks_first {
            return self.rest.is_none();
        }
        let rest = async { while let Some(Ok(_)) = self.next_frame().await {} };
        // A client that sends for longer misses the text.
        let _ = tokio::time::timeout(DISCARD_TIME, rest).await;
        self.rest.is_none()
    }

    /// Keeps the next chunk; false at the end. Dropping this future loses nothing.
    async fn more(&mut self) -> Result<bool, ApiError> {
        let Some(chunk) = self.next_chunk().await? else {
            return Ok(false);
        };
        let is_last = self.rest.is_none();
        if let Some(scanner) = &mut self.scanner {
            scan(scanner, &chunk, is_last)?;
        }
        self.keep(chunk);
        Ok(true)
    }

    /// Reads the next chunk.
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(frame) = self.next_frame().await {
            let frame = frame.map_err(|error| refusals::body_failed(&error, self.limits))?;
            // Trailers are dropped: no worker reads them.
            if let Ok(chunk) = frame.into_data() {
                if !self.held_of_all.grow(chunk.len()) {
                    return Err(refusals::too_much_held());
                }
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    fn keep(&mut self, chunk: Bytes) {
        self.held += chunk.len();
        if chunk.len() < SMALL
            && let Some(last) = self.chunks.pop_back_if(|last| last.len() < JOINED)
        {
            let mut joined = last.try_into_mut().unwrap_or_else(|last| {
                let mut joined = BytesMut::with_capacity(JOINED + SMALL);
                joined.extend_from_slice(&last);
                joined
            });
            joined.extend_from_slice(&chunk);
            self.chunks.push_back(joined.freeze());
        } else {
            self.chunks.push_back(chunk);
        }
    }

    async fn next_frame(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        self.asks_first = false;
        let rest = self.rest.as_mut()?;
        let frame = rest.frame().await;
        if frame.is_none() || rest.is_end_stream() {
            self.rest = None;
        }
        frame
    }

    fn joined(&mut self) -> Bytes {
        if self.chunks.len() > 1 {
            let mut joined = BytesMut::with_capacity(self.held);
            for chunk in self.chunks.drain(..) {
                joined.extend_from_slice(&chunk);
            }
            self.chunks.push_back(joined.freeze());
        }
        self.chunks.front().cloned().unwrap_or_default()
    }
}

/// The next frame of a body.
fn scan(scanner: &mut Scanner, chunk: &[u8], is_last: bool) -> Result<ScanStep, ApiError> {
    let step = match is_last {
        true => scanner.feed_last(chunk),
        false => scanner.feed(chunk),
    };
    match step {
        ScanStep::Twice => Err(refusals::model_twice()),
        step => Ok(step),
    }
}

#[cfg(test)]
impl Intake {
    /// A body that has arrived.
    pub(crate) fn of_chunks(chunks: &[&'static [u8]]) -> Self {
        Self {
            chunks: chunks.iter().copied().map(Bytes::from_static).collect(),
            held: chunks.concat().len(),
            rest: None,
            scanner: None,
            asks_first: false,
            is_too_long: false,
            limits: Limits::default(),
            held_of_all: Budget::default().reservation(usize::MAX),
            read_pause: ReadPause::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_chunks_are_joined_and_large_ones_kept_as_they_are() {
        let mut intake = Intake::of_chunks(&[]);
        let wire = Bytes::from(vec![b'x'; 100_000]);
        for at in 0..wire.len() {
            intake.keep(wire.slice(at..=at));
        }
        assert_eq!(intake.held, wire.len());
        let most = wire.len() / JOINED + 1;
        assert!(intake.chunks.len() <= most, "{}", intake.chunks.len());
        // None of them is a slice of the received buffer.
        let large = wire.slice(..SMALL);
        assert!(
            intake
                .chunks
                .iter()
                .all(|chunk| !wire.as_ptr_range().contains(&chunk.as_ptr()))
        );
        intake.keep(large.clone());
        assert_eq!(intake.chunks.back().unwrap().as_ptr(), large.as_ptr());
        assert_eq!(intake.joined().len(), wire.len() + SMALL);
    }

    #[test]
    fn splice_replaces_a_range_wherever_chunks_end() {
        let whole = b"0123456789";
        for one in 0..=whole.len() {
            for two in one..=whole.len() {
                for (start, end) in [(0, 0), (0, 3), (2, 6), (4, 5), (7, 10), (0, 10), (10, 10)] {
                    let chunks = [&whole[..one], &whole[one..two], &whole[two..]];
                    let mut intake = Intake::of_chunks(&chunks);
                    intake.splice(&(start..end), Bytes::from_static(b"ab"));
                    let expected = [&whole[..start], b"ab", &whole[end..]].concat();
                    assert_eq!(intake.held, expected.len());
                    assert_eq!(intake.joined(), expected, "{one} {two} {start}..{end}");
                }
            }
        }
    }
}
